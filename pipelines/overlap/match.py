"""The steps of an overlap: a unit of the corpus to its receipt, and the units that are left until none is.

    unit -> repeats of ids, rows of cut files (`survey`) -> read -> match with the index -> receipt -> one row of counts

A unit is compared as a whole and its receipt written last, so what a killed worker had begun does not count at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from operators.overlap import Matcher, OverlapOptions
from operators.read import ReadOptions
from pipelines import survey
from pipelines.claims import Claims, MemoryClaims, StoredClaims, counted, guarded
from pipelines.overlap.index import IndexPlace
from pipelines.overlap.items import INDEX, tokenizer_of
from pipelines.overlap.job import CORPUS
from pipelines.overlap.receipts import Receipt, finished_units, of_unit, receipt, receipt_path, write_receipt
from pipelines.overlap.record import Record
from pipelines.previous import Listing
from pipelines.probe import Dying, killers
from pipelines.repeats import find_repeats, stored_repeats
from pipelines.steps import BlockPlace, LostRecordsError, ReadStep, Task
from pipelines.surveyors import Surveyor
from pipelines.units import Unit, cut, read_units, write_units


@dataclass(frozen=True)
class MatchStep:
    """unit -> its receipt in the lake `scratch`, and one row that says how much of what it held.

    `claims` are kept by unit; what a block kills is only looked for where its unit has killed before.
    """

    read: ReadOptions
    options: OverlapOptions
    index: IndexPlace
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    claims: Claims = field(default_factory=MemoryClaims)
    dying: Dying = field(default_factory=Dying)
    repeats: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        with counted(f"unit {unit.index}", self.claims) as deaths:
            # Kept in an object of the lake, claims on blocks would be dear where nothing has died.
            claims = MemoryClaims() if isinstance(self.claims, StoredClaims) and not deaths else self.claims
            made = of_unit(self._receipts(unit, claims))
            write_receipt(self.index.scratch, unit.index, made)
        yield pa.table({"unit": [unit.index], **{name: [count] for name, count in made.counts.items()}})

    def _receipts(self, unit: Unit, claims: Claims) -> list[Receipt]:
        """Of each block; of one that has killed before, of each of its documents."""
        made: list[Receipt] = []

        def matched(block: pa.Table) -> pa.Table:
            matcher = _matcher(str(self.index.fetch()), self.options)
            made.append(receipt(block, matcher(block), CORPUS))
            return pa.table({"rows": [made[-1].counts["documents"] + made[-1].counts["rejects"]]})

        read = ReadStep(self.read, self.index.scratch, CORPUS, self.storage_options, self.claims)
        for block in read(Task(unit, repeats=self.repeats.get(unit.index, ()), dying=self.dying)):
            place = BlockPlace.of(block)
            found = pc.sum(guarded(matched, block, f"match {place.name}", claims)["rows"]).as_py()
            if found != place.rows_in:
                raise LostRecordsError(f"{place.rows_in} records were read into a block and {found} came out")
        return made


@functools.lru_cache(maxsize=2)
def _matcher(folder: str, options: OverlapOptions) -> Matcher:
    """Made once a process; the index itself is mapped, not read."""
    return Matcher(Path(folder) / INDEX, options, tokenizer_of(Path(folder)))


class Matching:
    """Compares the units of a listing, each once, whatever is tried again and whatever earlier attempts did.

    `surveyor`: within its context. What is found out of the units is noted in the record as soon as it is known.
    """

    def __init__(self, step: MatchStep, surveyor: Surveyor, listing: Listing, record: Record) -> None:
        self.surveyor, self.listing, self.record = surveyor, listing, record
        self.step = replace(step, dying=Dying.of(record.dying))
        self.units: Sequence[Unit] = ()
        self.repeats: dict[int, tuple[int, ...]] | None = None
        self.done = finished_units(self.scratch)

    @property
    def scratch(self) -> Lake:
        return self.step.index.scratch

    def left(self) -> list[Unit]:
        """The units without a receipt; what has to be known of all before one is read is found out first.

        Raises:
            ReaderDiesError: a reader was killed again and again: `probe` its unit.
        """
        self._number()
        self._compare()
        return [unit for unit in self.units if unit.index not in self.done]

    def attempt(self, left: Sequence[Unit], note: Callable[[dict[str, Any]], None]) -> None:
        """Compare units; `note` is given a row for each: `unit` and the counts of its receipt.

        Raises:
            ReaderDiesError: as `left`. Anything else that a worker raises.
        """
        step = replace(self.step, repeats=self.repeats or {})
        for table in self.surveyor.survey(step, left) if left else ():
            (row,) = table.to_pylist()
            self.done |= {row["unit"]}
            note(row)

    def probe(self, number: int) -> None:
        """Find the files of a unit that kill their reader. Units that hold one are compared again without it."""
        unit = next(unit for unit in self.units if unit.index == number)
        found = killers(unit.pieces, self.step.read, self.step.storage_options)
        self.step = replace(self.step, dying=self.step.dying.with_probed(number, found))
        for each in self.units:
            if each.index in self.done and any(piece.shard.uri in found for piece in each.pieces):
                self.done -= {each.index}
                self.scratch.storage.delete(receipt_path(each.index))
        self._note(dying=self.step.dying.to_json())

    def _number(self) -> None:
        """The units, with the rows of cut files."""
        if self.units:
            return
        known, options = self.record.survey, self.step.storage_options
        if known is not None:
            shards, stop = self.listing.shards, self.listing.stop
            self.units = read_units(self.scratch, CORPUS, shards, known["units"], stop) or ()
        if self.units:
            return
        units: Sequence[Unit] = cut(self.listing.shards, options, last_stop=self.listing.stop)
        if to_count := survey.units_to_count(units):
            step = survey.LinesStep(options, self.step.claims, self.step.dying)
            self.units = units  # a unit that dies is looked up there
            lines = pa.concat_tables(self.surveyor.survey(step, to_count))
            units = survey.with_first_rows(units, lines)
        write_units(self.scratch, CORPUS, units, self.listing.shards)
        self.units = units
        self._note(survey={"units": len(units), "repeat_files": None})

    def _compare(self) -> None:
        """Which records have the id of an earlier one."""
        step, units = self.step, self.units
        if step.read.id_column is None:
            self.repeats = {}
        if self.repeats is None and (files := (self.record.survey or {}).get("repeat_files")) is not None:
            self.repeats = stored_repeats(self.scratch, CORPUS, files)
        if self.repeats is not None:
            return
        keys = survey.KeysStep(step.read, step.storage_options, step.claims, step.dying)
        self.repeats = find_repeats(self.scratch, CORPUS, units, self.surveyor.survey(keys, units))
        files = 1 + max((number for numbers in self.repeats.values() for number in numbers), default=-1)
        self._note(survey={"units": len(units), "repeat_files": files})

    def _note(self, **found: Any) -> None:
        for name, value in found.items():
            setattr(self.record, name, value)
        self.record.write()
