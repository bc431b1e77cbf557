"""Progress of a tally: a line now and then, plain or JSON as the log is; none of one that is done in seconds.

profiling: 12 of 64 parts of the input, 201 MB, 4 min 10 s left
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from pipelines.progress import LINE_EVERY, said, write_line
from pipelines.units import Unit

Clock = Callable[[], float]


class TallyProgress:
    """Call `begin` with what is left, then it with each unit that is done. `verb`: what is done, as the lines begin.

    Time left is taken from stored bytes, once a unit is done.
    """

    def __init__(self, verb: str, stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
        self.verb, self.stream, self.clock = verb, stream or sys.stderr, clock
        self.n_units = self.n_bytes = self.units = self.done = 0
        self.started = self.last_line = clock()

    def begin(self, left: Sequence[Unit]) -> None:
        self.n_units, self.n_bytes = self.units + len(left), self.done + sum(unit.n_bytes for unit in left)

    def __call__(self, unit: Unit) -> None:
        self.units += 1
        self.done += unit.n_bytes
        now = self.clock()
        if now - self.last_line < LINE_EVERY:
            return
        self.last_line = now
        done = f"{self.units:,} of {self.n_units:,} parts of the input, {self.done / 1e6:,.0f} MB"
        left = (now - self.started) * (self.n_bytes - self.done) / self.done if self.done else None
        fields = {"units_done": self.units, "units": self.n_units, "seconds_left": left}
        write_line(f"{self.verb}: {done}{said(left)}", fields, self.stream)
