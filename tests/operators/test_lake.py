"""The layout of a lake: what counts, what is left over, what a run has done, and what can never be reached."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.lake import Lake, Part, documents_part_name, ledger_path, rejects_part_name, run_folder
from operators.storage import Storage

HOSTILE_RUNS = [
    "",
    "..",
    ".",
    "../x",
    "a/b",
    "/etc",
    "-x",
    ".hidden",
    "a b",
    "a\n",
    "a\0b",
    "run_id=x/../y",
    "x" * 129,
    "é",
]
A, B, C = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture(params=["local", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake") if request.param == "local" else f"memory://bucket-{uuid.uuid4().hex}/lake")


def put(lake: Lake, table: str, run_id: str, name: str, rows: pa.Table | None = None) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}) if rows is None else rows, sink, row_group_size=2)
    lake.storage.write(Part(table, run_id, name).path, sink.getvalue())


def records(*pairs: tuple[str, int]) -> pa.Table:
    """Part of a documents table: one token, one scored, ten bytes for each record."""
    sources, rows = [s for s, _ in pairs], [r for _, r in pairs]
    ones, tens = [1] * len(pairs), [10] * len(pairs)
    return pa.table({"source": sources, "row": rows, "n_tokens": ones, "n_scored": ones, "n_bytes": tens})


def everything(lake: Lake) -> list[str]:
    """Every object of the lake, relative to its root."""
    filesystem, root = lake.storage.filesystem, lake.root.removeprefix("memory://")
    return sorted(path.removeprefix(root.rstrip("/") + "/") for path in filesystem.find(root))


# Layout


def test_paths_are_those_of_the_contract(lake: Lake) -> None:
    assert ledger_path("r-1.x") == "runs/r-1.x.json"
    assert Part("tokens", "r", A).path == f"tokens/run_id=r/{A}.parquet"
    assert lake.uri(Part("rejects", "r", A)) == f"{lake.root}/rejects/run_id=r/{A}.parquet"


@pytest.mark.parametrize("run_id", HOSTILE_RUNS)
def test_hostile_run_ids_are_refused_everywhere(tmp_path: Path, run_id: str) -> None:
    lake = Lake(str(tmp_path / "lake"))
    (tmp_path / "lake" / "runs").mkdir(parents=True)
    (tmp_path / "x.json").write_text("{}")
    calls = [
        lambda: lake.read_run(run_id),
        lambda: lake.write_run(run_id, {}),
        lambda: lake.remove_run(run_id),
        lambda: lake.drop_orphans(run_id),
        lambda: lake.temporaries(run_id),
        lambda: lake.orphans(run_id),
        lambda: lake.parts("tokens", run_id),
        lambda: lake.repeated_documents(run_id),
        lambda: Part("tokens", run_id, A).path,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="run id"):
            call()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["lake", "runs", "x.json"]


@pytest.mark.parametrize("name", ["", "..", "../x", "A" * 32, "a" * 31, "a" * 33, f"{A}\n"])
def test_hostile_part_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        _ = Part("tokens", "r", name).path


def test_unknown_tables_are_refused(lake: Lake) -> None:
    for table in ("runs", "..", ""):
        with pytest.raises(ValueError, match="no parts by run"):
            run_folder(table, "r")
        with pytest.raises(ValueError, match="no parts by run"):
            lake.parts(table)


def test_parts_lists_what_fits_the_layout_and_nothing_else(lake: Lake) -> None:
    put(lake, "tokens", "r2", B)
    put(lake, "tokens", "r2", A)
    put(lake, "tokens", "r1", C)
    for stranger in ("tokens/run_id=r1/notes.txt", f"tokens/run_id=r1/{A[1:]}.parquet", "tokens/run_id=.x/y.parquet"):
        lake.storage.write(stranger, b"")
    assert lake.parts("tokens") == [Part("tokens", "r1", C), Part("tokens", "r2", A), Part("tokens", "r2", B)]
    assert lake.parts("tokens", "r1") == [Part("tokens", "r1", C)]
    assert lake.parts("documents") == lake.parts("tokens", "nothing") == []


def test_names_depend_on_what_a_part_holds_and_not_on_its_order() -> None:
    ids = np.array([5, 1, 2**62], np.int64)
    assert documents_part_name(ids) == documents_part_name(ids[::-1])
    assert documents_part_name(ids) != documents_part_name(ids[:2])
    assert documents_part_name(np.array([1], np.int64)) == "bdc94bce2eda264dbc08dc21994df8a2"
    assert rejects_part_name([("b", 1), ("a", 2)]) == rejects_part_name([("a", 2), ("b", 1)])
    assert rejects_part_name([("a", 1), ("b", 2)]) != rejects_part_name([("a", 2), ("b", 1)])


def test_a_lake_travels_to_another_process(lake: Lake) -> None:
    lake.write_run("r", {"state": "running"})
    assert pickle.loads(pickle.dumps(lake)).read_run("r") == {"state": "running"}
    assert pickle.loads(pickle.dumps(lake)) == lake


# Receipts


def test_tokens_count_only_with_a_receipt(lake: Lake) -> None:
    for name in (A, B):
        put(lake, "tokens", "r", name)
    put(lake, "documents", "r", A)
    put(lake, "documents", "other", B)
    assert lake.readable_tokens() == lake.readable_tokens("r") == [Part("tokens", "r", A)]
    assert lake.orphans("r") == [Part("tokens", "r", B)]


def test_dropping_orphans_removes_what_unfinished_writes_left_and_nothing_else(lake: Lake) -> None:
    for name in (A, B):
        put(lake, "tokens", "r", name)
    put(lake, "documents", "r", A)
    put(lake, "tokens", "other", B)
    lake.write_run("r", {})
    kept = everything(lake)
    kept.remove(f"tokens/run_id=r/{B}.parquet")
    stale = f".{uuid.uuid4().hex}.tmp"
    lake.storage.write(f"documents/run_id=r/.{C}.parquet{stale}", b"half")
    lake.storage.write(f"runs/.r.json{stale}", b"{")
    kept.append(f"runs/.r.2.json{stale}")  # of another run
    lake.storage.write(f"runs/.r.2.json{stale}", b"{")
    assert sorted(lake.drop_orphans("r")) == [
        f"documents/run_id=r/.{C}.parquet{stale}",
        f"runs/.r.json{stale}",
        f"tokens/run_id=r/{B}.parquet",
    ]
    assert everything(lake) == sorted(kept)
    assert lake.drop_orphans("r") == []


# Ledgers


def test_a_ledger_is_read_back_and_equal_ledgers_are_equal_bytes(lake: Lake) -> None:
    lake.write_run("r", {"b": 1, "a": {"z": "ü", "y": None}})
    first = lake.storage.read("runs/r.json")
    lake.write_run("r", {"a": {"y": None, "z": "ü"}, "b": 1})
    assert lake.storage.read("runs/r.json") == first
    assert lake.read_run("r") == {"a": {"y": None, "z": "ü"}, "b": 1}
    assert json.loads(first) == lake.read_run("r")
    assert lake.run_ids() == ["r"]


def test_a_ledger_that_json_cannot_hold_is_refused_before_anything_is_written(lake: Lake) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        lake.write_run("r", {"seconds": float("nan")})
    assert lake.run_ids() == []


def test_missing_and_broken_ledgers_say_so(lake: Lake) -> None:
    lake.write_run("one", {})
    with pytest.raises(FileNotFoundError, match="no run 'two'; its runs: one"):
        lake.read_run("two")
    for content, message in ((b"{", "not JSON"), (b"[]", "holds list"), (b"\xff", "not JSON")):
        lake.storage.write("runs/bad.json", content)
        with pytest.raises(ValueError, match=message):
            lake.read_run("bad")


def test_run_ids_ignores_what_is_no_ledger(lake: Lake) -> None:
    for name in ("r.json", ".x.json", "notes.txt", "a b.json"):
        lake.storage.write(f"runs/{name}", b"{}")
    assert lake.run_ids() == ["r"]


# Documents across parts


def put_ids(lake: Lake, name: str, ids: list[int]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"doc_id": pa.array(ids, pa.int64())}), sink)
    lake.storage.write(Part("documents", "r", name).path, sink.getvalue())


@pytest.mark.parametrize("held_ids", [1, 2, 3, 1000])
def test_repeated_documents_are_counted_whatever_fits_into_memory(lake: Lake, held_ids: int) -> None:
    top = (1 << 63) - 1
    put_ids(lake, A, [0, 5, top])
    assert lake.repeated_documents("r", held_ids=held_ids) == 0
    put_ids(lake, B, [5, 6, 7])
    put_ids(lake, C, [5, top, 1 << 62])
    assert lake.repeated_documents("r", held_ids=held_ids) == 3
    assert lake.repeated_documents("nothing", held_ids=held_ids) == 0


# Removal


def test_very_many_objects_are_removed_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refuses one of a million is said at once, not after the last; nor are they held as tasks of threads."""
    monkeypatch.setattr("operators.lake._DELETED_AHEAD", 2)
    lake, asked, removed = Lake(str(tmp_path)), list[str](), set[str]()

    def paths() -> Iterator[str]:
        for number in range(1000):
            asked.append(f"tokens/run_id=r/{number:032x}.parquet")
            yield asked[-1]

    def delete(_: Storage, path: str) -> None:
        if path == refused:
            raise PermissionError(path)
        removed.add(path)

    monkeypatch.setattr(Storage, "delete", delete)
    refused = f"tokens/run_id=r/{100:032x}.parquet"
    with pytest.raises(PermissionError):
        lake.delete(paths())
    assert 100 < len(asked) < 200
    refused = ""
    lake.delete(paths())
    assert len(removed) == 1000


