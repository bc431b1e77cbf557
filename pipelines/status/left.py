"""What is left of a run and how long it takes, from its ledger and journal, as the run's own progress line has it: its
blocks are put through what that is made of, all at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from pipelines.pace import Pace
from pipelines.previous import Listing
from pipelines.status.alive import moments
from pipelines.status.ledger import Ledger
from pipelines.units import Unit, read_units
from pipelines.work_left import WorkLeft

MOST_UNITS = 50_000  # of larger runs the time left counts units, not bytes
_COLUMNS = ["unit", "block", "is_last", "rows_in", "tokens", "at", "share"]


@dataclass(frozen=True)
class Left:
    """`share`: of the parts of the input, 0 to 1. `seconds`: None where no pace can be told; `basis`: how they were."""

    units_done: int | None = None
    units: int | None = None
    share: float | None = None
    seconds: float | None = None
    basis: str | None = None


def left_of(lake: Lake, run_id: str, ledger: Ledger, rows: pa.Table) -> Left:
    """What is left after the blocks of `rows`; of a run that is not under way without its time."""
    n_units = ledger.survey.units
    if n_units is None:
        return Left()
    rows = rows.select(_COLUMNS)  # without the names of parts, most of a journal
    done = _Done.of(rows)
    share = min(1.0, done.units / n_units) if n_units else None
    standing = Left(len(done.finished), n_units, share)
    if ledger.state != "running":
        return standing
    at = moments(rows["at"])
    is_new = at >= (ledger.started or 0.0)
    blocks, limit = rows.filter(pa.array(is_new)), ledger.config.limit
    rate = _rate(ledger, at[is_new], blocks["tokens" if limit is None else "rows_in"].to_numpy())
    if not rate:
        return standing
    if limit is not None:
        left: float | None = max(0, limit - (pc.sum(rows["rows_in"]).as_py() or 0))
        basis = "records of --limit"
    else:
        left, basis = _tokens_left(lake, run_id, n_units, rows.filter(pa.array(~is_new)), blocks, done)
    return standing if left is None else Left(standing.units_done, n_units, share, left / rate, basis)


def _rate(ledger: Ledger, at: npt.NDArray[np.float64], work: npt.NDArray[np.int64]) -> float | None:
    """Work a second, lately, by the blocks of this attempt."""
    order = np.argsort(at, kind="stable")
    return Pace.of(ledger.started or 0.0, ledger.attempt.workers or 1, at[order], work[order]).rate


@dataclass(frozen=True)
class _Done:
    """`finished`: units of which every block is there, sorted. `units`: of them and those begun, by their shares."""

    finished: npt.NDArray[np.int64]
    units: float

    @classmethod
    def of(cls, rows: pa.Table) -> _Done:
        unit, block, is_last = (rows[name].to_numpy() for name in ("unit", "block", "is_last"))
        units, places, counts = np.unique(unit, return_inverse=True, return_counts=True)
        lengths = np.zeros(len(units), np.int64)
        lengths[places[is_last]] = block[is_last] + 1
        is_whole = lengths == counts
        share = pc.fill_null(rows["share"], 0.0).to_numpy()
        return cls(units[is_whole], float(is_whole.sum()) + float(share[~is_whole[places]].sum()))


def _tokens_left(
    lake: Lake, run_id: str, n_units: int, before: pa.Table, blocks: pa.Table, done: _Done
) -> tuple[float | None, str]:
    """Tokens left after the `blocks` of this attempt and those `before`, and what tells."""
    units = _units(lake, run_id, n_units)
    earlier = _Done.of(before)
    if units is None:
        parts, tokens = done.units - earlier.units, pc.sum(blocks["tokens"]).as_py() or 0
        left = max(0.0, n_units - done.units) * tokens / parts if parts > 0 and tokens else None
        return left, "tokens by parts of the input, at the pace of late"
    finished = set(earlier.finished.tolist())
    shares = {unit: share for unit, share, *_ in _by_unit(before)}
    work = WorkLeft.of([unit for unit in units if unit.index not in finished], shares=shares)
    for unit, share, tokens, is_last in _by_unit(blocks):
        work.add({"unit": unit, "share": share, "tokens": tokens, "is_last": is_last, "rows_in": 0})
    return work.left, "tokens by stored bytes, at the pace of late"


def _by_unit(rows: pa.Table) -> list[tuple[int, float, float, bool]]:
    """For each unit: share, tokens, and whether its last block came."""
    units, places = np.unique(rows["unit"].to_numpy(), return_inverse=True)
    shares, tokens, ends = (
        np.bincount(places, pc.fill_null(rows[name].cast(pa.float64()), 0.0).to_numpy(), len(units)).tolist()
        for name in ("share", "tokens", "is_last")
    )
    return [(*row, is_last > 0) for *row, is_last in zip(units.tolist(), shares, tokens, ends, strict=True)]


def _units(lake: Lake, run_id: str, n_units: int) -> list[Unit] | None:
    """The units of a run; None where they are not recorded, or too many to look at one by one."""
    if n_units > MOST_UNITS:
        return None
    listing = Listing.read(lake, run_id)
    return None if listing is None else read_units(lake, run_id, listing.shards, n_units, listing.stop)
