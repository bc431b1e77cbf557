"""What is left of a run and how long it takes, from its ledger and journal: its blocks are played again through what
the run's own progress line is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from pipelines.pace import Pace
from pipelines.previous import Listing
from pipelines.units import Unit, read_units
from pipelines.work_left import WorkLeft

MOST_UNITS = 200_000  # of larger runs the time left counts units, not bytes


@dataclass(frozen=True)
class Left:
    """`share`: of the parts of the input, 0 to 1. `seconds`: None where no pace can be told; `basis`: how they were."""

    units_done: int | None = None
    units: int | None = None
    share: float | None = None
    seconds: float | None = None
    basis: str | None = None


def left_of(lake: Lake, run_id: str, ledger: dict[str, Any], rows: pa.Table, started: float | None) -> Left:
    """What is left and how long that takes, as the run's own progress line has it: its blocks are played again."""
    n_units = (ledger.get("survey") or {}).get("units")
    if n_units is None:
        return Left()
    done = _finished_units(rows)
    at = pc.fill_null(rows["at"].cast(pa.int64()), 0).to_numpy() / 1e3
    is_new = at >= (started if started is not None else 0.0)
    before, blocks = rows.filter(pa.array(~is_new)), rows.filter(pa.array(is_new)).sort_by("at")
    work, basis = _work_left(lake, run_id, ledger, n_units, before)
    pace = Pace(started or 0.0, int((ledger.get("attempt") or {}).get("workers") or 1))
    names = ("unit", "is_last", "share", "tokens", "rows_in")
    for moment, *values in zip(
        np.sort(at[is_new]).tolist(), *(blocks[name].to_pylist() for name in names), strict=True
    ):
        pace.add(moment, work.add(dict(zip(names, values, strict=True))))
    rate = pace.rate
    seconds = work.left / rate if ledger["state"] == "running" and rate and work.left is not None else None
    return Left(len(done), n_units, _share(rows, n_units, done), seconds, basis if seconds is not None else None)


def _work_left(lake: Lake, run_id: str, ledger: dict[str, Any], n_units: int, before: pa.Table) -> tuple[WorkLeft, str]:
    finished = _finished_units(before)
    limit = (ledger.get("config") or {}).get("limit")
    records = None if limit is None else int(limit) - (pc.sum(before["rows_in"]).as_py() or 0)
    units = _units(lake, run_id, n_units)
    basis = "tokens by stored bytes, at the pace of late"
    if units is None:
        units, basis = [Unit(i, ()) for i in range(n_units)], "tokens by parts of the input, at the pace of late"
    shares: dict[int, float] = {}
    for unit, share in zip(before["unit"].to_pylist(), before["share"].to_pylist(), strict=True):
        shares[unit] = shares.get(unit, 0.0) + (share or 0.0)
    left = [unit for unit in units if unit.index not in finished]
    return WorkLeft.of(left, shares=shares, records=records), "records of --limit" if records is not None else basis


def _units(lake: Lake, run_id: str, n_units: int) -> list[Unit] | None:
    """The units of a run; None where they are not recorded, or too many to look at one by one."""
    if n_units > MOST_UNITS:
        return None
    listing = Listing.read(lake, run_id)
    return None if listing is None else read_units(lake, run_id, listing.shards, n_units, listing.stop)


def _finished_units(rows: pa.Table) -> set[int]:
    unit, block = rows["unit"].to_numpy(), rows["block"].to_numpy()
    is_last = rows["is_last"].to_numpy()
    units, counts = np.unique(unit, return_counts=True)
    lengths = dict(zip(unit[is_last].tolist(), (block[is_last] + 1).tolist(), strict=True))
    return {u for u, n in zip(units.tolist(), counts.tolist(), strict=True) if lengths.get(u) == n}


def _share(rows: pa.Table, n_units: int, done: set[int]) -> float | None:
    """Of the units, those that are begun by what is done of them."""
    if not n_units:
        return None
    unit, share = rows["unit"].to_numpy(), pc.fill_null(rows["share"], 0.0).to_numpy()
    begun = ~np.isin(unit, np.fromiter(done, np.int64, len(done)))
    return min(1.0, (len(done) + float(share[begun].sum())) / n_units)
