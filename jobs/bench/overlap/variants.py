"""The tools that are compared, each a command in a process of its own, as a user starts it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.bench.measure import Timing
from jobs.bench.overlap import peer
from jobs.bench.overlap.corpus import Corpus
from jobs.bench.overlap.truth import check
from jobs.bench.process_tree import run_command

CORES = {"inline": 1, "ray": 2}
NAME = "bench"
TIMEOUT = 1700.0  # seconds of one command


@dataclass
class Variant:
    """One tool on so many cores over one corpus, and what its runs took. `seen`: what `look` makes of its output."""

    name: str
    cores: int
    corpus: Corpus
    command: Callable[[Path], Sequence[str]]
    look: Callable[[Path], Any]
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    seen: Any = None

    def run(self, scratch: Path) -> None:
        """Once, into a new folder.

        Raises:
            RuntimeError: it failed, with the end of what it said.
        """
        output = Path(tempfile.mkdtemp(dir=scratch))
        done = run_command(self.command(output), self.cores, TIMEOUT)
        if done.code:
            late = f" (it may take {TIMEOUT:,.0f} s)" if done.seconds >= TIMEOUT else ""
            raise RuntimeError(f"{self.name} ended with exit code {done.code}{late}: {done.complaint[-500:]}")
        self.seconds.append(done.seconds)
        self.peaks.append(done.peak_bytes)
        self.seen = self.look(output)
        shutil.rmtree(output)

    @property
    def timing(self) -> Timing:
        return Timing(tuple(self.seconds))

    @property
    def rate(self) -> float:
        """MB of text a second, whole command."""
        return self.corpus.n_bytes / self.timing.median / 1e6


def compared_part(corpus: Corpus, n_bytes: int) -> Corpus:
    """The first shards of a corpus, with `n_bytes` of text, in a folder of their own: as many of both formats for each
    core, because datatrove deals the files of each to its tasks, the first to the first."""
    count = step = 2 * max(CORES.values())
    while count < len(corpus.shards) and sum(corpus.shard_bytes[:count]) < n_bytes:
        count += step
    return corpus.part(count, corpus.folder / "compared")


def assay(engine: str, corpus: Corpus) -> Variant:
    """`assay overlap` with an engine, and the verdict on its tables."""
    columns = ("--id-column", "id", "--input-column", "input", "--answer-column", "answer")

    def command(output: Path) -> list[str]:
        sides = ("--benchmark", str(corpus.items), "--corpus", str(corpus.documents))
        how = ("--ngram", str(corpus.benchmark.n), "--engine", engine)
        where = ("--lake", str(output), "--name", NAME)
        return [sys.executable, "-m", "jobs.cli", "overlap", *sides, *columns, *how, *where]

    return Variant(f"assay, {engine}", CORES[engine], corpus, command, lambda output: check(corpus, output, NAME))


def datatrove(workers: int, corpus: Corpus) -> Variant:
    """datatrove's decontamination, and the documents that it removes."""

    def command(output: Path) -> list[str]:
        numbers = (str(corpus.benchmark.n), str(workers))
        folders = (str(corpus.items), str(corpus.documents), str(output))
        return [sys.executable, "-m", "jobs.bench.overlap.peer", *folders, *numbers]

    return Variant(f"datatrove, {workers} task{'s' * (workers > 1)}", workers, corpus, command, peer.removed)
