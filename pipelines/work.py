"""What is to be done in a run: its units, what the survey found of them, and what of them is left.

    listing -> units -> rows of cut files -> repeats by unit -> tasks that are left, by the journal

Each step is kept as soon as it is done, so that a run that is killed goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines import repeats, survey
from pipelines.engines import Engine
from pipelines.journal import Journal
from pipelines.plan import Plan
from pipelines.probe import Dying, killers
from pipelines.steps import Task
from pipelines.units import Unit, cut, write_units

log = logging.getLogger(__name__)


@dataclass
class Work:
    """`units`: None until they are cut; `repeats`: by unit the numbers of the files that name them, None until ids are
    compared; `dying`: what is known of files that kill their reader."""

    plan: Plan
    engine: Engine
    ledger: dict[str, Any]
    units: Sequence[Unit] | None = None
    repeats: dict[int, tuple[int, ...]] | None = None
    dying: Dying = field(default_factory=Dying)

    @classmethod
    def of(cls, plan: Plan, engine: Engine, ledger: dict[str, Any]) -> Work:
        """What earlier attempts found out, by the ledger."""
        found = ledger["survey"] or {}
        work = cls(plan, engine, ledger, plan.units(ledger), dying=Dying.of(ledger["dying"]))
        if plan.config.id_column is None:
            work.repeats = {}
        elif work.units is not None and found.get("repeat_files") is not None:
            work.repeats = repeats.stored_repeats(plan.lake, plan.config.run_id, found["repeat_files"])
        return work

    def left(self, journal: Journal) -> list[Task]:
        """A task for every unit that is not finished; what the survey has not found out yet is found out first. Call
        `journal.forget_lost` before.

        Raises:
            ReaderDiesError: counting or comparing killed its process again and again.
        """
        units, repeated = self._counted(), self._compared()
        done = journal.known()
        return [
            Task(unit, done.blocks.get(unit.index, frozenset()), repeated.get(unit.index, ()), self.dying)
            for unit in units
            if unit.index not in done.finished
        ]

    def probe(self, journal: Journal, unit: int) -> None:
        """Find the files that kill the reader of a unit; if there are any, the unit is done again without them."""
        log.warning("the reader of unit %d died again and again: trying its files one by one", unit)
        units, plan = self.units or [], self.plan
        options = plan.read_options(self.ledger["layout"]["block_bytes"])
        found = killers(units[unit].pieces, options, plan.config.storage_options)
        self.dying = self.dying.with_probed(unit, found)
        if found:
            journal.drop_units(u.index for u in units if any(p.shard.uri in found for p in u.pieces))
        self._note(dying=self.dying.to_json())

    def _counted(self) -> Sequence[Unit]:
        """The units, with the rows of cut files."""
        plan, options = self.plan, self.plan.config.storage_options
        if self.ledger["survey"] is not None and self.units is not None:
            return self.units
        self.units = self.units or cut(plan.listing.shards, options, last_stop=plan.listing.stop)
        if to_count := survey.units_to_count(self.units):
            step = survey.LinesStep(options, self.engine.claims, self.dying)
            lines = pa.concat_tables(self.engine.survey(step, to_count))
            self.units = survey.with_first_rows(self.units, lines)
        write_units(plan.lake, plan.config.run_id, self.units, plan.listing.shards)
        self._note(survey={"units": len(self.units), "repeat_files": None})
        return self.units

    def _compared(self) -> dict[int, tuple[int, ...]]:
        """Repeats by unit."""
        if self.repeats is not None:
            return self.repeats
        plan, units = self.plan, self.units or []
        options = plan.read_options(self.ledger["layout"]["block_bytes"])
        step = survey.KeysStep(options, plan.config.storage_options, self.engine.claims, self.dying)
        self.repeats = repeats.find_repeats(plan.lake, plan.config.run_id, units, self.engine.survey(step, units))
        files = 1 + max((number for numbers in self.repeats.values() for number in numbers), default=-1)
        self._note(survey={"units": len(units), "repeat_files": files})
        return self.repeats

    def _note(self, **found: Any) -> None:
        self.ledger |= found
        self.plan.lake.write_run(self.plan.config.run_id, self.ledger)
