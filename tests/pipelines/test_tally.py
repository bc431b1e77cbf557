"""The driver that adds units up: each once and whole, whatever comes twice, in pieces, or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from stopping import Failing

from operators.lake import Lake
from operators.pieces import Piece
from operators.read import ReadOptions
from operators.shards import Shard
from pipelines import units
from pipelines.config import ConfigError, ScoreConfig
from pipelines.engines import UnitStep
from pipelines.previous import list_input
from pipelines.score import RunError
from pipelines.surveyors import InlineSurveyor
from pipelines.tally import Corpus, Rejected, TallyStep, surveying, tally
from pipelines.tally_progress import TallyProgress
from pipelines.units import Unit

LINES = 12


@dataclass(frozen=True)
class Lengths:
    """Two tables a unit: keys, and lengths; none where it holds no document. `refused`: a text that is refused."""

    refused: str = ""

    def begin(self) -> UnitLengths:
        return UnitLengths(self)


@dataclass
class UnitLengths:
    work: Lengths
    keys: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, block: pa.Table) -> pa.Table:
        rows = block.to_pylist()
        for row in rows:
            if row["reason"] is None and row["text"] == self.work.refused:
                row |= {"reason": "tokenizer_failed", "detail": "it is refused"}
            elif row["reason"] is None:
                self.keys.append(row["key"])
                self.lengths.append(len(row["text"]))
        return pa.Table.from_pylist(rows, schema=block.schema)

    def tables(self) -> Iterator[pa.Table]:
        if self.keys:
            yield pa.table({"key": self.keys}, metadata={"own": "metadata"})
            yield pa.table({"length": self.lengths})


@dataclass
class Sums:
    """What the driver has been given."""

    found: dict[str, int] = field(default_factory=dict)
    calls: int = 0

    def add(self, tables: Sequence[pa.Table]) -> None:
        self.calls += 1
        if tables:
            keys, lengths = tables
            assert keys.schema.metadata[b"own"] == b"metadata"
            more = dict(zip(keys["key"].to_pylist(), lengths["length"].to_pylist(), strict=True))
            assert not set(more) & set(self.found)
            self.found |= more


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four files of three records, a unit each."""
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    folder = tmp_path / "in"
    folder.mkdir()
    for file in range(4):
        records = [{"id": f"{file}-{i}", "text": "x" * (3 * file + i + 1)} for i in range(3)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


WHOLE = {f"{file}-{i}": 3 * file + i + 1 for file in range(4) for i in range(3)}


def corpus(source: Path, tmp_path: Path, **more: Any) -> Corpus:
    config = ScoreConfig.parse(model="none", run_id="r", input=str(source), lake=str(tmp_path / "lake"))
    options = ReadOptions(id_column="id", **more)
    return Corpus("c", list_input(config), options, Lake(str(tmp_path / "lake")), "somewhere/progress")


def test_units_are_added_once_and_nothing_is_left_behind(source: Path, tmp_path: Path) -> None:
    (source / "4.jsonl").write_text('{"id": "0-1", "text": "again"}\n{"id": "n", "text": 3}\n')
    sums = Sums()
    rejected = tally(corpus(source, tmp_path), Lengths("xx"), sums.add, InlineSurveyor())
    assert sums.found == {key: n for key, n in WHOLE.items() if key != "0-1"}
    assert sums.calls == 5  # a unit without a document gives no table, and is done all the same
    assert {reason: n for reason, (n, _) in rejected.reasons.items()} == {
        "duplicate_key": 1, "tokenizer_failed": 1, "text_not_string": 1,
    }  # fmt: skip
    assert rejected.reasons["tokenizer_failed"][1] == f"{source}/0.jsonl#1: it is refused"
    assert (rejected.n, rejected.n_unreadable) == (3, 0)
    assert not (tmp_path / "lake" / "somewhere" / "progress").exists()


class Twice(InlineSurveyor):
    """Hands on the units' tables interleaved, in no order, and some of them twice, as retried tasks may."""

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        if not isinstance(step, TallyStep):
            yield from super().survey(step, units)
            return
        of_units = [list(step(unit)) for unit in units]
        yield from (table for tables in of_units for table in (tables[0], tables[0]))
        yield from (table for tables in reversed(of_units) for table in reversed(tables))
        yield of_units[0][0]


def test_what_comes_twice_or_in_another_order_counts_once(source: Path, tmp_path: Path) -> None:
    sums = Sums()
    tally(corpus(source, tmp_path), Lengths(), sums.add, Twice())
    assert (sums.found, sums.calls) == (WHOLE, 4)


class Breaking(InlineSurveyor):
    """Fails in the middle of a unit, after some of its tables, as often as it is told."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        for place, unit in enumerate(units):
            tables = step(unit)
            if isinstance(step, TallyStep) and place == 1 and self.times:
                self.times -= 1
                yield next(tables)
                raise ConnectionError("a node is gone")
            yield from tables

    def may_restart(self, error: BaseException) -> bool:
        return isinstance(error, ConnectionError)


def test_a_unit_that_broke_off_is_added_whole_later(source: Path, tmp_path: Path) -> None:
    sums = Sums()
    tally(corpus(source, tmp_path), Lengths(), sums.add, Breaking(2))
    assert (sums.found, sums.calls) == (WHOLE, 4)


class Stalled(Failing):
    """Fails before anything of a step is handed on."""

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        if isinstance(step, TallyStep):
            self.surveyed.append(len(units))
            raise ConnectionError("a node is gone")
        yield from super().survey(step, units)


def test_machinery_that_fails_without_progress_ends_it(source: Path, tmp_path: Path) -> None:
    surveyor = Stalled(TallyStep, ConnectionError())
    with pytest.raises(ConnectionError):
        tally(corpus(source, tmp_path), Lengths(), Sums().add, surveyor)
    assert surveyor.surveyed == [4, 4, 4]
    assert not (tmp_path / "lake" / "somewhere" / "progress").exists()


def test_errors_are_told_in_the_words_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(InlineSurveyor()))
    with pytest.raises(RunError, match="KeyError: 'a defect'"), surveying("inline", None):
        raise KeyError("a defect")
    with pytest.raises(ConfigError, match="a mistake"), surveying("inline", None):
        raise ConfigError("a mistake")


def test_rejects_add_up_and_keep_the_first_place() -> None:
    rows = pa.table({"reason": ["empty_text"] * 2, "source": ["a", "b"], "row": [4, -1], "key": ["a#4", None],
                     "detail": [None, "why"]})  # fmt: skip
    rejected = Rejected()
    rejected.add_rows(rows)
    rejected.add({"empty_text": (3, "later"), "null_text": (1, "b#2: null")}, 1)
    assert rejected.reasons == {"empty_text": (5, "a#4: empty_text"), "null_text": (1, "b#2: null")}
    assert (rejected.n, rejected.n_unreadable) == (6, 1)
    assert rejected.said == "5 empty_text, the first a#4: empty_text; 1 null_text, the first b#2: null"


def test_progress_is_said_now_and_then() -> None:
    seconds = iter([0.0, 3.0, 11.0, 15.0, 22.0])
    stream = io.StringIO()
    progress = TallyProgress("counting", stream, lambda: next(seconds))
    shard = Shard("a.jsonl", "jsonl", 10_000_000)
    unit = Unit(0, (Piece(shard),))
    progress.begin([unit] * 4)
    for _ in range(2):
        progress(unit)
    progress.begin([unit] * 2)  # what was left after a failure
    for _ in range(2):
        progress(unit)
    assert stream.getvalue().splitlines() == [
        "counting: 2 of 4 parts of the input, 20 MB, 11 s left",
        "counting: 4 of 4 parts of the input, 40 MB, 0 s left",
    ]
