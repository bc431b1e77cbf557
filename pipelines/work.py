"""What is to be done in a run: its units, what the survey found of them, and what of them is left.

units --survey--> rows of cut files, repeats by unit --journal--> tasks that are left
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines import survey
from pipelines.engines import Engine
from pipelines.journal import Journal
from pipelines.plan import Plan
from pipelines.probe import killers
from pipelines.steps import Task
from pipelines.units import Unit, cut, write_units

log = logging.getLogger(__name__)


@dataclass
class Work:
    """What is to be done: every unit, the numbers of the files that name its repeats, the units whose files were read
    one by one because their reader died, and the files that killed it."""

    units: Sequence[Unit]
    repeats: dict[int, tuple[int, ...]]
    probed: list[int]
    killers: list[str]

    @classmethod
    def of(cls, plan: Plan, engine: Engine, ledger: dict[str, Any]) -> Work:
        """Survey the input, or read what an earlier attempt found; the ledger notes that it is done."""
        lake, run_id, options = plan.lake, plan.config.run_id, plan.config.storage_options
        found = ledger["survey"]
        work = cls([], {}, **(ledger["dying"] or {"probed": [], "killers": []}))
        known = plan.units(ledger) if found else None
        work.units = _cut(plan, engine) if known is None else known
        if plan.config.id_column is not None:
            stored = survey.stored_repeats(lake, run_id, found["repeat_files"]) if found else None
            if stored is None:
                step = survey.KeysStep(plan.read_options(ledger["layout"]["block_bytes"]), options)
                stored = survey.find_repeats(lake, run_id, work.units, engine.survey(step, work.units))
            work.repeats = stored
        files = 1 + max((number for numbers in work.repeats.values() for number in numbers), default=-1)
        ledger["survey"] = {"units": len(work.units), "repeat_files": files}
        lake.write_run(run_id, ledger)
        return work

    def left(self, journal: Journal) -> list[Task]:
        """A task for every unit that is not finished."""
        done = journal.done()
        return [
            Task(
                unit,
                done.blocks.get(unit.index, frozenset()),
                self.repeats.get(unit.index, ()),
                frozenset(self.killers),
                unit.index in self.probed,
            )
            for unit in self.units
            if unit.index not in done.finished
        ]

    def probe(self, plan: Plan, ledger: dict[str, Any], journal: Journal, unit: int) -> None:
        """Find the files that kill the reader of a unit; if there are any, the unit is done again without them."""
        log.warning("the reader of unit %d died again and again: trying its files one by one", unit)
        options = plan.read_options(ledger["layout"]["block_bytes"])
        found = killers(self.units[unit].pieces, options, plan.config.storage_options)
        self.probed.append(unit)
        if found:
            self.killers.extend(found)
            journal.drop_units(u.index for u in self.units if any(p.shard.uri in found for p in u.pieces))
        ledger["dying"] = {"probed": self.probed, "killers": self.killers}
        plan.lake.write_run(plan.config.run_id, ledger)


def _cut(plan: Plan, engine: Engine) -> list[Unit]:
    """Cut the input into units, count the lines where that alone tells rows, and keep the result."""
    options = plan.config.storage_options
    units = cut(plan.listing.shards, options, last_stop=plan.listing.stop)
    if to_count := survey.units_to_count(units):
        units = survey.with_first_rows(units, pa.concat_tables(engine.survey(survey.LinesStep(options), to_count)))
    write_units(plan.lake, plan.config.run_id, units, plan.listing.shards)
    return units
