"""The steps of a count: a unit to its counts, and the units that are left to what they come to together.

    unit -> repeats of ids, rows of cut files (`survey`) -> read -> tokenize -> counts of the unit -> added up, once

A unit is counted as a whole: one table comes of it, so that what a killed worker had begun is not counted at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from operators.read import ReadOptions
from operators.token_counts import CountOptions, TokenCounts
from operators.write import count_unreadable
from pipelines import survey
from pipelines.claims import Claims, MemoryClaims, guarded
from pipelines.previous import Listing
from pipelines.probe import Dying, killers
from pipelines.repeats import find_repeats
from pipelines.steps import BlockPlace, ReadStep, Task, TokenizeStep
from pipelines.surveyors import Surveyor
from pipelines.units import Unit, cut

_UNIT_METADATA = b"assay.counted"
Rejects = dict[str, tuple[int, str]]  # by reason: how many, and the first with its place


@dataclass(frozen=True)
class CountStep:
    """unit -> one table (`COUNTS`) of what its documents hold, with its number and its rejects as schema metadata."""

    read: ReadOptions
    tokenize: TokenizeStep
    options: CountOptions
    scratch: Lake  # holds the repeats
    name: str
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    claims: Claims = field(default_factory=MemoryClaims)
    dying: Dying = field(default_factory=Dying)
    repeats: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        counts, rejects, unreadable = TokenCounts.none(self.options.width), Rejects(), 0
        reader = ReadStep(self.read, self.scratch, self.name, self.storage_options, self.claims)
        for block in reader(Task(unit, repeats=self.repeats.get(unit.index, ()), dying=self.dying)):
            tokenized = guarded(self.tokenize, block, f"tokenize {BlockPlace.of(block).name}", self.claims)
            counts.add_block(tokenized, self.options)
            left = tokenized.filter(pc.is_valid(tokenized["reason"]))
            _add_rejects(rejects, _rejects(left))
            unreadable += count_unreadable(left)
        facts = {"unit": unit.index, "documents": counts.documents, "rejects": rejects, "unreadable": unreadable}
        yield counts.rows().replace_schema_metadata({_UNIT_METADATA: json.dumps(facts)})


def _rejects(left: pa.Table) -> Rejects:
    rows = left.select(["reason", "source", "row", "detail"]).to_pylist()
    found: Rejects = {}
    for row in rows:
        place = row["source"] if row["row"] < 0 else f"{row['source']}#{row['row']}"
        _add_rejects(found, {row["reason"]: (1, f"{place}: {row['detail'] or row['reason']}")})
    return found


def _add_rejects(held: Rejects, more: Mapping[str, Sequence[Any]]) -> None:
    for reason, (n, first) in more.items():
        before, known = held.get(reason, (0, first))
        held[reason] = before + n, known


@dataclass
class Counted:
    """What was counted of a corpus, and why the rest was not. `n_unreadable`: rejects that stand for a file, or a piece
    of one, that could not be read to its end."""

    counts: TokenCounts
    rejects: Rejects = field(default_factory=dict)
    n_unreadable: int = 0

    def add(self, table: pa.Table) -> int:
        """Add what came of a unit; its number."""
        facts = json.loads(table.schema.metadata[_UNIT_METADATA])
        self.counts.add_rows(table, facts["documents"])
        _add_rejects(self.rejects, facts["rejects"])
        self.n_unreadable += facts["unreadable"]
        return int(facts["unit"])

    @property
    def n_rejects(self) -> int:
        return sum(n for n, _ in self.rejects.values())

    @property
    def said(self) -> str:
        """The rejects in one line: how many of which reason, and the first of each."""
        return "; ".join(f"{n:,} {reason}, the first {first}" for reason, (n, first) in sorted(self.rejects.items()))


class Counting:
    """Counts the units of a listing, each once, whatever is tried again. `step` is completed as things are found out.

    `surveyor`: within its context.
    """

    def __init__(self, step: CountStep, surveyor: Surveyor, listing: Listing) -> None:
        self.step, self.surveyor, self.listing = step, surveyor, listing
        self.counted = Counted(TokenCounts.none(step.options.width))
        self.units: Sequence[Unit] = ()
        self.numbered, self.compared = False, step.read.id_column is None
        self.done: set[int] = set()

    @property
    def n_done(self) -> int:
        return len(self.done)

    def attempt(self) -> Counted:
        """Count what is left.

        Raises:
            ReaderDiesError: a unit's reader was killed again and again: `probe` it. Anything else that a worker raises.
        """
        self._number()
        self._compare()
        left = [unit for unit in self.units if unit.index not in self.done]
        for table in self.surveyor.survey(self.step, left) if left else ():
            self.done.add(self.counted.add(table))
        return self.counted

    def probe(self, number: int) -> None:
        """Find the files of a unit that kill their reader, and leave them out from now on."""
        unit = next(unit for unit in self.units if unit.index == number)
        found = killers(unit.pieces, self.step.read, self.step.storage_options)
        self.step = replace(self.step, dying=self.step.dying.with_probed(number, found))

    def _number(self) -> None:
        """The units, with the rows of cut files."""
        if self.numbered:
            return
        options = self.step.storage_options
        self.units = self.units or cut(self.listing.shards, options, last_stop=self.listing.stop)
        if to_count := survey.units_to_count(self.units):
            step = survey.LinesStep(options, self.step.claims, self.step.dying)
            lines = pa.concat_tables(self.surveyor.survey(step, to_count))
            self.units = survey.with_first_rows(self.units, lines)
        self.numbered = True

    def _compare(self) -> None:
        """Which records have the id of an earlier one."""
        if self.compared:
            return
        step, units = self.step, self.units
        keys = survey.KeysStep(step.read, step.storage_options, step.claims, step.dying)
        found = find_repeats(step.scratch, step.name, units, self.surveyor.survey(keys, units)) if units else {}
        self.step, self.compared = replace(step, repeats=found), True
