"""Scores kept in a lake: files by family, replaced whole, found stale, shown wide, checked, removed with their run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import lakes
import ledgers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3

from operators.catalog import connect, write_catalog
from operators.lake import Lake, Part
from operators.scores import SCORE_TABLE, ScoreError, load_scores, plan_scores, score_table
from operators.scores import kept as kept_module
from operators.scores.kept import Kept, keep_detector, keep_scores, slices_for
from operators.scores.origin import ORIGIN_KEY, Origin, parse_origin
from operators.scores.wide import wide_columns
from operators.storage import Storage, remote
from operators.verify import repair, verify
from schemas import SCORES

RUN = lakes.RUN
DIGEST, FINISHED = "d" * 32, "2026-11-21T08:00:00+00:00"
BY_KEY = [("doc_id", "ascending"), ("variant", "ascending")]


def write_runs(lake: Lake) -> None:
    """Run `r` with every column group, and the same documents in lower case."""
    config = {"features": list(lakes.FEATURE_GROUPS)}
    state = {"config_digest": DIGEST, "finished_at": FINISHED}
    lakes.write_run(lake, config=config, **state)
    lakes.write_run(lake, "low", config={**config, "transform": "lowercase", "base_run": RUN}, **state)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    write_runs(lake)
    return lake


def keep(lake: Lake, *names: str, slices: int = 1, **more: Any) -> list[Kept]:
    with connect(lake.root, storage_options=lake.storage_options, macros=False) as connection:
        return keep_scores(lake, connection, plan_scores(connection, RUN, names or None, **more), slices)


def stored(lake: Lake) -> pa.Table:
    with connect(lake.root, storage_options=lake.storage_options, macros=False) as connection:
        rows = connection.sql(f"from scores where run_id = '{RUN}'").to_arrow_table()
    return rows.cast(SCORE_TABLE).sort_by(BY_KEY).combine_chunks()


def score_files(lake: Lake) -> dict[str, bytes]:
    return {part.path: lake.storage.read(part.path) for part in lake.parts(SCORES.name)}


def test_what_is_kept_is_what_is_computed(lake: Lake) -> None:
    kept = keep(lake)
    assert [each.family for each in kept] == ["detection", "fit", "membership", "memorization", "uncertainty"]
    with connect(lake.root, macros=False) as connection:
        computed = score_table(connection, RUN).sort_by(BY_KEY).combine_chunks()
    assert stored(lake).equals(computed)
    assert sum(each.rows for each in kept) == computed.num_rows
    assert {"lowercase", "loss", "self_certainty", "perplexity"} <= set(computed["variant"].to_pylist())
    assert verify(lake) == []


def test_the_same_again_is_the_same_bytes_whatever_the_slices(lake: Lake) -> None:
    names = ("loss", "zlib", "min_k(ratio=0.5)", "lowercase", "sequence_entropy", "perplexity")
    keep(lake, *names)
    before = score_files(lake)
    keep(lake, *names)
    assert score_files(lake) == before
    whole = stored(lake)
    for slices in (2, 7):
        keep(lake, *names, slices=slices)
        assert stored(lake).equals(whole)
        assert verify(lake) == []


def test_a_family_is_replaced_alone_and_whole(lake: Lake) -> None:
    keep(lake, families=["membership", "fit"])
    before = score_files(lake)
    [kept] = keep(lake, "loss", "min_k(ratio=0.5)")
    after = score_files(lake)
    assert set(after) == set(before)
    assert [path for path in after if after[path] != before[path]] == [kept.path]
    membership = {v for v, f in zip(*(stored(lake)[c].to_pylist() for c in ("variant", "family")), strict=True)
                  if f == "membership"}  # fmt: skip
    assert membership == {"loss", "min_k(ratio=0.5)"} == set(kept.variants)
    assert {"min_k", "zlib", "lowercase"} <= set(kept.dropped)
    assert keep(lake, "loss", "min_k(ratio=0.5)")[0].dropped == ()


def test_an_interrupted_write_leaves_the_old_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(lake, "loss")
    before = lakes.content(lake)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            keep(lake, "loss", "zlib")
    assert lakes.content(lake) == before
    with monkeypatch.context() as patch:
        patch.setattr(kept_module, "_publish", fail)
        with pytest.raises(KeyboardInterrupt):
            keep(lake, "zlib")
    assert lakes.content(lake) == before


def test_a_temporary_file_is_found_and_repaired(lake: Lake) -> None:
    [kept] = keep(lake, "loss")
    folder, name = kept.path.rsplit("/", 1)
    left = f"{folder}/.{name}.{'0' * 32}.tmp"
    Path(lake.root, left).write_bytes(b"half")
    assert [(fault.kind, fault.where) for fault in verify(lake)] == [("temporary", left)]
    assert repair(lake).removed == [left]
    assert verify(lake) == []


@pytest.mark.parametrize("run", [RUN, "low"])
def test_scores_of_another_state_of_a_run_are_stale(lake: Lake, run: str) -> None:
    keep(lake, "lowercase", "perplexity")
    ledger = lake.read_run(run)
    lake.write_run(run, {**ledger, "finished_at": "2026-11-22T08:00:00+00:00"})
    faults = [fault for fault in verify(lake) if fault.kind == "stale"]
    assert len(faults) == (2 if run == RUN else 1)  # two files of the run, one of them made from both
    assert all(f"made from run '{run}' as it was before" in fault.message for fault in faults)
    keep(lake, "lowercase", "perplexity")
    assert verify(lake) == []


def test_scores_of_a_run_that_is_gone_are_stale(lake: Lake) -> None:
    keep(lake, "lowercase")
    lake.remove_run("low")
    [fault] = verify(lake)
    assert (fault.kind, fault.run_id) == ("stale", RUN)
    assert "'low', which is gone" in fault.message


def test_scores_of_counts_that_changed_are_stale(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    lake.write_run(RUN, {**ledger, "tokenizer": {"fingerprint": ledgers.TOKENIZER}})
    path = ledgers.write_corpus(lake, "wiki")
    keep(lake, "dc_pdd", "loss")
    assert verify(lake) == []
    ledgers.write_corpus(lake, "wiki", others=["another"])  # the same numbers
    assert verify(lake) == []
    ledgers.write_corpus(lake, "wiki", more=1)
    [fault] = verify(lake)
    assert (fault.kind, fault.run_id) == ("stale", RUN)
    assert "made from the count of corpus 'wiki' as it was before" in fault.message
    keep(lake, "dc_pdd", "loss")
    assert verify(lake) == []
    lake.storage.delete(path)
    [fault] = verify(lake)
    assert (fault.kind, fault.message) == ("stale", "made from the count of corpus 'wiki', which is gone")


def test_removing_a_run_removes_its_scores(lake: Lake) -> None:
    keep(lake, "loss", "perplexity")
    lake.remove_run(RUN)
    assert lake.partitions(SCORES.name) == []
    assert verify(lake) == []


def test_verify_of_one_run_looks_at_its_scores_only(lake: Lake) -> None:
    [kept] = keep(lake, "loss")
    lake.storage.write(kept.path, b"not Parquet")
    assert lakes.kinds(verify(lake, RUN)) == {"unreadable"}
    assert verify(lake, "low") == []


def rewrite(lake: Lake, path: str, rows: pa.Table, origin: bytes | None = b"") -> None:
    """Replace a file of scores; `origin`: other metadata, None for none."""
    with lake.storage.parquet(path) as file:
        metadata = dict(file.schema_arrow.metadata)
    if origin is None:
        del metadata[ORIGIN_KEY]
    elif origin:
        metadata[ORIGIN_KEY] = origin
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(metadata), sink)
    lake.storage.write(path, memoryview(sink.getvalue()))


def edited(rows: pa.Table, column: str, values: list[Any]) -> pa.Table:
    index = rows.schema.get_field_index(column)
    return rows.set_column(index, rows.field(index), pa.array(values, rows.field(index).type))


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("order", lambda rows: rows.take(pa.array(range(len(rows) - 1, -1, -1)))),
        ("order", lambda rows: pa.concat_tables([rows, rows.slice(len(rows) - 1)])),
        ("schema", lambda rows: rows.drop_columns(["parameters"])),
        ("value", lambda rows: edited(rows, "value", [float("nan")] * len(rows))),
        ("value", lambda rows: edited(rows, "doc_id", [-5, *rows["doc_id"].to_pylist()[1:]])),
        ("value", lambda rows: edited(rows, "variant", ["mine"] * len(rows))),
        ("value", lambda rows: edited(rows, "family", ["fit"] * len(rows))),
    ],
)
def test_spoilt_rows_are_found(lake: Lake, kind: str, spoil: Any) -> None:
    [kept] = keep(lake, "loss", "zlib")
    with lake.storage.parquet(kept.path) as file:
        rows = file.read()
    rewrite(lake, kept.path, rows)
    assert verify(lake) == []
    rewrite(lake, kept.path, spoil(rows))
    assert kind in lakes.kinds(verify(lake))


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (None, "does not say what it was made from"),
        (b"[]", "does not say what it was made from"),
        (b"\xff{", "utf-8"),
        (b"{", "Expecting"),
        (json.dumps({**json.loads(Origin("membership", (), {}).metadata), "states": {"r": 1}}).encode(), "understood"),
        (json.dumps({**json.loads(Origin("membership", (), {}).metadata), "variants": "loss"}).encode(), "understood"),
    ],
)
def test_origins_that_are_none(lake: Lake, origin: bytes | None, message: str) -> None:
    [kept] = keep(lake, "loss")
    with lake.storage.parquet(kept.path) as file:
        rows = file.read()
    rewrite(lake, kept.path, rows, origin)
    [fault] = verify(lake)
    assert fault.kind == "schema"
    assert message in fault.message
    keep(lake, "loss")  # what was there says nothing, and is replaced all the same
    assert verify(lake) == []


def test_a_file_under_another_name_is_found(lake: Lake) -> None:
    [kept] = keep(lake, "loss")
    path = Part(SCORES.name, RUN, "0" * 32).path
    lake.storage.write(path, lake.storage.read(kept.path))
    assert {(fault.kind, fault.where) for fault in verify(lake)} == {("name", path)}
    foreign = f"scores/run_id={RUN}/notes.txt"
    lake.storage.write(foreign, b"")
    lake.storage.write("scores/run_id=gone/notes.txt", b"")
    assert {fault.where for fault in verify(lake) if fault.kind == "foreign"} >= {foreign}


def test_origins_survive_the_way_through_a_file() -> None:
    origin = Origin("fit", ('a(b="ü\'")', "c"), {"r": (None, "now")}, corpora={"wiki": "e" * 32})
    schema = SCORES.arrow().with_metadata({ORIGIN_KEY: origin.metadata})
    assert parse_origin(schema) == origin
    names = {Origin("fit", (), {}).part_name, Origin("learned", (), {}, detector="fit").part_name,
             Origin("learned", (), {}, detector="x").part_name}  # fmt: skip
    assert len(names) == 3


def test_a_statement_that_gives_a_document_twice_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(lake, "loss")
    before = lakes.content(lake)
    ranges = kept_module.score_ranges

    def doubled(*arguments: Any) -> Iterator[dict[str, pa.Table]]:
        for found in ranges(*arguments):
            yield {variant: pa.concat_tables([rows, rows]) for variant, rows in found.items()}

    monkeypatch.setattr(kept_module, "score_ranges", doubled)
    with pytest.raises(ScoreError, match=r"loss gave document \d+ twice"):
        keep(lake, "loss")
    assert lakes.content(lake) == before


def test_not_a_number_is_kept_as_null(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [np.nan, np.inf, -np.inf, None, 1.5]

    def odd(*_: Any) -> Iterator[dict[str, pa.Table]]:
        yield {
            "loss": pa.table({"doc_id": pa.array(range(5)), "value": pa.array(values, pa.float64(), from_pandas=False)})
        }

    monkeypatch.setattr(kept_module, "score_ranges", odd)
    keep(lake, "loss")
    assert stored(lake)["value"].to_pylist() == [None, np.inf, -np.inf, None, 1.5]


def test_slices_follow_from_tokens_and_rows(lake: Lake) -> None:
    with connect(lake.root, macros=False) as connection:
        plan = plan_scores(connection, RUN, ["loss", "zlib"])
    assert slices_for(plan, 0, 0) == 1
    assert slices_for(plan, 20_000_000, 10) == 3
    assert slices_for(plan, 10, 10_000_000) == 3
    with connect(lake.root, macros=False) as connection:
        plan = plan_scores(connection, RUN, ["loss", "lowercase"])
    assert slices_for(plan, 20_000_000, 10) == 5  # the tokens of two runs


# Detectors


def learned(variant: str = "pawn(mine)", n: int = 5, **changed: Any) -> pa.Table:
    same = {"run_id": RUN, "family": "learned", "score": "pawn", "variant": variant, "parameters": "{}", **changed}
    rows = [{**same, "doc_id": doc_id, "value": float(doc_id)} for doc_id in reversed(range(n))]
    return pa.Table.from_pylist(rows, schema=SCORE_TABLE)


def test_detectors_have_a_file_each(lake: Lake) -> None:
    keep(lake, "loss")
    before = score_files(lake)
    first, second = keep_detector(lake, RUN, learned()), keep_detector(lake, RUN, [learned("pawn(other)", 3)])
    assert first.path != second.path
    assert keep_detector(lake, RUN, learned()).path == first.path
    assert set(score_files(lake)) == {*before, first.path, second.path}
    assert verify(lake) == []
    with connect(lake.root, macros=False) as connection:
        found = connection.execute(
            "select doc_id, others from wide_scores where cardinality(others) > 0 order by doc_id"
        ).fetchall()
    assert found[2] == (2, {"pawn(mine)": 2.0, "pawn(other)": 2.0})
    assert found[4] == (4, {"pawn(mine)": 4.0})


@pytest.mark.parametrize(
    "table",
    [
        learned().drop_columns(["parameters"]),
        learned(family="membership"),
        pa.concat_tables([learned(), learned("pawn(other)")]),
        pa.concat_tables([learned(), learned()]),
        learned().slice(0, 0),
    ],
)
def test_what_is_not_the_scores_of_one_detector_is_refused(lake: Lake, table: pa.Table) -> None:
    with pytest.raises(ScoreError):
        keep_detector(lake, RUN, table)
    assert lake.parts(SCORES.name) == []


# Views


def test_wide_scores_has_a_column_a_card_and_the_rest_in_a_map(lake: Lake) -> None:
    keep(lake, "min_k(ratio=0.5)", "lowercase", families=["membership"])
    keep(lake, families=["fit"])
    with duckdb.connect(write_catalog(lake.root), read_only=True) as connection:
        described = {row[0]: row[1] for row in connection.execute("describe wide_scores").fetchall()}
        rows = connection.sql(f"from wide_scores where run_id = '{RUN}' order by doc_id").to_arrow_table().to_pylist()
        comments = dict(
            connection.execute(
                "select column_name, comment from duckdb_columns() where table_name = 'wide_scores'"
            ).fetchall()
        )
        assert connection.execute("select count(*) from wide_scores where run_id = 'low'").fetchall() == [(0,)]
    assert list(described) == ["run_id", "doc_id", *wide_columns(), "others"]
    assert {described[name] for name in wide_columns()} == {"DOUBLE"}
    assert described["others"] == "MAP(VARCHAR, DOUBLE)"
    assert comments["loss"] == load_scores()["loss"].comment
    assert "reference" not in described
    long = {(r["doc_id"], r["variant"]): r["value"] for r in stored(lake).to_pylist()}
    assert len(rows) == 5
    for row in rows:
        others = dict(row["others"])
        assert set(others) == {"min_k(ratio=0.5)"}
        assert others["min_k(ratio=0.5)"] == long[row["doc_id"], "min_k(ratio=0.5)"]
        for name in ("loss", "lowercase", "perplexity"):
            assert row[name] == long[row["doc_id"], name]
        assert row["entropy"] is None  # of a family that is not kept


def test_wide_scores_of_an_empty_lake_is_empty(tmp_path: Path) -> None:
    with connect(tmp_path) as fresh, duckdb.connect(write_catalog(tmp_path), read_only=True) as kept:
        for connection in (fresh, kept):
            assert connection.execute("select doc_id, loss, others from wide_scores").fetchall() == []


def test_wide_scores_keeps_runs_apart(lake: Lake) -> None:
    keep(lake, "loss", "min_k(ratio=0.5)")
    with connect(lake.root, macros=False) as connection:
        keep_scores(lake, connection, plan_scores(connection, "low", ["zlib"]))
        found = connection.execute(
            "select run_id, count(loss), count(zlib), sum(cardinality(others)) from wide_scores group by all order by 1"
        ).fetchall()
    assert found == [("low", 0, 5, 0), (RUN, 5, 0, 5)]


# Counted corpora in the check of the whole lake


def test_counts_of_corpora_are_checked(lake: Lake) -> None:
    path = ledgers.write_corpus(lake, "wiki")
    assert verify(lake) == []
    with lake.storage.parquet(path) as file:
        rows = file.read()

    def write(table: pa.Table, where: str = path) -> set[str]:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        lake.storage.write(where, memoryview(sink.getvalue()))
        faults = verify(lake)
        lake.storage.delete(where)
        return lakes.kinds(faults)

    assert write(rows.slice(1)) == {"order"}
    assert write(edited(rows, "n_documents", [0, 1, 3])) == {"count"}
    assert write(edited(rows, "n", [-1, 1, 2])) >= {"value"}
    assert write(edited(rows, "tokenizer_fingerprint", ["a", "b", "c"])) == {"value"}
    assert write(rows.drop_columns(["n"])) == {"schema"}
    assert write(rows, "frequencies/corpus=wiki/notes.parquet") == {"foreign"}
    lake.storage.write(path, b"not Parquet")
    assert lakes.kinds(verify(lake)) == {"unreadable"}
    assert verify(lake, RUN) == []
    assert write(rows, "frequencies/corpus=;drop/x.parquet") == {"foreign", "unreadable"}


# In an object store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "buckets"
    (root / "bucket").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, s3.lone_server(root) as running:
        patch.setattr(remote, "FIRST_PAUSE", 0.0)
        yield running


def test_scores_in_an_object_store_are_those_of_a_disk(lake: Lake, server: s3.Server) -> None:
    there = Lake("s3://bucket/lake", server.options)
    write_runs(there)
    keep(lake, "loss", "min_k(ratio=0.5)", "lowercase")
    keep(there, "loss", "min_k(ratio=0.5)", "lowercase")
    assert stored(there).equals(stored(lake))
    assert score_files(there) == score_files(lake)
    with connect(there.root, storage_options=there.storage_options, macros=False) as connection:
        assert connection.execute("select count(loss), count(lowercase) from wide_scores").fetchall() == [(5, 5)]
    assert verify(there) == []
    write_catalog(there.root, there.storage_options)
    there.remove_run(RUN)
    assert Storage("s3://bucket/lake", server.options).find("scores") == {}
