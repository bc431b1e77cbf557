"""How fast a run goes, from when its blocks came and what each held.

    work done
        |            o o          o  a block as it came: several workers give them in bursts
        |        o o              /  the line of least squares through the later half of them
        |    o o
        |o o________________ time

Work over time would be far off at either side of a burst. While few blocks have come, a block is held against the one
that came a whole number of rounds before it, a round being a block of each worker: they stand at the same place in
their bursts. Time before the first block (loading, compiling) is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_POINTS = 1024  # held, or some rounds; then every second one goes
FEW_ROUNDS = 6
LEAST_SPREAD = 0.02  # of the time since the start: what comes closer together is one burst, which has no slope


@dataclass
class Pace:
    """`started`: when the work began, in seconds of whatever clock; times may not go back. `workers`: how many work at
    once, as far as that is known."""

    started: float
    workers: int = 1
    blocks: int = 0
    done: float = 0.0
    _times: list[float] = field(default_factory=list)
    _work: list[float] = field(default_factory=list)
    _every: int = 1

    @classmethod
    def of(cls, started: float, workers: int, times: npt.NDArray[Any], work: npt.NDArray[Any]) -> Pace:
        """As if these blocks had been added, at `times` that do not go back, of `work` each."""
        pace = cls(started, workers, len(times), float(work.sum()))
        while len(times) // pace._every > pace._most:
            pace._every *= 2
        chosen = slice(pace._every - 1, None, pace._every)
        pace._times, pace._work = times[chosen].tolist(), np.cumsum(work, dtype=np.float64)[chosen].tolist()
        return pace

    @property
    def _most(self) -> int:
        return max(MOST_POINTS, 2 * FEW_ROUNDS * self.workers)

    def add(self, now: float, work: float) -> None:
        """A block came that held `work`, in whatever unit."""
        self.blocks += 1
        self.done += work
        if self.blocks % self._every:
            return
        self._times.append(now)
        self._work.append(self.done)
        if len(self._times) > self._most:
            del self._times[::2], self._work[::2]  # the newest stays
            self._every *= 2

    @property
    def rate(self) -> float | None:
        """Work a second, lately; None where too little came to tell."""
        workers = max(1, self.workers)
        if self.blocks <= workers or len(self._times) < 2:
            return None
        times, work = np.asarray(self._times), np.asarray(self._work)
        if times[-1] - times[0] <= LEAST_SPREAD * (times[-1] - self.started):
            return None
        if self.blocks < FEW_ROUNDS * workers:
            first = (self.blocks - 1) % workers
            return _rate(times[first:], work[first:], np.array([0, -1]))
        middle = int(np.searchsorted(times, (times[0] + times[-1]) / 2))
        return _rate(times, work, np.arange(min(middle, len(times) - 2), len(times)))


def _rate(times: npt.NDArray[np.float64], work: npt.NDArray[np.float64], points: npt.NDArray[np.int64]) -> float | None:
    """The slope of the line through some points; None where they stand at one time."""
    centred = times[points] - times[points].mean()
    spread = float(centred @ centred)
    return float(centred @ work[points]) / spread if spread > 0 else None
