"""How much memory a command takes with all its processes, sampled while it runs: peaks in MiB.

    python tests/support/memory.py -- assay score ...

    driver     the command's first process
    workers    Ray's workers, by their title `ray::...`
    services   everything else it started (raylet, GCS, agents)
    store      shared memory: Ray's object store
    total      the largest sum of these at one moment, not the sum of their peaks

A page that several processes map is shared out among them (PSS), so nothing is counted twice. Shared memory is taken
out of the processes and counted once: the blocks of the files in /dev/shm that they hold open, which last when the
process that wrote them is gone. The price is a few milliseconds of /proc a process and sample; a peak shorter than the
interval can be missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from processes import PROC, Family, Process, title

INTERVAL = 0.25  # seconds between samples
SHARED_MEMORY = "/dev/shm/"
_MIB = 1 << 20


@dataclass
class Usage:
    """MiB in use, or at the peak."""

    driver: float = 0.0
    workers: float = 0.0
    services: float = 0.0
    store: float = 0.0
    total: float = 0.0


@dataclass
class Peak:
    """The largest usage seen so far, part by part, and the number of samples behind it."""

    usage: Usage = field(default_factory=Usage)
    samples: int = 0

    def add(self, now: Usage) -> None:
        self.samples += 1
        for part in fields(Usage):
            setattr(self.usage, part.name, max(getattr(self.usage, part.name), getattr(now, part.name)))


def usage(members: Iterable[Process], driver: int) -> Usage:
    """What these processes hold now; `driver` is the pid of the first."""
    now, mapped, files = Usage(), 0, dict[tuple[int, int], int]()
    for process in members:
        private, shared = _shares(process.pid)
        part = "driver" if process.pid == driver else "workers" if title(process).startswith("ray::") else "services"
        setattr(now, part, getattr(now, part) + private / _MIB)
        mapped += shared
        files.update(_shared_files(process.pid))
    now.store = max(mapped, sum(files.values())) / _MIB
    now.total = now.driver + now.workers + now.services + now.store
    return now


def _shares(pid: int) -> tuple[int, int]:
    """Bytes of a process outside shared memory and in it, pages of several processes in equal shares."""
    sizes = {"Pss": 0, "Pss_Shmem": 0}
    with contextlib.suppress(OSError, ProcessLookupError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in sizes:
                sizes[name] = int(value.split()[0]) * 1024
    return sizes["Pss"] - sizes["Pss_Shmem"], sizes["Pss_Shmem"]


def _shared_files(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    """((device, inode), bytes allocated) of the files in shared memory that a process holds open, deleted or not."""
    folder = PROC / str(pid) / "fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - many times a second
            with contextlib.suppress(OSError):
                if os.readlink(folder / name).startswith(SHARED_MEMORY):  # noqa: PTH115 - the text, not the file
                    status = os.stat(folder / name)  # noqa: PTH116 - follows the open file, also a deleted one
                    yield (status.st_dev, status.st_ino), status.st_blocks * 512


@contextmanager
def watched(family: Family, driver: int, interval: float = INTERVAL) -> Iterator[Peak]:
    """Sample a family in a thread until the context ends."""
    peak, done = Peak(), threading.Event()

    def sample() -> None:
        while True:
            peak.add(usage(family.members(), driver))
            if done.wait(interval):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def run(command: list[str], interval: float = INTERVAL, **how: object) -> tuple[int, Peak]:
    """Run a command to its end; its exit status and its peak. `how` goes to `subprocess.Popen`."""
    family = Family()
    environment = {**os.environ, **family.environment}
    process = subprocess.Popen(command, env=environment, **how)  # type: ignore[call-overload]
    try:
        with watched(family, process.pid, interval) as peak:
            status = int(process.wait())
    finally:
        process.kill()
        process.wait()
        family.end()
    return status, peak


def main() -> int:
    parser = argparse.ArgumentParser(description="Peak memory of a command with all its processes, in MiB.")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between samples")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the command, after --")
    asked = parser.parse_args()
    status, peak = run(asked.command, asked.interval)
    for name, mib in asdict(peak.usage).items():
        print(f"{name:10}{mib:10,.0f} MiB", file=sys.stderr)
    line = json.dumps({"peak_mib": {k: round(v, 1) for k, v in asdict(peak.usage).items()},
                       "samples": peak.samples, "exit": status})  # fmt: skip
    print(line)
    if asked.out:
        asked.out.write_text(line + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
