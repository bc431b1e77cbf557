"""Runs a command as a user would, on some of the cores: its seconds, and the peak memory of all its processes.

Memory is the proportional set size (PSS, Linux) summed over the command and its descendants, so that pages that several
processes share count once. It is read every tenth of a second: a shorter peak may be missed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.1  # seconds between two readings, or
_REST = 19  # times what a reading took, whichever is longer: large processes are slow to read


@dataclass(frozen=True)
class Done:
    """`output`: standard output; `complaint`: the end of standard error."""

    code: int
    seconds: float
    peak_bytes: int
    output: str
    complaint: str


def run_command(command: Sequence[str], cores: int, timeout: float) -> Done:
    """Run to the end on the first `cores` cores that this process may use; its group is ended when it takes longer."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        started = time.perf_counter()
        with _on_cores(cores):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
            )
        sampler = _Sampler(process.pid)
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            output = ""
        finally:
            sampler.stop()
        seconds = time.perf_counter() - started
        complaints.seek(0)
        return Done(process.returncode, seconds, sampler.peak, output, complaints.read()[-2000:])


@contextlib.contextmanager
def _on_cores(cores: int) -> Iterator[None]:
    """What is started within runs on these cores."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


class _Sampler(threading.Thread):
    """Reads the memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self._is_over = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        pause = _INTERVAL
        while not self._is_over.wait(pause):
            began = time.thread_time()
            self.peak = max(self.peak, sum(map(_memory, family(self.pid))))
            pause = max(_INTERVAL, _REST * (time.thread_time() - began))

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                after_name = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                children[int(after_name[1])].append(int(entry.name))
    found = [pid]
    for member in found:
        found += children[member]
    return found


def _memory(pid: int) -> int:
    """PSS in bytes; 0 where the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
