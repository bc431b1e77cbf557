"""Comments in a lake: the group is there exactly in runs on code, and flags and counts agree."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lakes
import pyarrow as pa
import pytest
from lakes import RUN, Edit, at, kinds, put, read, spoil

from operators import comments
from operators.lake import Lake
from operators.query import query
from operators.verify import verify
from operators.write import PartWriter, WriteOptions

# Of the texts of `lakes.BLOCKS`, by row: one has a comment, in tokens of two bytes each.
TEXTS = (("first # text", "zweiter", "三つ #"), ("'''doc'''", "fifth"))
COMMENT_TOKENS = {0: 3, 1: 0, 2: 1, 4: 5, 5: 0}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setattr(lakes, "BLOCKS", TEXTS)
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=(), language="python")
    return lake


def dropped(*names: str) -> Edit:
    return lambda table: table.drop_columns(list(names))


def flagged(values: list[Any]) -> list[Any]:
    place = values.index(True)
    return [*values[:place], False, *values[place + 1 :]]


def nulls(values: list[Any]) -> list[Any]:
    return [None] * len(values)


def widened(table: pa.Table) -> pa.Table:
    index = table.schema.get_field_index("renyi_quarter")
    return table.set_column(index, "renyi_quarter", table["renyi_quarter"].cast(pa.float64()))


def counts(lake: Lake) -> dict[int, int | None]:
    found: dict[int, int | None] = {}
    for part in lake.parts("documents", RUN):
        table = read(lake, part)
        found |= dict(zip(table["row"].to_pylist(), table["comment_tokens"].to_pylist(), strict=True))
    return found


def test_a_run_on_code_is_sound(lake: Lake) -> None:
    assert verify(lake) == []
    assert counts(lake) == COMMENT_TOKENS


@pytest.mark.parametrize(
    ("table", "edit", "expected"),
    [
        ("tokens", put("in_comment", flagged), {"count"}),
        ("tokens", put("in_comment", at(0, None)), {"nulls", "count"}),
        ("tokens", put("in_comment", nulls), {"count"}),
        ("tokens", put("n_bytes", lambda v: [0] * len(v)), {"span", "comment"}),
        ("tokens", dropped("in_comment"), {"schema"}),
        ("documents", put("comment_tokens", at(0, 99)), {"count"}),
        ("documents", put("comment_tokens", at(0, None)), {"count"}),
        ("documents", put("comment_tokens", at(0, -1)), {"value", "count"}),
        ("documents", dropped("comment_tokens"), {"schema", "total"}),
    ],
    ids=["flag", "one NULL", "all NULL", "no bytes", "no flags", "count", "NULL", "negative", "no count"],
)
def test_spoiled_comments_are_found(lake: Lake, table: str, edit: Edit, expected: set[str]) -> None:
    path = spoil(lake, table, edit)
    faults = verify(lake)
    assert kinds(faults) == expected, [str(f) for f in faults]
    assert any(Path(f.where).name == Path(path).name for f in faults)


def test_documents_whose_comments_are_unknown_are_sound(lake: Lake) -> None:
    """All parts are put to NULL together, as a run with languages that nobody knows writes them."""
    for table, column in (("tokens", "in_comment"), ("documents", "comment_tokens")):
        for part in lake.parts(table, RUN):
            changed = put(column, nulls)(read(lake, part))
            lake.storage.write(part.path, lakes.encode(changed, lakes.TABLES[table]))
    assert verify(lake) == []


def test_the_group_is_there_as_the_ledger_says(lake: Lake, tmp_path: Path) -> None:
    ledger = lake.read_run(RUN)
    lake.write_run(RUN, {**ledger, "config": {"prompt_column": None}})
    assert kinds(verify(lake)) == {"schema", "total"}
    del ledger["config"]
    lake.write_run(RUN, ledger)
    assert verify(lake) == []
    other = Lake(str(tmp_path / "other"))
    lakes.write_run(other, features=(), config={"language_column": "lang"})
    assert kinds(verify(other)) == {"schema", "total"}


@pytest.mark.parametrize("steps", [(1e-4, 1e-2), (1e-2, 1e-4)], ids=["slower", "faster"])
def test_a_block_written_again_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[float, float]
) -> None:
    """On a machine that is a hundred times slower or faster, too: lexing has a limit of time."""
    lake = Lake(str(tmp_path / "lake"))
    writer = PartWriter(WriteOptions(lake, RUN, language="c"))
    records = [lakes.document(text, row, ()) for row, text in enumerate(("a " * 150, "x // c"))]
    found = []
    for step in steps:
        monkeypatch.setattr(comments, "time", SimpleNamespace(thread_time=itertools.count(0.0, step).__next__))
        lakes.write_records(writer, records)
        parts = [*lake.parts("tokens", RUN), *lake.parts("documents", RUN)]
        found.append([Path(lake.uri(part)).read_bytes() for part in parts])
    assert len(found[0]) == 2
    assert found[0] == found[1]
    lost = sum(row["comment_tokens"] is None for row in read(lake, lake.parts("documents", RUN)[0]).to_pylist())
    assert lost == (steps[0] > steps[1])


def test_a_language_is_named_once_and_known(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ValueError, match="unknown language 'klingon'"):
        WriteOptions(lake, RUN, language="klingon")
    with pytest.raises(ValueError, match="one of them"):
        WriteOptions(lake, RUN, language="c", language_column="lang")


def test_parts_of_before_a_column_came_are_sound_and_others_not(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=("renyi",))
    for part in lake.parts("tokens", RUN):
        lake.storage.write(part.path, lakes.encode(dropped("renyi_quarter")(read(lake, part)), lakes.TABLES["tokens"]))
    assert verify(lake) == []
    found = query(
        lake.root, "select count(renyi_half) as half, count(renyi_quarter) as quarter from tokens"
    ).to_pylist()
    assert found[0]["half"] > found[0]["quarter"] == 0
    spoil(lake, "tokens", dropped("renyi_half"))
    assert kinds(verify(lake)) == {"schema"}


def test_a_later_column_is_checked_where_it_is(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=("renyi",))
    spoil(lake, "tokens", put("renyi_quarter", at(1, -1.0)))
    assert kinds(verify(lake)) == {"value"}
    spoil(lake, "tokens", put("renyi_quarter", at(1, None)))
    assert kinds(verify(lake)) == {"nulls"}
    spoil(lake, "tokens", widened)
    assert kinds(verify(lake)) == {"schema"}