def full_run(lake: Lake, run_id: str) -> None:
    for table in ("documents", "tokens", "rejects"):
        put(lake, table, run_id, A)
    put(lake, "tokens", run_id, B)
    lake.write_run(run_id, {"state": "finished"})


def test_removing_a_run_leaves_the_others(lake: Lake) -> None:
    full_run(lake, "keep")
    kept = everything(lake)
    full_run(lake, "drop")
    lake.remove_run("drop")
    assert everything(lake) == kept
    assert lake.partitions("tokens") == ["keep"]
    lake.remove_run("drop")
    assert everything(lake) == kept


def test_removing_a_run_with_a_broken_ledger_works(lake: Lake) -> None:
    full_run(lake, "r")
    lake.storage.write("runs/r.json", b"{")
    lake.storage.write("progress/run_id=r/journal-00000001.parquet", b"rows")
    lake.remove_run("r")
    assert everything(lake) == []


def test_a_removal_that_is_killed_never_leaves_a_run_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletions = 0
    while True:
        lake = Lake(str(tmp_path / str(deletions)))
        full_run(lake, "r")
        left = deletions

        def delete(path: Path) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            path.unlink()

        with monkeypatch.context() as patch:
            patch.setattr("operators.storage.Storage.delete", lambda self, path: delete(Path(self.uri(path))))
            try:
                lake.remove_run("r")
                break
            except KeyboardInterrupt:
                assert lake.read_run("r") == {"state": "interrupted"}
                assert not lake.readable_tokens("r") or not deletions
        deletions += 1
    assert deletions == 5


def test_strangers_in_a_run_folder_are_not_removed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    full_run(lake, "r")
    (tmp_path / "tokens" / "run_id=r" / "notes.txt").write_text("mine")
    lake.remove_run("r")
    assert everything(lake) == ["tokens/run_id=r/notes.txt"]


def test_a_run_folder_that_leads_out_of_the_lake_is_not_followed(tmp_path: Path) -> None:
    outside, lake = tmp_path / "outside", Lake(str(tmp_path / "lake"))
    outside.mkdir()
    (outside / f"{A}.parquet").write_bytes(b"precious")
    (tmp_path / "lake" / "tokens").mkdir(parents=True)
    (tmp_path / "lake" / "tokens" / "run_id=r").symlink_to(outside)
    for call in (lake.remove_run, lake.drop_orphans, lake.orphans):
        with pytest.raises(ValueError, match="leads out of"):
            call("r")
    assert (outside / f"{A}.parquet").read_bytes() == b"precious"
