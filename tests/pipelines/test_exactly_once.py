"""Exactly once: whatever stopped a run, and wherever, the next attempt ends with the lake of an undisturbed one."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import runs
import small
from runs import rows
from stopping import killed_at_write

from operators.lake import Lake, Part
from operators.storage import Storage
from operators.verify import verify
from pipelines import steps, units
from pipelines.config import ConfigError
from pipelines.engines import InlineEngine
from pipelines.journal import Journal
from pipelines.plan import Plan, make_plan
from pipelines.previous import ResumeError
from pipelines.repeats import STORED_REPEATS, UnitRepeats
from pipelines.score import RunError, score_corpus
from schemas.rejects import Reason

IDS = {"id_column": "id"}
Lines = list[dict[str, Any]]


@pytest.fixture
def small_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many units of several blocks from a small corpus, and large files in pieces."""
    monkeypatch.setattr(units, "UNIT_BYTES", 4000)
    monkeypatch.setattr(units, "PIECE_BYTES", 3000)
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 1500)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 1500)


def documents(n: int = 24, start: int = 0) -> Lines:
    texts = [*small.HARD_TEXTS, *small.stdlib_texts(300)]
    return [{"id": f"id-{i}", "text": texts[i % len(texts)]} for i in range(start, start + n)]


def write(folder: Path, **files: Lines | str) -> Path:
    """A corpus: `name__suffix=records`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(content), path, row_group_size=4)
        else:
            data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content).encode()
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path.parent


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(
        tmp_path / "in", a__jsonl=documents(40), b__jsonl__gz=documents(10, 40), c__parquet=documents(30, 50),
        d__txt="a text\n", e__txt="another", f__jsonl=[], g__jsonl=documents(6, 80),
    )  # fmt: skip


def test_large_files_in_pieces_give_the_rows_of_whole_ones(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(model_folder, corpus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(units, "UNIT_BYTES", 900)
        patch.setattr(units, "PIECE_BYTES", 700)
        ledger = runs.run(model_folder, corpus, tmp_path / "cut")
        assert ledger["survey"]["units"] > 20
    for table in ("tokens", "documents"):
        assert rows(tmp_path / "cut", table).equals(rows(tmp_path / "whole", table))
    assert f"{corpus}/a.jsonl#39" in rows(tmp_path / "cut", "documents")["key"].to_pylist()
    assert verify(Lake(str(tmp_path / "cut"))) == []


@pytest.mark.parametrize("pieces", [False, True])
def test_the_first_record_with_an_id_has_it_whatever_file_it_is_in(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: bool
) -> None:
    if pieces:
        monkeypatch.setattr(units, "UNIT_BYTES", 300)
        monkeypatch.setattr(units, "PIECE_BYTES", 200)
    again = [{"id": "id-3", "text": "of another file"}, {"id": "new", "text": "new"}, {"id": "id-30", "text": "x"}]
    folder = write(
        tmp_path / "in",
        a__jsonl=[*documents(12), {"id": "id-0", "text": "again"}, {"id": "null", "text": None}],
        b__parquet=[*again, {"id": "null", "text": "second, but the id is taken"}],
        c__jsonl=documents(2, 30),
    )
    ledger = runs.run(model_folder, folder, tmp_path / "lake", **IDS)
    rejects = rows(tmp_path / "lake", "rejects", order="source").to_pylist()
    assert [(Path(r["source"]).name, r["row"], r["reason"]) for r in rejects] == [
        ("a.jsonl", 12, "duplicate_key"),
        ("a.jsonl", 13, "null_text"),
        ("b.parquet", 0, "duplicate_key"),
        ("b.parquet", 3, "duplicate_key"),
        ("c.jsonl", 0, "duplicate_key"),
    ]
    assert rejects[2]["detail"] == f"{folder}/a.jsonl#3 has the same key and comes first"
    assert ledger["totals"]["rows_in"] == 20
    assert ledger["totals"]["documents"] == 15
    assert verify(Lake(str(tmp_path / "lake"))) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 9, 20, 41])
def test_a_run_killed_at_any_write_resumes_to_the_same_lake(
    model_folder: Path, corpus: Path, tmp_path: Path, small_cuts: None, monkeypatch: pytest.MonkeyPatch, n: int,
    after: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("pipelines.journal.FLUSH_SECONDS", 0.05)
    lake, whole = tmp_path / "lake", tmp_path / "whole"
    with killed_at_write(n, after=after):
        runs.run(model_folder, corpus, lake, **IDS)
    ledger = runs.run(model_folder, corpus, lake, **IDS)
    assert ledger["totals"] == runs.run(model_folder, corpus, whole, **IDS)["totals"]
    for table in ("tokens", "documents"):
        assert rows(lake, table).equals(rows(whole, table))
    assert verify(Lake(str(lake))) == []


def test_finished_units_are_not_read_again(
    model_folder: Path, corpus: Path, tmp_path: Path, small_cuts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.journal.FLUSH_SECONDS", 0.0)
    with killed_at_write(60, after=True):
        runs.run(model_folder, corpus, tmp_path / "lake")
    finished = make_plan(runs.config(model_folder, corpus, tmp_path / "lake")).done.finished
    assert finished
    read = []
    original = steps.ReadStep.__call__
    monkeypatch.setattr(steps.ReadStep, "__call__", lambda self, t: read.append(t.unit.index) or original(self, t))
    runs.run(model_folder, corpus, tmp_path / "lake")
    assert read
    assert not finished & set(read)


def noting(paths: list[str], method: Any) -> Any:
    def noted(self: Storage, path: str, **more: Any) -> Any:
        paths.append(path)
        return method(self, path, **more)

    return noted


def test_resuming_a_finished_run_lists_and_opens_no_part(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runs.run(model_folder, corpus, tmp_path / "lake", **IDS)
    opened: list[str] = []
    for method in ("open", "read", "parquet"):
        monkeypatch.setattr(Storage, method, noting(opened, getattr(Storage, method)))
    assert runs.run(model_folder, corpus, tmp_path / "lake", **IDS) == first
    assert {path.split("/")[0] for path in opened} == {"runs", "progress"}


@pytest.mark.parametrize("table", ["tokens", "documents"])
def test_a_part_that_was_lost_is_made_again(model_folder: Path, corpus: Path, tmp_path: Path, table: str) -> None:
    lake = Lake(str(tmp_path / "lake"))
    runs.run(model_folder, corpus, lake.root)
    before = rows(lake.root, "tokens")
    lake.storage.delete(lake.parts(table, "run")[0].path)
    runs.run(model_folder, corpus, lake.root)
    assert rows(lake.root, "tokens").equals(before)
    assert verify(lake) == []


def test_what_no_block_of_the_run_wrote_is_dropped_at_its_end(
    model_folder: Path, corpus: Path, tmp_path: Path, small_cuts: None
) -> None:
    """A worker of a killed attempt may write on: an orphan, or a part of a block that came out otherwise since."""
    lake = Lake(str(tmp_path / "lake"))
    with killed_at_write(20, after=True):
        runs.run(model_folder, corpus, lake.root)
    stray = "ab" * 16
    lake.storage.write(Part("tokens", "run", stray).path, b"an orphan")
    one = lake.parts("documents", "run")[0]
    lake.storage.write(Part("documents", "run", "cd" * 16).path, lake.storage.read(one.path))
    lake.storage.write(Part("tokens", "run", "cd" * 16).path, lake.storage.read(Part("tokens", "run", one.name).path))
    runs.run(model_folder, corpus, lake.root)
    assert {stray, "cd" * 16}.isdisjoint(part.name for part in lake.parts("tokens", "run"))
    assert verify(lake) == []


def test_another_machine_cuts_the_same_blocks(
    model_folder: Path, corpus: Path, tmp_path: Path, small_cuts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with killed_at_write(30, after=True):
        runs.run(model_folder, corpus, lake.root)
    before = {part.name for part in lake.parts("documents", "run")}
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 64_000)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 64_000)
    runs.run(model_folder, corpus, lake.root)
    assert before <= {part.name for part in lake.parts("documents", "run")}


# The same run id for something else


def listing_change(model: Path, corpus: Path, lake: Path) -> str:
    with pytest.raises(ResumeError) as error:
        runs.run(model, corpus, lake)
    assert "--overwrite run" in str(error.value)
    return str(error.value)


def test_a_changed_input_is_told_file_by_file(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    runs.run(model_folder, corpus, lake)
    (corpus / "new.txt").write_text("new")
    assert f"input: 1 file added: {corpus}/new.txt" in listing_change(model_folder, corpus, lake)
    (corpus / "new.txt").unlink()
    (corpus / "d.txt").write_text("a longer text\n")
    assert f"input: 1 file changed: {corpus}/d.txt (7 -> 14 bytes)" in listing_change(model_folder, corpus, lake)
    (corpus / "d.txt").unlink()
    assert f"input: 1 file removed: {corpus}/d.txt" in listing_change(model_folder, corpus, lake)


def test_overwrite_starts_anew_and_wants_the_run_id(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    runs.run(model_folder, corpus, lake.root)
    runs.run(model_folder, corpus, lake.root, "other")
    (corpus / "a.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"^--overwrite: it names 'runn', the run is 'run'"):
        runs.config(model_folder, corpus, lake.root, overwrite="runn")
    ledger = runs.run(model_folder, corpus, lake.root, overwrite="run")
    assert ledger["totals"]["documents"] == 48
    assert len(rows(lake.root, "documents", "other")) == 88
    assert verify(lake) == []
    assert "overwrite" not in ledger["config"]


# Rejects


@pytest.mark.parametrize(("limit", "stops"), [(3, False), (2, True), ("20%", False), ("10%", True), (0, True)])
def test_max_rejects_stops_a_run_that_goes_wrong(
    model_folder: Path, tmp_path: Path, limit: int | str, stops: bool
) -> None:
    bad: Lines = [{"id": "a", "text": None}, {"id": "b"}, {"id": "c", "text": ""}]
    folder = write(tmp_path / "in", a__jsonl=[*documents(13), *bad])
    if not stops:
        assert runs.run(model_folder, folder, tmp_path / "lake", max_rejects=limit)["totals"]["rejects"] == 3
        return
    with pytest.raises(RunError, match=r"3 of 16 records were rejected, more than --max-rejects .* allows"):
        runs.run(model_folder, folder, tmp_path / "lake", max_rejects=limit)
    assert Lake(str(tmp_path / "lake")).read_run("run")["state"] == "failed"
    assert runs.run(model_folder, folder, tmp_path / "lake")["state"] == "finished"
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_no_record_is_lost_when_a_survey_or_listing_is_damaged(
    model_folder: Path, tmp_path: Path, small_cuts: None
) -> None:
    folder = write(tmp_path / "in", a__jsonl=[*documents(30), *documents(5)])
    lake = Lake(str(tmp_path / "lake"))
    with killed_at_write(20, after=True):
        runs.run(model_folder, folder, lake.root, **IDS)
    for name in lake.storage.list("progress/run_id=run"):
        if name.startswith(("units", "repeats", "shards")):
            lake.storage.write(f"progress/run_id=run/{name}", b"damaged")
    ledger = runs.run(model_folder, folder, lake.root, **IDS)
    assert ledger["totals"]["documents"] == 30
    assert ledger["totals"]["rejects"] == 5
    assert verify(lake) == []


def test_files_that_cannot_be_read_count_against_a_share(model_folder: Path, tmp_path: Path) -> None:
    """One reject stands for all records of such a file."""
    folder = write(tmp_path / "in", a__jsonl=documents(20), b__parquet="not a Parquet file")
    with pytest.raises(
        RunError, match="1 of 2 files could not be read to their end, more than --max-rejects 20% allows"
    ):
        runs.run(model_folder, folder, tmp_path / "lake", max_rejects="20%")
    assert runs.run(model_folder, folder, tmp_path / "lake", max_rejects="50%")["totals"]["rejects"] == 1


def test_a_large_file_that_is_gone_when_it_is_read_is_one_reject(
    model_folder: Path, tmp_path: Path, small_cuts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "in", a__jsonl=documents(3), b__jsonl=documents(40))
    plan = make_plan(runs.config(model_folder, folder, tmp_path / "lake"))
    (folder / "b.jsonl").unlink()
    ledger = score_corpus(plan)
    assert ledger["survey"]["units"] > 3
    (reject,) = rows(tmp_path / "lake", "rejects", order="source").to_pylist()
    assert (reject["row"], reject["reason"]) == (-1, "unreadable_shard")
    assert ledger["totals"]["rejects"] == 1
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_a_touched_file_is_told_and_goes_on(
    model_folder: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.run(model_folder, corpus, tmp_path / "lake")
    os.utime(corpus / "d.txt", ns=(1, 1))
    runs.run(model_folder, corpus, tmp_path / "lake")
    assert f"1 file touched: {corpus}/d.txt since the run began, at the same size" in caplog.text


def test_a_resumed_run_keeps_what_was_found_out_of_the_model(model_folder: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", a__jsonl=[*documents(10), {"id": "bad"}])
    with pytest.raises(RunError, match="max-rejects"):
        runs.run(model_folder, folder, tmp_path / "lake", max_rejects="1%")
    ledger = runs.run(model_folder, folder, tmp_path / "lake")
    assert (ledger["model"]["dtype"], ledger["model"]["device"]) == ("float32", "cpu")


@pytest.mark.usefixtures("small_cuts")
def test_an_attempt_that_was_killed_counts_until_its_last_block(
    model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    runs.run(model_folder, corpus, lake.root, **IDS)
    journal = Journal.open(lake, "run")
    at = pc.max(journal.rows()["at"]).as_py()
    ledger = lake.read_run("run") or {}
    ledger |= {"state": "running", "totals": None, "seconds": 10.0}  # as the second attempt of the two left it
    ledger["attempt"] |= {"started_at": (at - timedelta(seconds=500)).isoformat()}
    lake.write_run("run", ledger)
    lake.storage.delete(lake.parts("tokens", "run")[0].path)
    again = runs.run(model_folder, corpus, lake.root, **IDS)
    assert again["state"] == "finished"
    assert 510 < again["seconds"] < 570


def test_repeats_of_a_unit_are_a_mapping() -> None:
    rows_ = [
        {"unit": 0, "source": s, "row": r, "is_collision": c, "first_source": f, "first_row": n}
        for s, r, c, f, n in [("a", 5, False, "a", 1), ("a", 9, True, "z", 0), ("b", 0, False, "a", 1)]
    ]
    found = UnitRepeats(pa.Table.from_pylist(rows_, schema=STORED_REPEATS))
    assert dict(found) == {
        ("a", 5): (Reason.DUPLICATE_KEY, "a#1 has the same key and comes first"),
        ("a", 9): (Reason.HASH_COLLISION, "z#0 has another key of the same doc_id and comes first"),
        ("b", 0): (Reason.DUPLICATE_KEY, "a#1 has the same key and comes first"),
    }
    assert len(found) == 3
    for absent in (("a", 6), ("a", 10), ("c", 0), ("b", 1)):
        assert absent not in found
    assert not UnitRepeats(STORED_REPEATS.empty_table())


class Noted(InlineEngine):
    """Says when it was left; `lose`: what happens to the lake then."""

    def __init__(self, plan: Plan, lose: Callable[[], object] = lambda: None) -> None:
        super().__init__(plan)
        self.is_open, self.lose = False, lose

    def __enter__(self) -> Noted:
        self.is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.is_open = False
        self.lose()


def test_the_engine_is_given_back_before_the_end_is_settled(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over very many parts that takes long, and workers would hold their GPUs."""
    monkeypatch.setattr("pipelines.score.refresh_catalog", lambda _: None)
    plan = make_plan(runs.config(model_folder, corpus, tmp_path / "lake"))
    engine, was_open = Noted(plan), list[bool]()
    original = Lake.repeated_documents

    def noted(lake: Lake, run_id: str) -> int:
        was_open.append(engine.is_open)
        return original(lake, run_id)

    monkeypatch.setattr(Lake, "repeated_documents", noted)
    assert score_corpus(plan, engine)["state"] == "finished"
    assert was_open == [False]


def test_a_part_that_vanishes_at_the_end_is_noticed(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.score.refresh_catalog", lambda _: None)
    lake = Lake(str(tmp_path / "lake"))
    plan = make_plan(runs.config(model_folder, corpus, lake.root))
    engine = Noted(plan, lambda: lake.storage.delete(lake.parts("tokens", "run")[0].path))
    with pytest.raises(RunError, match="gone: does something else clean this lake"):
        score_corpus(plan, engine)
    assert lake.read_run("run")["state"] == "failed"
    runs.run(model_folder, corpus, lake.root)
    assert lake.read_run("run")["state"] == "finished"
    assert verify(lake) == []
