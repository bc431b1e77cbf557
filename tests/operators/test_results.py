"""Results that are kept under a name: what is written, what is refused, and what `verify` finds of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stopping

from operators.catalog import connect
from operators.lake import Lake
from operators.results import ResultError, check_free, keep_result, result_job_path, result_path, run_states
from operators.verify import Kind, verify
from schemas import COMPARISONS, MIXTURE_POSTERIORS, MIXTURES
from schemas.results import COMPARISON, MIXTURE

SHARES = {"fiction": 0.75, "code": 0.25}


def mixtures(shares: dict[str, float | None], **others: Any) -> pa.Table:
    """Rows of `mixtures`, in another order than they are stored in."""
    rows = [
        {"method": "em_document", "component": name, "share": share, "share_low": share, "share_high": share,
         "unit": "documents", "estimate": None, "estimate_low": None, "estimate_high": None, "confidence": 0.95,
         "n": 8, "note": None, **others}
        for name, share in shares.items()
    ]  # fmt: skip
    return _table(MIXTURES, rows)


def posteriors(of_code: float) -> pa.Table:
    rows = [
        {"method": "em_document", "doc_id": 7, "component": "fiction", "posterior": 1 - of_code},
        {"method": "em_document", "doc_id": 7, "component": "code", "posterior": of_code},
    ]
    return _table(MIXTURE_POSTERIORS, rows)


def _table(table: Any, rows: list[dict[str, Any]]) -> pa.Table:
    schema = table.arrow()
    whole = [{**dict.fromkeys(schema.names), **row} for row in rows]
    return pa.Table.from_pylist(whole, schema=schema)


def keep(lake: Lake, **others: Any) -> str:
    tables = {"mixtures": mixtures(SHARES), "mixture_posteriors": posteriors(0.25)}
    return keep_result(lake, MIXTURE, "books", tables, settings={"references": ["a", "b"]}, **others)


def kinds(lake: Lake) -> set[Kind]:
    return {fault.kind for fault in verify(lake)}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_a_result_is_a_view_in_the_catalog(lake: Lake) -> None:
    assert keep(lake) == result_path(MIXTURE, MIXTURES, "books")
    with connect(lake.root) as connection:
        shares = connection.sql("select mixture, component, share from mixtures").fetchall()
        found = connection.sql("select mixture, posterior from mixture_posteriors where component = 'code'").fetchall()
        curves = connection.sql("from mixture_curves").fetchall()
    assert shares == [("books", "code", 0.25), ("books", "fiction", 0.75)]
    assert found == [("books", 0.25)]
    assert curves == []
    assert verify(lake) == []


def test_the_same_result_is_the_same_bytes(lake: Lake, tmp_path: Path) -> None:
    other = Lake(str(tmp_path / "other"))
    for each in (lake, other):
        keep(each)
    for path in (result_path(MIXTURE, MIXTURES, "books"), result_job_path(MIXTURE, "books")):
        assert lake.storage.read(path) == other.storage.read(path)


def test_a_table_that_is_not_given_again_is_removed(lake: Lake) -> None:
    keep(lake)
    keep_result(lake, MIXTURE, "books", {"mixtures": mixtures(SHARES)}, settings={})
    assert not lake.storage.exists(result_path(MIXTURE, MIXTURE_POSTERIORS, "books"))
    assert verify(lake) == []


@pytest.mark.parametrize("n", range(3))
@pytest.mark.parametrize("after", [False, True])
def test_a_write_that_was_killed_is_found_and_made_good(lake: Lake, n: int, after: bool) -> None:
    keep(lake)
    with stopping.killed_at_write(n, after=after):
        keep(lake)
    whole = n == 2 and after
    assert kinds(lake) == (set() if whole else {Kind.LEDGER})
    check_free(lake, MIXTURE, "books", "books" if whole else None)
    keep(lake)
    assert verify(lake) == []


@pytest.mark.parametrize(
    ("name", "overwrite", "message"),
    [
        ("books", None, "replace it with --overwrite books"),
        ("books", "book", "repeat the name"),
        ("../books", None, "--name"),
        ("", None, "--name"),
    ],
)
def test_a_name_is_refused_before_the_work(lake: Lake, name: str, overwrite: str | None, message: str) -> None:
    keep(lake)
    with pytest.raises(ResultError, match=message):
        check_free(lake, MIXTURE, name, overwrite)
    check_free(lake, MIXTURE, "books", "books")
    check_free(lake, COMPARISON, "books", None)  # names of other kinds are others


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"mixture_posteriors": posteriors(0.5)}, "given were mixture_posteriors"),
        ({"mixtures": mixtures(SHARES), "comparisons": mixtures(SHARES)}, "given were mixtures, comparisons"),
        ({"mixtures": mixtures(SHARES).drop_columns(["unit"])}, "missing .'unit'"),
        ({"mixtures": mixtures(SHARES).append_column("notes", pa.array(["", ""]))}, "unknown .'notes'"),
        ({"mixtures": mixtures({"fiction": 1.5})}, "1.5 is above 1"),
        ({"mixtures": mixtures(SHARES, estimate=float("nan"))}, "mixtures.estimate: NaN"),
        ({"mixtures": mixtures({"fiction": 1.0}, n=None)}, "1 nulls in a column declared NOT NULL"),
        ({"mixtures": pa.concat_tables([mixtures(SHARES)] * 2)}, "two rows of one key"),
    ],
)
def test_unsound_rows_are_refused_and_nothing_is_written(lake: Lake, tables: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keep_result(lake, MIXTURE, "books", tables, settings={})
    assert lake.storage.list("mixtures") == []


def test_a_column_that_may_be_null_may_be_left_out(lake: Lake) -> None:
    keep_result(lake, MIXTURE, "books", {"mixtures": mixtures(SHARES).drop_columns(["note"])}, settings={})
    with connect(lake.root) as connection:
        assert connection.sql("select note from mixtures").fetchall() == [(None,), (None,)]
    assert verify(lake) == []


@pytest.mark.parametrize("setting", ["\ud800", float("nan"), {1, 2}])
def test_settings_that_cannot_be_written_leave_what_was_there(lake: Lake, setting: Any) -> None:
    keep(lake)
    with pytest.raises((ValueError, TypeError)):
        keep_result(lake, MIXTURE, "books", {"mixtures": mixtures({"code": 1.0})}, settings={"where": setting})
    assert verify(lake) == []
    assert json.loads(lake.storage.read(result_job_path(MIXTURE, "books")))["rows"]["mixtures"] == 2


@pytest.mark.parametrize("n", [1, 2, 50])
def test_rows_of_one_key_are_found_wherever_they_stand(lake: Lake, n: int) -> None:
    rows = _table(MIXTURE_POSTERIORS, [
        {"method": "em_document", "doc_id": i, "component": name, "posterior": 0.5}
        for i in range(n) for name in ("code", "fiction")
    ])  # fmt: skip
    tables = {"mixtures": mixtures(SHARES), "mixture_posteriors": rows}
    keep_result(lake, MIXTURE, "books", tables, settings={})
    for i in range(len(rows)):
        twice = {**tables, "mixture_posteriors": pa.concat_tables([rows.slice(i, 1), rows])}
        with pytest.raises(ValueError, match="two rows of one key"):
            keep_result(lake, MIXTURE, "books", twice, settings={})


def test_a_table_of_another_kind_has_no_place_in_it() -> None:
    with pytest.raises(ValueError, match="not of a mixture"):
        result_path(MIXTURE, COMPARISONS, "books")


def damaged(lake: Lake, what: str) -> None:
    """Damage a sound result in one way."""
    job, path = result_job_path(MIXTURE, "books"), result_path(MIXTURE, MIXTURES, "books")
    said = json.loads(lake.storage.read(job))
    if what == "job":
        lake.storage.write(job, b"[]")
    elif what == "of another":
        lake.storage.write(job, json.dumps({**said, "name": "other"}).encode())
    elif what == "rows":
        lake.storage.write(job, json.dumps({**said, "rows": {**said["rows"], "mixtures": 3}}).encode())
    elif what == "table gone":
        lake.storage.delete(path)
    elif what == "not in the job":
        lake.storage.write(job, json.dumps({**said, "rows": {"mixtures": 2}}).encode())
    elif what == "foreign":
        lake.storage.write("mixtures/notes.txt", b"")
    elif what == "progress":
        lake.storage.write("mixtures/progress/counts", b"")
    elif what == "bytes":
        lake.storage.write(path, lake.storage.read(path)[:-50])
    else:
        rows = _altered(pq.read_table(Path(lake.root) / path), what)
        pq.write_table(rows, Path(lake.root) / path, write_page_checksum=True)


def _altered(rows: pa.Table, what: str) -> pa.Table:
    schema, values = rows.schema, rows.to_pylist()
    if what == "sum":
        values[0]["share"] = 0.5
    elif what == "interval":
        values[0]["share_low"] = 0.9
    elif what == "order":
        values.reverse()
    elif what == "twice":
        values[1] = values[0] | {"share": values[1]["share"]}
    return pa.Table.from_pylist(values, schema=schema)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("job", Kind.LEDGER), ("of another", Kind.LEDGER), ("rows", Kind.COUNT), ("table gone", Kind.TWIN),
        ("not in the job", Kind.FOREIGN), ("foreign", Kind.FOREIGN), ("progress", Kind.TEMPORARY),
        ("bytes", Kind.UNREADABLE), ("sum", Kind.TOTAL), ("interval", Kind.VALUE), ("order", Kind.ORDER),
        ("twice", Kind.DUPLICATE),
    ],
)  # fmt: skip
def test_verify_names_what_is_wrong(lake: Lake, what: str, kind: Kind) -> None:
    keep(lake)
    damaged(lake, what)
    assert kinds(lake) == {kind}


def test_a_result_of_runs_that_changed_since_is_stale(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for run in ("a", "b"):
        lakes.write_run(lake, run)
    keep(lake, states=run_states(lake, ["a", "b"]))
    assert verify(lake) == []
    lake.write_run("a", {**lake.read_run("a"), "finished_at": "2030-01-01T00:00:00Z"})
    lake.remove_run("b")
    stale = [fault for fault in verify(lake) if fault.kind is Kind.STALE]
    assert [fault.message.split(",")[0] for fault in stale] == [
        "made from run 'a' as it was before: `assay mixture` computes it again",
        "made from run 'b'",
    ]
