"""What an earlier attempt of a run has left to do: which files, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass

from operators.shards import Shard
from pipelines.journal import Journal
from pipelines.plan import Plan
from pipelines.units import Unit, stored_bytes


@dataclass(frozen=True)
class Left:
    """`shards`: the files of units that are not finished, in input order; all of them for a new run.

    `of`: the files of which `share` is left, by stored bytes, or by records where a limit counts these.
    """

    shards: tuple[Shard, ...]
    of: tuple[Shard, ...]
    share: float = 1.0

    @classmethod
    def of_plan(cls, plan: Plan) -> Left:
        every = plan.listing.shards
        units = plan.units(plan.previous or {})
        if units is None:
            return cls(every, every)
        open_units = [unit for unit in units if unit.index not in plan.done.finished]
        touched = {piece.shard for unit in open_units for piece in unit.pieces}
        shards = tuple(shard for shard in every if shard in touched)
        limit = plan.config.limit
        if limit is not None:
            return cls(shards, every, max(0, limit - plan.done.counts["rows_in"]) / limit)
        return cls(shards, shards, _share(plan, open_units, shards))


def _share(plan: Plan, units: list[Unit], shards: tuple[Shard, ...]) -> float:
    """Of files that have units in `units`, how much of their stored bytes is not done.

    Of a unit within a file as long as one read the journal says that all of it is read: a tenth of it is left then.
    """
    done = Journal.open(plan.lake, plan.config.run_id).shares()
    left = sum(sum(map(stored_bytes, unit.pieces)) * (1.0 - min(0.9, done.get(unit.index, 0.0))) for unit in units)
    n_bytes = sum(shard.n_bytes for shard in shards)
    return min(1.0, left / n_bytes) if n_bytes else 1.0
