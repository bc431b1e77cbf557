"""Whether a run is alive, by the signs of life that it leaves: its start, the blocks of its journal, its receipts.

    age of the last sign   held against   the usual gap between blocks   ->   running, or silent

Nobody can see from a lake whether a driver lives, so `silent` is said of a run that wrote nothing for many gaps, never
`dead`. Before the first block and after the last one nothing is written for long: models load and ids are compared,
parts are listed and their ids read again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, run_folder
from operators.storage.listing import modified_at
from pipelines.journal import FLUSH_SECONDS
from schemas import DOCUMENTS

QUIET_GAPS = 10  # usual gaps between blocks without a write, and a run is silent
LEAST_QUIET, STARTING_QUIET = 120.0, 900.0  # seconds: between blocks; before the first
CLOSING_QUIET = 0.01  # seconds a block, at least those of starting: after the last one each is listed and read again
MOST_LISTED = 20_000  # blocks: receipts are listed a thousand a request; of larger runs the journal alone counts
_RECENT = 1000  # gaps that make the usual one


@dataclass(frozen=True)
class Signs:
    """Moments in seconds since 1970: of the last attempt its start and its blocks, sorted; of all attempts the `last`
    sign. `unjournaled`: receipts that the journal does not name; None where they are too many to be listed."""

    started: float | None
    blocks: npt.NDArray[np.float64]
    last: float | None
    unjournaled: int | None
    n_blocks: int

    @classmethod
    def of(cls, lake: Lake, run_id: str, rows: pa.Table, started: float | None) -> Signs:
        """`rows`: of the run's journal."""
        at = np.sort(moments(rows["at"].drop_null()))
        unjournaled, receipt = _receipts(lake, run_id, rows)
        signs = [sign for sign in (started, float(at[-1]) if at.size else None, receipt) if sign is not None]
        blocks = at if started is None else at[at >= started]
        return cls(started, blocks, max(signs, default=None), unjournaled, len(rows))

    @property
    def usual_gap(self) -> float | None:
        """Seconds between blocks of the last attempt: what nineteen of twenty stay below, or the journal's interval."""
        before = [] if self.started is None else [self.started]
        gaps = np.diff(np.concatenate([before, self.blocks]))[-_RECENT:]
        return float(max(FLUSH_SECONDS, np.quantile(gaps, 0.95))) if self.blocks.size and gaps.size else None

    @property
    def seconds(self) -> float:
        """How long the last attempt has been at work, by its last sign."""
        return 0.0 if self.started is None or self.last is None else max(0.0, self.last - self.started)

    def age(self, now: float) -> float | None:
        """Seconds since the last sign."""
        return None if self.last is None else max(0.0, now - self.last)

    def judged(self, now: float, *, is_closing: bool) -> tuple[str, str | None]:
        """Whether a run that is said to be running is silent, and how that was judged. `is_closing`: every part of its
        input is done."""
        age, gap = self.age(now), self.usual_gap
        if age is None:
            return "running", None
        if is_closing:
            limit = max(STARTING_QUIET, CLOSING_QUIET * self.n_blocks)
            usual = "every part of the input is done, and what is there is checked"
        elif gap is None:
            limit = STARTING_QUIET
            usual = "no block of this attempt has come yet: models load, ids are compared"
        else:
            limit, usual = max(LEAST_QUIET, QUIET_GAPS * gap), f"writes usually come {gap:.0f} s apart"
        said = f"last write {age:.0f} s ago; {usual}; silent from {limit:.0f} s on"
        return ("silent" if age > limit else "running"), said


def moments(at: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The journal's moments in seconds since 1970; 0 where there is none."""
    milliseconds: npt.NDArray[np.int64] = pc.fill_null(at.cast(pa.int64()), 0).to_numpy()
    return milliseconds / 1e3


def _receipts(lake: Lake, run_id: str, rows: pa.Table) -> tuple[int | None, float | None]:
    """How many receipts the journal does not name, and when the newest came, by the storage's clock."""
    if len(rows) > MOST_LISTED:
        return None, None
    found = lake.storage.find(run_folder(DOCUMENTS.name, run_id))
    parts = {path.rsplit("/", 1)[-1].removesuffix(".parquet"): info for path, info in found.items()}
    named = set(rows["part"].drop_null().to_pylist())
    times = [time for info in parts.values() if (time := modified_at(info)) is not None]
    return sum(name not in named for name in parts if len(name) == 32), max(times, default=None)
