"""The processes that a command started, found in /proc: who they are, what they are called, and how to end them all.

A process belongs to a family if it carries the family's mark in its environment, or descends from one that does (Ray's
workers write their titles over their environment), and once seen it stays one when its parent dies. Processes are told
apart by pid and start time, so that a pid used again is never mistaken for an old one. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
MARK = "ASSAY_TEST_FAMILY"
END_SECONDS = 20.0


class Process(NamedTuple):
    """One process; `started`: clock ticks since boot."""

    pid: int
    started: int


class _Entry(NamedTuple):
    process: Process
    parent: int


def _entry(pid: int) -> _Entry | None:
    """The process of a pid; None where there is none or only its exit status is left."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="latin-1")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else _Entry(Process(pid, int(fields[19])), int(fields[1]))


def _entries() -> Iterator[_Entry]:
    for name in os.listdir(PROC):  # noqa: PTH208 - thousands of times a run
        if name.isdigit() and (entry := _entry(int(name))) is not None:
            yield entry


def title(process: Process) -> str:
    """The command line as `ps` shows it, a worker of Ray by what it runs; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return (
            (PROC / str(process.pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        )
    return ""


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; whether it was there to get it."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        entry = _entry(process.pid)
        if entry is None or entry.process != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@dataclass
class Family:
    """The processes started with `environment` and those that they start."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    known: set[Process] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        return {MARK: self.name}

    def members(self) -> set[Process]:
        """Those alive now; found ones are remembered."""
        entries = {entry.process.pid: entry for entry in _entries()}
        found = {e.process for e in entries.values() if e.process in self.known or self._is_marked(e.process.pid)}
        waiting = [entry for entry in entries.values() if entry.process not in found]
        while born := {e.process for e in waiting if e.parent in entries and entries[e.parent].process in found}:
            found |= born
            waiting = [entry for entry in waiting if entry.process not in born]
        self.known |= found
        return found

    def end(self) -> int:
        """End every member; how many there were.

        All are stopped before any is ended: what has just lost its parent must not start another meanwhile.

        Raises:
            TimeoutError: some are still there.
        """
        ended: set[Process] = set()
        while fresh := self.members() - ended:
            for process in fresh:
                send(process, signal.SIGSTOP)
            ended |= fresh
        for process in ended:
            send(process, signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while left := self.members():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still there after {END_SECONDS} s: {sorted(title(p)[:60] for p in left)}")
            time.sleep(0.02)
        return len(ended)

    def _is_marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return f"{MARK}={self.name}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return False
