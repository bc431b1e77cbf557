"""The catalog's views: types, receipts, optional columns, partitions, ledgers, comments, hostile paths."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.catalog import connect, write_catalog
from operators.ledger import runs_row
from operators.scores import load_scores
from schemas import DOCUMENTS, PAIRS, REJECTS, RUNS, TABLES, TOKENS, Table

PART, OTHER_PART = "0" * 32, "1" * 32

LEDGER: dict[str, Any] = {
    "run_id": "b",
    "state": "finished",
    "created_at": "2026-11-20T22:59:21.250000+00:00",
    "finished_at": "2026-11-20T23:59:21Z",
    "seconds": 3600.5,
    "assay_version": "0.1.0",
    "config_digest": "d" * 32,
    "config": {
        "model": "hub/it's-a-model",
        "context": 2048,
        "stride": 1024,
        "bos": "auto",
        "special_tokens": "literal",
        "precision": "compact",
        "features": ["topk", "renyi"],
        "dtype": "auto",
        "device": "auto",
        "engine": "inline",
        "transform": {"name": "perturb", "seed": 1, "what": "ü"},
        "base_run": None,
    },
    "model": {"type": "llama", "fingerprint": "m" * 32, "vocab_size": 32000, "dtype": "bfloat16", "device": "cuda"},
    "tokenizer": {"fingerprint": "t" * 32, "bos_prepended": True},
    "totals": {"rows_in": 7, "documents": 5, "rejects": 2, "tokens": 50, "scored": 45, "text_bytes": 200},
}


def part(
    lake: Path, table: Table, rows: list[dict[str, Any]], *, groups: tuple[str, ...] = (), name: str = PART
) -> Path:
    """Write rows as one part of the run that they name; the rest of every row is filled in."""
    run_id = rows[0]["run_id"]
    schema = table.arrow(groups)
    filled = [{f.name: row.get(f.name, None if f.nullable else _filler(f.type)) for f in schema} for row in rows]
    path = lake / table.name / f"run_id={run_id}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(filled, schema=schema), path)
    return path


def _filler(kind: pa.DataType) -> Any:
    return "" if pa.types.is_string(kind) else [] if pa.types.is_list(kind) else 1


def token(run_id: str, doc_id: int, position: int, logprob: float | None = -1.0, **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "doc_id": doc_id, "position": position, "logprob": logprob, "entropy": 2.0, **more}


def small_lake(lake: Path) -> Path:
    """Run `a` with core columns, run `b` with two optional groups; a documents part for each."""
    part(lake, TOKENS, [token("a", 1, 0, None), token("a", 1, 1)])
    part(lake, DOCUMENTS, [{"run_id": "a", "doc_id": 1}])
    extra = {"logprob_max": -0.5, "top1_id": 3, "topk_id": [3, 4], "topk_logprob": [-0.5, -1.5]}
    part(lake, TOKENS, [token("b", 1, 0, -2.0, **extra)], groups=("extremes", "topk"))
    part(lake, DOCUMENTS, [{"run_id": "b", "doc_id": 1, "attributes": [("lang", "en")]}])
    part(lake, REJECTS, [{"run_id": "b", "row": 4, "reason": "empty_text"}])
    (lake / "runs").mkdir()
    (lake / "runs" / "b.json").write_text(json.dumps(LEDGER))
    return lake


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def columns(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows(connection, f"describe {relation}")]


def declared(table: Table) -> list[tuple[str, str]]:
    return [(c.name, c.sql_type) for c in table.columns] + [(name, "FLOAT") for name in table.view_columns]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_empty_lake_has_typed_empty_views(tmp_path: Path, table: Table) -> None:
    with connect(tmp_path) as connection:
        assert columns(connection, table.name) == declared(table)
        assert rows(connection, f"from {table.name}") == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_views_have_the_declared_columns(tmp_path: Path, table: Table) -> None:
    with connect(small_lake(tmp_path)) as connection:
        assert columns(connection, table.name) == declared(table)


def test_lake_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no lake at"):
        connect(tmp_path / "misspelt")


def test_optional_columns_are_null_where_a_run_has_none(tmp_path: Path) -> None:
    with connect(small_lake(tmp_path)) as connection:
        sql = "select run_id, logprob_max, topk_id, topk_logprob, hidden, logprob_mean from tokens order by all"
        assert rows(connection, sql) == [
            ("a", None, None, None, None, -2.0),
            ("a", None, None, None, None, -2.0),
            ("b", -0.5, [3, 4], [-0.5, -1.5], None, -2.0),
        ]
        assert rows(connection, "select attributes['lang'] from documents where run_id = 'b'") == [("en",)]
        assert rows(connection, "select run_id, row, reason from rejects") == [("b", 4, "empty_text")]


def test_half_precision_hidden_states_are_floats(tmp_path: Path) -> None:
    part(tmp_path, TOKENS, [token("a", 1, 0, hidden=[0.5, -2.0])], groups=("hidden",))
    part(tmp_path, DOCUMENTS, [{"run_id": "a", "doc_id": 1}])
    with connect(tmp_path) as connection:
        assert rows(connection, "select hidden from tokens") == [([0.5, -2.0],)]


@pytest.mark.parametrize("run_id", ["007", "2024-01-01", "true", "1e5", "null"])
def test_run_ids_stay_text(tmp_path: Path, run_id: str) -> None:
    part(tmp_path, TOKENS, [token(run_id, 1, 0)])
    part(tmp_path, DOCUMENTS, [{"run_id": run_id, "doc_id": 1}])
    with connect(tmp_path) as connection:
        assert rows(connection, "select run_id from tokens union all select run_id from documents") == [(run_id,)] * 2


def test_tokens_need_a_receipt(tmp_path: Path) -> None:
    part(tmp_path, TOKENS, [token("a", 1, 0)])
    part(tmp_path, DOCUMENTS, [{"run_id": "a", "doc_id": 1}])
    part(tmp_path, TOKENS, [token("a", 2, 0)], name=OTHER_PART)
    part(tmp_path, DOCUMENTS, [{"run_id": "other", "doc_id": 2}], name=OTHER_PART)  # another run's is no receipt
    catalog = write_catalog(tmp_path)
    with connect(tmp_path) as fresh, duckdb.connect(catalog, read_only=True) as kept:
        for connection in (fresh, kept):
            assert rows(connection, "select doc_id from tokens") == [(1,)]
        part(tmp_path, DOCUMENTS, [{"run_id": "a", "doc_id": 2}], name=OTHER_PART)
        for connection in (fresh, kept):
            assert rows(connection, "select doc_id from tokens order by all") == [(1,), (2,)]


def test_names_that_do_not_fit_the_layout_are_not_read(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    for table in (TOKENS, DOCUMENTS):
        folder = lake / table.name / "run_id=a"
        (folder / "copy.parquet").write_bytes((folder / f"{PART}.parquet").read_bytes())
        (folder / f".{PART}.parquet.{'f' * 32}.tmp").write_bytes(b"half written")
    with connect(lake) as connection:
        assert rows(connection, "select count(*) from tokens where run_id = 'a'") == [(2,)]
        assert rows(connection, "select count(*) from documents where run_id = 'a'") == [(1,)]


def test_kept_catalog_sees_later_runs_and_columns(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path)
    assert catalog == str(tmp_path / "lake.duckdb")
    with duckdb.connect(catalog, read_only=True) as connection:
        assert rows(connection, "from tokens") == []
        small_lake(tmp_path)
        assert rows(connection, "select run_id, count(topk_id) from tokens group by all order by all") == [
            ("a", 0),
            ("b", 1),
        ]
        assert rows(connection, "select run_id from runs") == [("b",)]
        assert rows(connection, "select score from loss('a')") == [(-1.0,)]


def test_catalog_is_replaced_whole_and_holds_no_tables(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    write_catalog(lake)
    (lake / "lake.duckdb.wal").write_bytes(b"of a killed shell")
    catalog = write_catalog(lake)
    assert [p.name for p in lake.iterdir() if p.is_file()] == ["lake.duckdb"]
    with duckdb.connect(catalog, read_only=True) as connection:
        assert rows(connection, "select count(*) from duckdb_tables()") == [(0,)]
        made = rows(connection, "select function_name, comment from duckdb_functions() where not internal order by all")
        assert made == sorted((name, card.comment) for name, card in load_scores().items())


def test_runs_limits_every_view(tmp_path: Path) -> None:
    with connect(small_lake(tmp_path), runs=["b", "missing"]) as connection:
        assert rows(connection, "select distinct run_id from tokens") == [("b",)]
        assert rows(connection, "select run_id from documents union all select run_id from runs") == [("b",)] * 2
    with pytest.raises(ValueError, match="run id"):
        connect(tmp_path, runs=["../b"])
    with pytest.raises(ValueError, match="at least one"):
        connect(tmp_path, runs=[])


@pytest.mark.parametrize(
    "sql",
    [
        "select avg(logprob) from tokens where run_id = 'b'",
        "select avg(logprob) from tokens where run_id = $run",
        "from min_k('b')",
        "select t.logprob from tokens t join documents d using (run_id, doc_id) where t.run_id = 'b'",
    ],
)
def test_run_id_prunes_files(tmp_path: Path, sql: str) -> None:
    parameters = {"run": "b"} if "$run" in sql else None
    with connect(small_lake(tmp_path)) as connection:
        plan = connection.execute(f"explain {sql}", parameters).fetchall()[0][1]
    assert "Scanning Files: 1/2" in plan


def test_no_part_is_opened_to_find_out_its_columns(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    for table in (TOKENS, DOCUMENTS):
        (lake / table.name / "run_id=a" / f"{PART}.parquet").write_bytes(b"not Parquet")
    with connect(lake) as connection:
        assert rows(connection, "select logprob from tokens where run_id = 'b'") == [(-2.0,)]
        with pytest.raises(duckdb.Error, match="run_id=a"):
            rows(connection, "select logprob from tokens")


def test_columns_may_differ_within_a_run(tmp_path: Path) -> None:
    """A run resumed by a later version may keep more columns in its later parts."""
    lake = small_lake(tmp_path)
    part(lake, TOKENS, [token("a", 2, 0, logprob_max=-0.25)], groups=("extremes",), name=OTHER_PART)
    part(lake, DOCUMENTS, [{"run_id": "a", "doc_id": 2}], name=OTHER_PART)
    with connect(lake) as connection:
        found = rows(connection, "select doc_id, logprob_max from tokens where run_id = 'a' order by all")
    assert found == [(1, None), (1, None), (2, -0.25)]


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from tokens t join documents d using (run_id, doc_id)",
        "select count(*) from documents d join tokens t using (run_id, doc_id)",
        "select t.logprob, d.key from tokens t, documents d where t.doc_id = d.doc_id and d.run_id = 'b'",
    ],
)
def test_joins_hold_the_documents_in_memory_not_the_tokens(tmp_path: Path, sql: str) -> None:
    """The right side of a hash join is the one held."""
    with connect(small_lake(tmp_path)) as connection:
        plan = json.loads(connection.execute(f"explain (format json) {sql}").fetchall()[0][1])
    join = next(node for node in walk(plan[0]) if node["extra_info"].get("Join Type") == "INNER")
    # Only tokens have a semi-join below: that with their receipts.
    receipts = [any(node["extra_info"].get("Join Type") == "SEMI" for node in walk(side)) for side in join["children"]]
    assert receipts == [True, False]


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node["children"] for below in walk(child))]


def test_pairs_are_partitioned_twice(tmp_path: Path) -> None:
    path = tmp_path / "pairs" / "p_run=01" / "q_run=02" / f"{PART}.parquet"
    path.parent.mkdir(parents=True)
    row = {"doc_id": 1, "position": 0, "xent": 1.5, "xstd": 1.0, "kl": 0.5, "jsd": 0.25, "tv": 0.125}
    pq.write_table(pa.Table.from_pylist([row], schema=PAIRS.arrow()), path)
    with connect(tmp_path) as connection:
        assert rows(connection, "from pairs") == [("01", "02", *row.values())]


def test_comments_come_from_the_schema(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path)
    with duckdb.connect(catalog, read_only=True) as connection:
        found = {
            (t, c): text
            for t, c, text in rows(
                connection, "select table_name, column_name, comment from duckdb_columns() where not internal"
            )
        }
        views = dict(rows(connection, "select view_name, comment from duckdb_views() where not internal"))
    for table in TABLES:
        assert table.row in views[table.name]
        for column in table.columns:
            assert found[table.name, column.name] == column.comment
    assert found["tokens", "logprob_mean"] == "-entropy"


# Ledgers


def test_runs_row_reads_the_ledger() -> None:
    row = runs_row(LEDGER)
    assert list(row) == [c.name for c in RUNS.columns]
    assert row["model"] == "hub/it's-a-model"
    assert (row["dtype"], row["device"]) == ("bfloat16", "cuda")  # as used, not as asked for
    assert row["features"] == ["topk", "renyi"]
    assert row["created_at"] == datetime(2026, 11, 20, 22, 59, 21, 250000, tzinfo=UTC)
    assert row["scored"] == 45
    assert row["base_run"] is None


@pytest.mark.parametrize(
    "ledger",
    [LEDGER, {"run_id": "b", "state": "running"}, {**LEDGER, "config": {}, "model": None, "finished_at": None}],
    ids=["full", "bare", "partial"],
)
def test_runs_view_equals_runs_row(tmp_path: Path, ledger: dict[str, Any]) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "b.json").write_text(json.dumps(ledger, indent=2))
    with connect(tmp_path) as connection:
        (found,) = connection.sql("from runs").to_arrow_table().to_pylist()
    assert found == runs_row(ledger)


def test_a_broken_ledger_breaks_only_runs(tmp_path: Path) -> None:
    (small_lake(tmp_path) / "runs" / "broken.json").write_text('{"run_id": ')
    with connect(tmp_path) as connection:
        assert rows(connection, "select count(*) from tokens") == [(3,)]
        with pytest.raises(duckdb.Error, match=r"broken\.json"):
            rows(connection, "from runs")


def test_runs_row_wants_a_run() -> None:
    with pytest.raises(ValueError, match="no run_id, state"):
        runs_row({"config": {}})


# Paths


@pytest.mark.parametrize(
    "name",
    [
        "o'hare",
        'do"ub"le',
        "with space",
        "star*",
        "question?",
        "[set]",
        "{a,b}",
        "semi;drop view tokens;--",
        "$run_id",
        "hive=looking",
        "documents",
        "ünï 文",
    ],
)
def test_hostile_lake_paths(tmp_path: Path, name: str) -> None:
    lake = tmp_path / name / "lake"
    lake.mkdir(parents=True)
    small_lake(lake)
    for decoy in ("starry", "questions", "s", "a", "b"):  # what an unescaped pattern would match as well
        (tmp_path / decoy / "lake").mkdir(parents=True, exist_ok=True)
        small_lake(tmp_path / decoy / "lake")
    with connect(lake) as fresh, duckdb.connect(write_catalog(lake), read_only=True) as kept:
        for connection in (fresh, kept):
            assert rows(connection, "select count(*) from tokens") == [(3,)]
            assert rows(connection, "select run_id from runs") == [("b",)]


@pytest.mark.parametrize("name", ["text=a", "run_id=a", "back\\slash"])
def test_paths_that_would_be_misread_are_refused(tmp_path: Path, name: str) -> None:
    lake = tmp_path / name / "lake"
    lake.mkdir(parents=True)
    with pytest.raises(ValueError, match="rename"):
        connect(lake)


def test_relative_lake_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_lake(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    catalog = write_catalog(tmp_path.name)
    monkeypatch.chdir("/")
    with duckdb.connect(catalog, read_only=True) as connection:
        assert rows(connection, "select count(*) from tokens") == [(3,)]


def test_lake_behind_fsspec(tmp_path: Path) -> None:
    lake = small_lake(tmp_path)
    store = fsspec.filesystem("memory")
    store.put(str(lake), "/catalog-test/lake", recursive=True)
    try:
        with connect("memory://catalog-test/lake") as connection:
            assert rows(connection, "select count(*) from tokens") == [(3,)]
            assert rows(connection, "select run_id from runs") == [("b",)]
            folder = "/catalog-test/lake/{}/run_id=a/"
            for table in (TOKENS, DOCUMENTS):
                there = folder.format(table.name)
                store.pipe(f"{there}{OTHER_PART}.parquet", store.cat(f"{there}{PART}.parquet"))
            assert rows(connection, "select count(*) from tokens") == [(5,)]
        assert write_catalog("memory://catalog-test/lake").endswith("catalog-test/lake/lake.duckdb")
        assert store.exists("/catalog-test/lake/lake.duckdb")
    finally:
        store.rm("/catalog-test", recursive=True)
