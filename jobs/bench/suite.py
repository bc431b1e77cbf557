"""`assay bench all`: every benchmark that this machine can run, as one dated record with a verdict on every target.

    each benchmark in a process of its own -> its table and its JSON line -> the record -> the table of targets

A process each, so that none warms, fills or fragments the memory of the next, and one that fails costs its own numbers
only. The record grows step by step: what was measured before an interruption is kept. A benchmark that this machine
cannot run, or that failed, is in the record with the reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import typer

from jobs.bench.machine import cuda_device, hardware, machine, versions
from jobs.bench.targets import SUITE, judge, lines_of, show_verdicts

RECORDS = Path("infra/benchmarks")
STEP_SECONDS = 1800  # a benchmark that takes longer is ended: something is wrong with it or with the machine


@dataclass(frozen=True)
class Step:
    """`assay bench <verb> <arguments>`. `needs`: packages without which it cannot run; `cuda`: needs a device;
    `demo`: reads the demo that `first-use` makes."""

    verb: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    cuda: bool = False
    demo: bool = False

    def obstacle(self) -> str | None:
        """Why it cannot run here, None where it can."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        return "there is no CUDA device" if self.cuda and cuda_device() is None else None


def steps(demo: Path) -> list[Step]:
    """What is run, in order. `demo`: a folder for the demo, which the storage benchmark reads again."""
    whole = ("ray", "duckdb", "pydantic")
    folder = ("--folder", str(demo))
    return [
        Step("first-use", (*folder,), (*folder, "--rounds", "3"), whole),
        Step("statistics", ("--rounds", "5"), ("--rounds", "1", "--shape", "wide", "--dtype", "float32")),
        Step("products", (), ("--rounds", "1")),
        Step("score", ("--shape", "gpt2-small", "--documents", "12", "--rounds", "3"),
             ("--shape", "gpt2-small", "--documents", "8", "--rounds", "1")),
        Step("score", ("--shape", "wide", "--documents", "32", "--rounds", "3"),
             ("--shape", "wide", "--documents", "16", "--rounds", "1")),
        Step("query", ("--tokens", "20000000", "--rounds", "3"), ("--tokens", "1000000", "--rounds", "1"), ("duckdb",)),
        Step("storage", folder, folder, whole, demo=True),
        Step("extraction", folder, (*folder, "--windows", "300", "--sampled", "2", "--draws", "200"), whole,
             demo=True),
        Step("overlap", ("--size", "1GB", "--items", "20000", "--compared", "20MB"),
             ("--size", "2MB", "--items", "200", "--compared", "200KB"), whole),
        Step("mixture", (), ("--merges", "800", "--sources", "3", "--size", "1MB", "--worlds", "2"), whole),
        Step("tokenizers", ("--size", "1GB", "--engine", "ray"), ("--size", "2MB", "--engine", "inline"), whole),
        Step("calibration", (), ("--quick",), ("scipy", "sklearn")),
        Step("memory", (), ("--tokens", "400000")),
        Step("scaling", (), ("--seconds", "15", "--rounds", "1"), whole),
        Step("resume", ("--shards", "1000000"), ("--shards", "10000"), whole),
        Step("device", (), ("--rounds", "1"), cuda=True),
    ]  # fmt: skip


def bench_all(quick: bool, output: Path | None, only: Sequence[str] = ()) -> Path:
    """Run the verb; returns the record's path.

    Args:
        quick: a few minutes over too little to be quoted, to see that everything runs.
        output: the record; by default `infra/benchmarks/<date>-<hardware>.txt`, with a number where that exists.
        only: verbs to run, all by default; `first-use` runs, too, where one of them reads its demo.

    Raises:
        BadParameter: an unknown verb.
        OSError: the record cannot be written, or is there already; found out before anything is measured.
    """
    known = {step.verb for step in steps(Path())}
    unknown = [verb for verb in only if verb not in known]
    if unknown:
        raise typer.BadParameter(f"--only {unknown[0]}: choose from {', '.join(sorted(known))}")
    path = output or free_path(RECORDS if RECORDS.is_dir() else Path(), f"{time.strftime('%Y-%m-%d')}-{hardware()}")
    with path.open("x", encoding="utf-8") as file, tempfile.TemporaryDirectory() as scratch:
        say = _both(file)
        say(_header(quick))
        for step in chosen(steps(Path(scratch) / "demo"), only):
            say(_run(step, quick, say))
        say(_targets(path))
    sys.stdout.write(f"record: {path}\n")
    return path


