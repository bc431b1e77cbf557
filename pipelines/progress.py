"""Progress of a run: a bar on a terminal, else lines, plain or JSON as the log is. Documents, tokens, tokens/s, and the
time left.

Time left is the work that is left over the pace of late (`pace`). The work that is left follows from what the stored
bytes of each kind of input have held so far (`work_left`), so it needs no second pass. Nothing is said before the pace
can be told, which takes a few blocks.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from pipelines.logs import LogOptions
from pipelines.pace import Pace
from pipelines.work_left import WorkLeft

log = logging.getLogger(__name__)

LINE_EVERY = 10.0  # seconds between plain lines


@dataclass
class Counts:
    """What this attempt of a run has read and written so far."""

    rows_in: int = 0
    documents: int = 0
    rejects: int = 0
    unreadable: int = 0
    tokens: int = 0
    scored: int = 0
    text_bytes: int = 0
    started: float = field(default_factory=lambda: time.monotonic())

    def add(self, manifest: dict[str, Any]) -> None:
        for name in ("rows_in", "documents", "rejects", "unreadable", "tokens", "scored", "text_bytes"):
            setattr(self, name, getattr(self, name) + int(manifest[name]))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def describe(self, left: float | None) -> str:
        """`left`: seconds, None where they are not known."""
        rate = self.tokens / max(self.seconds, 1e-9)
        rejects = f", {self.rejects:,} rejected" if self.rejects else ""
        return f"{self.documents:,} documents{rejects}, {self.tokens:,} tokens, {rate:,.0f} tokens/s{said(left)}"


def said(left: float | None) -> str:
    """`, 3 min 20 s left`; nothing where that cannot be told."""
    return "" if left is None else f", {duration(left)} left"


def duration(seconds: float) -> str:
    """`7 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def write_line(line: str, fields: Mapping[str, Any], stream: TextIO) -> None:
    """A line of progress: plain on `stream`, or a record of the log with these `fields` where the log is JSON."""
    if LogOptions.of().format == "json":
        log.info("%s", line, extra={"assay": fields})
    else:
        print(line, file=stream, flush=True)


class Progress:
    """A context manager; call it with each manifest. `verb`: what is done, as the lines begin. `workers`: how many
    blocks are worked on at once, about."""

    def __init__(
        self,
        work: WorkLeft,
        stream: TextIO | None = None,
        *,
        counts: Counts | None = None,
        verb: str = "scoring",
        workers: int = 1,
    ) -> None:
        self.work, self.stream, self.verb = work, stream or sys.stderr, verb
        self.counts = counts or Counts()
        self.pace = Pace(self.counts.started, workers)
        self._bar: Any = None
        self._task: Any = None
        self._last_line = float("-inf")
        self._as_json = LogOptions.of().format == "json"  # a bar has no place among lines of JSON

    def __enter__(self) -> Progress:
        if self.stream.isatty() and not self._as_json:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            console = Console(file=self.stream)
            self._bar = Bar(TextColumn(self.verb), BarColumn(), TextColumn("{task.description}"), console=console)
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __call__(self, manifest: dict[str, Any]) -> None:
        now = time.monotonic()
        self.counts.add(manifest)
        self.pace.add(now, self.work.add(manifest))
        if self._bar is not None:
            self._bar.update(self._task, completed=self.share or 0.0, description=self.counts.describe(self.left))
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            self._line()

    def _line(self) -> None:
        numbers = {name: getattr(self.counts, name) for name in ("documents", "tokens", "rejects")}
        fields = {**numbers, "done": self.share, "seconds_left": self.left}
        write_line(f"{self.verb}: {self.counts.describe(self.left)}", fields, self.stream)

    @property
    def share(self) -> float | None:
        """Of this attempt's work, how much is done: at most 0.99 before the end; None where nothing is known."""
        return self.work.share

    @property
    def left(self) -> float | None:
        """Seconds until the end, None where they are not known."""
        rate, work = self.pace.rate, self.work.left
        return work / rate if rate and work is not None else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
