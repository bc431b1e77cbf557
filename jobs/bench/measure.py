"""How we measure: variants take turns (A B C A B C ...), medians are quoted, ratios are taken within a round.

Turns make a drifting machine hit all variants alike; ratios within a round cancel what is left. The last line of every
benchmark is one JSON record of everything printed, with versions and machine.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.bench.machine import machine, versions

Clock = Callable[[Callable[[], Any]], float]

WIDTH = 200  # of a table that goes into a file: nothing is folded


@dataclass(frozen=True)
class Timing:
    """Seconds of each counted round, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range over the median: how noisy the machine was."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median

    def ratio(self, other: Timing) -> float:
        """Median over rounds of this time over the other's."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def wall_clock(run: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def take_turns(variants: Mapping[str, Callable[[], Any]], rounds: int, clock: Clock = wall_clock) -> dict[str, Timing]:
    """Time every variant once a round by `clock`, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for counted in range(-1, rounds):
        for name, run in variants.items():
            taken = clock(run)
            if counted >= 0:
                seconds[name].append(taken)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_extra_bytes(prepare: Callable[..., Callable[[], Any]], *args: Any) -> int:
    """Peak memory that a variant adds to what its preparation held, in a process of its own.

    `prepare(*args)` sets up and returns the variant; both must be importable by name.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak = int(pool.apply(_peak, (prepare, args)))
        pool.close()  # killed, the process would leave its semaphores (a progress bar's lock) to be warned about
        pool.join()
    return peak


def _peak(prepare: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> int:
    run = prepare(*args)
    before = memory_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak that loading reached
    run()
    return max(0, memory_status("VmHWM") - before)


def memory_status(name: str) -> int:
    """A field of this process's memory status (`VmRSS`, `VmHWM`, ...), in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def show(title: str, columns: list[str], rows: list[list[str]], words: Collection[str] = ()) -> None:
    """A plain table on standard output; `words`: columns that hold text, not numbers, besides the first."""
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, column in zip(columns[1:], table.columns[1:], strict=True):
        column.justify = "left" if name in words else "right"
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else WIDTH
    Console(soft_wrap=True, width=width).print(table)


def record(benchmark: str, results: Any, **config: Any) -> None:
    """The last line: one JSON record."""
    line: dict[str, Any] = {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
    }
    line |= {"versions": versions(), "machine": machine(), "config": config, "results": results}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
