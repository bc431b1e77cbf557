"""Adds up what the documents of a corpus hold, each unit once, whatever is tried again.

    unit -> repeats of ids, rows of cut files (`survey`) -> read -> a `Tally` of the unit -> its tables, to the driver
    tables of a unit -> held until the unit is whole -> added once

A unit is tallied as a whole: what a killed worker had begun is not added at all. What is not counted is told by reason.
Nothing is stored on the way but the repeats of ids, which readers must know of.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, progress_folder
from operators.read import ReadOptions
from operators.write import count_unreadable
from pipelines import survey
from pipelines.causes import in_one_line
from pipelines.claims import Claims, MemoryClaims, guarded
from pipelines.config import ConfigError
from pipelines.previous import Listing
from pipelines.probe import Dying, dying_unit, killers
from pipelines.repeats import find_repeats
from pipelines.score import RunError
from pipelines.steps import BlockPlace, ReadStep, Task
from pipelines.surveyors import Surveyor, make_surveyor
from pipelines.tally_progress import TallyProgress
from pipelines.units import Unit, cut

log = logging.getLogger(__name__)

MAX_STALLS = 3  # failures in a row of the machinery between which no unit was added
_METADATA = b"assay.tally"

Add = Callable[[Sequence[pa.Table]], None]  # takes the tables of one unit
Reasons = dict[str, tuple[int, str]]  # by reason: how many, and the first with its place


class Tally(Protocol):
    """What one unit comes to, in the process that reads it."""

    def add(self, block: pa.Table) -> pa.Table:
        """Take in the documents of a block of schema `flow.READ`, those without a reason.

        Returns:
            the rejects: a row each with `source`, `row`, `key`, `reason` and `detail`, those of the block and what was
            refused here. Rows without a reason may be among them.
        """

    def tables(self) -> Iterable[pa.Table]:
        """What the unit came to: any number of tables, each of its own schema and metadata, together below 2 GiB."""


class Work(Protocol):
    """Begins a tally, once a unit. Pickles small; what is heavy is loaded where it works."""

    def begin(self) -> Tally: ...


@dataclass
class Rejected:
    """What was not counted. `n_unreadable`: rejects that stand for a file, or a piece of one, that could not be read to
    its end."""

    reasons: Reasons = field(default_factory=dict)
    n_unreadable: int = 0

    def add(self, reasons: Mapping[str, Sequence[Any]], n_unreadable: int = 0) -> None:
        for reason, (n, first) in reasons.items():
            before, known = self.reasons.get(reason, (0, first))
            self.reasons[reason] = before + n, known
        self.n_unreadable += n_unreadable

    def add_rows(self, left: pa.Table) -> None:
        """Add rows of the flow that have a reason."""
        for row in left.select(["reason", "source", "row", "detail"]).to_pylist():
            place = row["source"] if row["row"] < 0 else f"{row['source']}#{row['row']}"
            self.add({row["reason"]: (1, f"{place}: {row['detail'] or row['reason']}")})
        self.n_unreadable += count_unreadable(left)

    @property
    def n(self) -> int:
        return sum(n for n, _ in self.reasons.values())

    @property
    def said(self) -> str:
        """The rejects in one line: how many of which reason, and the first of each."""
        return "; ".join(f"{n:,} {reason}, the first {first}" for reason, (n, first) in sorted(self.reasons.items()))


@dataclass(frozen=True)
class Corpus:
    """What is read, with the storage options of `lake`. `folder`: within that lake, where the repeats of ids lie
    meanwhile under `name`; it may be shared by corpora of other names."""

    name: str
    listing: Listing
    read: ReadOptions
    lake: Lake
    folder: str

    @property
    def scratch(self) -> Lake:
        return Lake(f"{self.lake.root}/{self.folder}", self.storage_options)

    @property
    def storage_options(self) -> Mapping[str, Any] | None:
        return self.lake.storage_options


@dataclass(frozen=True)
class TallyStep:
    """unit -> its tables, and last an empty one with its number, its rejects and how many tables came before."""

    corpus: Corpus
    work: Work
    claims: Claims = field(default_factory=MemoryClaims)
    dying: Dying = field(default_factory=Dying)
    repeats: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        corpus, rejected, tally = self.corpus, Rejected(), self.work.begin()
        reader = ReadStep(corpus.read, corpus.scratch, corpus.name, corpus.storage_options, self.claims)
        for block in reader(Task(unit, repeats=self.repeats.get(unit.index, ()), dying=self.dying)):
            judged = guarded(tally.add, block, f"tally {BlockPlace.of(block).name}", self.claims)
            rejected.add_rows(judged.filter(pc.is_valid(judged["reason"])))
        tables = list(tally.tables())
        for number, table in enumerate(tables):
            yield _labelled(table, {"unit": unit.index, "table": number})
        facts = {"tables": len(tables), "rejects": rejected.reasons, "unreadable": rejected.n_unreadable}
        yield _labelled(pa.table({}), {"unit": unit.index, "table": len(tables), **facts})


def _labelled(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA: json.dumps(facts)})


@contextlib.contextmanager
def surveying(engine: str, address: str | None) -> Iterator[Surveyor]:
    """A surveyor for any number of tallies.

    Raises:
        RunError: whatever failed within that is no error of the job's own.
    """
    try:
        with make_surveyor(engine, address) as surveyor:
            yield surveyor
    except (RunError, ConfigError):
        raise
    except Exception as error:
        raise RunError(in_one_line(error)) from error


def tally(corpus: Corpus, work: Work, add: Add, surveyor: Surveyor, verb: str = "counting") -> Rejected:
    """Tally a corpus to its end, beginning again where machinery failed, without files that kill their reader.

    `add` is called in this process, once a unit, in no promised order, with tables as the unit's `Tally` gave them.
    `verb`: how lines of progress begin.

    Raises:
        whatever a worker or `add` raises, at the first.
    """
    driver = Tallying(TallyStep(corpus, work, surveyor.claims), surveyor, add, TallyProgress(verb))
    stalls = 0
    try:
        while True:
            done = driver.n_done
            try:
                return driver.attempt()
            except Exception as error:
                if (unit := dying_unit(error)) is not None:
                    driver.probe(unit)
                    continue
                stalls = 0 if driver.n_done > done else stalls + 1
                if stalls >= MAX_STALLS or not surveyor.may_restart(error):
                    raise
                log.warning("%s; starting again what is left", in_one_line(error))
    finally:
        with contextlib.suppress(OSError):
            _clear(corpus)


class Tallying:
    """Tallies the units of a corpus, each once, whatever is tried again. `step` is completed as things are found out.

    `surveyor`: within its context.
    """

    def __init__(self, step: TallyStep, surveyor: Surveyor, add: Add, progress: TallyProgress) -> None:
        self.step, self.surveyor, self.add, self.progress = step, surveyor, add, progress
        self.rejected = Rejected()
        self.units: Sequence[Unit] = ()
        self.numbered, self.compared = False, step.corpus.read.id_column is None
        self.done: set[int] = set()

    @property
    def n_done(self) -> int:
        return len(self.done)

    def attempt(self) -> Rejected:
        """Tally what is left.

        Raises:
            ReaderDiesError: a unit's reader was killed again and again: `probe` it. Anything else that a worker raises.
        """
        self._number()
        self._compare()
        left = [unit for unit in self.units if unit.index not in self.done]
        self.progress.begin(left)
        by_number = {unit.index: unit for unit in left}
        held: dict[int, dict[int, pa.Table]] = {}  # by unit and place: what comes twice counts once
        for table in self.surveyor.survey(self.step, left) if left else ():
            facts = json.loads(table.schema.metadata[_METADATA])
            number = int(facts["unit"])
            if number in self.done:
                continue
            of_unit = held.setdefault(number, {})
            of_unit[facts["table"]] = table
            last = json.loads(of_unit[max(of_unit)].schema.metadata[_METADATA])
            if last.get("tables") == len(of_unit) - 1:
                self._take(by_number[number], [of_unit[place] for place in range(last["tables"])], last)
                del held[number]
        return self.rejected

    def _take(self, unit: Unit, tables: Sequence[pa.Table], facts: Mapping[str, Any]) -> None:
        self.add(tables)
        self.rejected.add(facts["rejects"], facts["unreadable"])
        self.done.add(unit.index)
        self.progress(unit)

    def probe(self, number: int) -> None:
        """Find the files of a unit that kill their reader, and leave them out from now on."""
        unit = next(unit for unit in self.units if unit.index == number)
        found = killers(unit.pieces, self.step.corpus.read, self.step.corpus.storage_options)
        self.step = replace(self.step, dying=self.step.dying.with_probed(number, found))

    def _number(self) -> None:
        """The units, with the rows of cut files."""
        if self.numbered:
            return
        corpus = self.step.corpus
        options = corpus.storage_options
        self.units = self.units or cut(corpus.listing.shards, options, last_stop=corpus.listing.stop)
        if to_count := survey.units_to_count(self.units):
            step = survey.LinesStep(options, self.step.claims, self.step.dying)
            lines = pa.concat_tables(self.surveyor.survey(step, to_count))
            self.units = survey.with_first_rows(self.units, lines)
        self.numbered = True

    def _compare(self) -> None:
        """Which records have the id of an earlier one."""
        if self.compared:
            return
        step, corpus, units = self.step, self.step.corpus, self.units
        keys = survey.KeysStep(corpus.read, corpus.storage_options, step.claims, step.dying)
        repeats = find_repeats(corpus.scratch, corpus.name, units, self.surveyor.survey(keys, units)) if units else {}
        self.step, self.compared = replace(step, repeats=repeats), True


def _clear(corpus: Corpus) -> None:
    """Remove the repeats that the readers were told of, and the folders that this empties."""
    storage, folder = corpus.lake.storage, f"{corpus.folder}/{progress_folder(corpus.name)}"
    corpus.lake.delete(f"{folder}/{name}" for name in storage.list(folder))
    while folder:
        storage.delete_empty_folder(folder)
        folder = folder.rpartition("/")[0]
