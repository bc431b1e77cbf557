"""Progress of a run: a bar on a terminal, plain lines in a log. Documents, tokens, tokens/s, and the time left.

Time left comes from the share of the input's bytes that is done, so it needs no second pass; its clock starts with the
first block. It is not shown before the second block. Where stored bytes say little of the text (compressed files,
columns that are not read) only whole units count, so a single such file shows no time left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.steps import Task

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
    started: float = field(default_factory=time.monotonic)
    first_block: float | None = None
    blocks: int = 0

    def add(self, manifest: dict[str, Any]) -> None:
        for name in ("rows_in", "documents", "rejects", "unreadable", "tokens", "scored", "text_bytes"):
            setattr(self, name, getattr(self, name) + int(manifest[name]))
        self.blocks += 1
        self.first_block = self.first_block or time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def describe(self, share: float | None) -> str:
        rate = self.tokens / max(self.seconds, 1e-9)
        rejects = f", {self.rejects:,} rejected" if self.rejects else ""
        left = self.time_left(share)
        return f"{self.documents:,} documents{rejects}, {self.tokens:,} tokens, {rate:,.0f} tokens/s{left}"

    def time_left(self, share: float | None) -> str:
        """`, 3 min 20 s left`; nothing where that cannot be told yet."""
        working = time.monotonic() - (self.first_block or self.started)
        if share is None or self.blocks <= 1 or first_share(share, self.blocks) <= 0:
            return ""
        return f", {duration(working * (1 - share) / first_share(share, self.blocks))} left"


def first_share(share: float, blocks: int) -> float:
    """Share done since the first block came: what the clock that starts with it has seen."""
    return share * (blocks - 1) / blocks


def duration(seconds: float) -> str:
    """`7 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass
class Share:
    """The share of an attempt's work that is done. `n_bytes`: stored bytes of its units, by unit; `limit`: records at
    most, where the job sets a limit; `plain`: whether stored bytes are those of the text."""

    n_bytes: Mapping[int, int]
    limit: int | None
    plain: bool
    finished: int = 0  # stored bytes

    @classmethod
    def of(cls, plan: Plan, tasks: Sequence[Task]) -> Share:
        shards = plan.listing.shards
        packed = any(s.format in ("parquet", "arrow") or s.uri.lower().endswith((".gz", ".zst")) for s in shards)
        return cls({task.unit.index: task.unit.n_bytes for task in tasks}, plan.config.limit, not packed)

    def add(self, manifest: dict[str, Any]) -> None:
        if manifest["is_last"]:
            self.finished += self.n_bytes.get(manifest["unit"], 0)

    def __call__(self, counts: Counts) -> float | None:
        """At most 0.99 before the end; None where nothing is known."""
        if self.limit is not None:
            return min(0.99, (counts.documents + counts.rejects) / self.limit)
        total = sum(self.n_bytes.values())
        done = max(self.finished, counts.text_bytes if self.plain else 0)
        return min(0.99, done / total) if done and total else None


class Progress:
    """A context manager; call it with each manifest. `verb`: what is done, as the lines begin."""

    def __init__(
        self, share: Share, stream: TextIO | None = None, *, counts: Counts | None = None, verb: str = "scoring"
    ) -> None:
        self.share, self.stream, self.verb = share, stream or sys.stderr, verb
        self.counts = counts or Counts()
        self._bar: Any = None
        self._task: Any = None
        self._last_line = 0.0

    def __enter__(self) -> Progress:
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            console = Console(file=self.stream)
            self._bar = Bar(TextColumn(self.verb), BarColumn(), TextColumn("{task.description}"), console=console)
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __call__(self, manifest: dict[str, Any]) -> None:
        self.counts.add(manifest)
        self.share.add(manifest)
        share = self.share(self.counts)
        if self._bar is not None:
            self._bar.update(self._task, completed=share or 0.0, description=self.counts.describe(share))
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self.verb}: {self.counts.describe(share)}", file=self.stream, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