def chosen(every: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """The steps asked for, and `first-use` before those that read its demo."""
    asked = [step for step in every if not only or step.verb in only]
    verbs = {step.verb for step in asked} | {"first-use" for step in asked if step.demo}
    return [step for step in every if step.verb in verbs]


def free_path(folder: Path, name: str) -> Path:
    """`folder/name.txt`, or `name-2.txt`, `name-3.txt`, ...: records are never overwritten."""
    path, number = folder / f"{name}.txt", 2
    while path.exists():
        path, number = folder / f"{name}-{number}.txt", number + 1
    return path


def _both(file: TextIO) -> Callable[[str], None]:
    """Writes to the record and to standard output at once."""

    def say(text: str) -> None:
        for stream in (file, sys.stdout):
            stream.write(text)
            stream.flush()

    return say


def _header(quick: bool) -> str:
    facts, found = machine(), versions()
    line = {
        "benchmark": SUITE,
        "date": time.strftime("%Y-%m-%d"),
        "versions": found,
        "machine": facts,
        "config": {"quick": quick},
    }
    said = [
        f"assay bench all{' --quick: over too little to be quoted' if quick else ''}",
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {hardware()}",
        ", ".join(f"{name} {value}" for name, value in facts.items()),
        ", ".join([f"python {platform.python_version()}", *(f"{name} {value}" for name, value in found.items())]),
        json.dumps(line),
    ]
    return "\n".join(said) + "\n\n"


def _run(step: Step, quick: bool, say: Callable[[str], None]) -> str:
    """Run one benchmark, its output shown as it comes; returns what closes its part of the record."""
    arguments = ["bench", step.verb, *(step.quick if quick else step.full)]
    say(f"$ assay {' '.join(arguments)}\n")
    obstacle = step.obstacle()
    if obstacle is not None:
        return _skipped(step, obstacle)
    started = time.perf_counter()
    code, peak, complaint = _process([sys.executable, "-m", "jobs.cli", *arguments], say)
    if code:
        return _skipped(step, f"it failed with exit code {code}: {complaint}")
    return f"[{time.perf_counter() - started:.0f} s, peak {peak / 2**20:,.0f} MiB in one process]\n\n"


def _skipped(step: Step, reason: str) -> str:
    line = {"benchmark": step.verb, "date": time.strftime("%Y-%m-%d"), "skipped": reason}
    return f"not measured: {reason}\n{json.dumps(line)}\n\n"


def _process(command: Sequence[str], say: Callable[[str], None]) -> tuple[int, int, str]:
    """Exit code, peak resident bytes and last complaint of a process in a group of its own."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
        )
        late = threading.Timer(STEP_SECONDS, _end, (process,))
        late.start()
        try:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    say(line)
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process)
            process.wait()
            raise
        finally:
            late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        complaints.seek(0)
        last = [line.strip() for line in complaints if line.strip()][-1:]
    return process.returncode, usage.ru_maxrss * 1024, last[0][:300] if last else "nothing on standard error"


def _end(process: subprocess.Popen[str]) -> None:
    """End a benchmark with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _targets(path: Path) -> str:
    verdicts = judge(lines_of(path.read_text(encoding="utf-8")))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        show_verdicts(verdicts)
    results = {v.target.says: {"verdict": v.word, "value": v.value, "why": v.why} for v in verdicts}
    line = {"benchmark": "targets", "date": time.strftime("%Y-%m-%d"), "results": results}
    return f"{said.getvalue()}{json.dumps(line)}\n"
