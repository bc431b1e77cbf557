"""`assay bench first-use`: what a newcomer waits for: `assay --help`, and `assay demo` from nothing to its answer.

Both run as commands in processes of their own, as a user starts them; the demo goes into a folder that must not hold
one yet, for a second demo trains and scores nothing. The demo's own counts stand beside its seconds.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

from jobs.bench.measure import record, show, wall_clock

ASSAY = (sys.executable, "-m", "jobs.cli")
_SCORED = re.compile(r"^demo: ([\d,]+) documents, ([\d,]+) tokens", re.MULTILINE)
_MIN_K = re.compile(r"^min_k +([\d.]+)", re.MULTILINE)


def bench_first_use(folder: Path | None, rounds: int, with_demo: bool = True) -> None:
    """Run the verb. `folder`: where the demo goes and stays; None: a temporary folder.

    Raises:
        typer.BadParameter: the folder holds a demo already.
    """
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"--folder {folder}: it is not empty; a demo that is there already costs nothing")
    results = time_help(rounds)
    if with_demo:
        with tempfile.TemporaryDirectory() as scratch:
            results |= time_demo(folder or Path(scratch) / "demo")
    rows = [["assay --help", f"{results['help_s']:.3f} s", f"first {results['help_first_s']:.3f} s"]]
    if with_demo:
        said = f"{results['documents']:.0f} documents, {results['tokens']:,.0f} tokens, min_k AUROC {results['auroc']}"
        rows.append(["assay demo", f"{results['demo_s']:.0f} s", said])
    show(f"First use, help: median of {rounds} starts", ["command", "wall time", "note"], rows)
    record("first-use", results, rounds=rounds)


def time_help(rounds: int) -> dict[str, float]:
    """Seconds of `assay --help`: the first start, and the median of `rounds` more."""

    def start() -> None:
        subprocess.run([*ASSAY, "--help"], check=True, capture_output=True, timeout=60)

    first = wall_clock(start)
    return {"help_first_s": first, "help_s": statistics.median(wall_clock(start) for _ in range(rounds))}


def time_demo(folder: Path) -> dict[str, float]:
    """Seconds of `assay demo`, and what it says it scored."""
    started = time.perf_counter()
    done = subprocess.run(
        [*ASSAY, "demo", "--folder", str(folder)], check=True, capture_output=True, text=True, timeout=1200
    )
    seconds = time.perf_counter() - started
    return {"demo_s": seconds, **found_in(done.stdout)}


def found_in(said: str) -> dict[str, float]:
    """Documents, tokens and the AUROC of Min-K%, as the demo prints them."""
    scored, auroc = _SCORED.search(said), _MIN_K.search(said)
    if scored is None or auroc is None:
        raise RuntimeError(f"the demo printed no result: {said[-500:]}")
    documents, tokens = (int(number.replace(",", "")) for number in scored.groups())
    return {"documents": documents, "tokens": tokens, "auroc": float(auroc[1])}
