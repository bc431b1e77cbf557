"""`assay bench tokenizers`: how fast a corpus is profiled, in how much memory, beside bare encoding of the same texts.

    texts of many scripts (`texts`), a tokenizer of real size (`trained`)
        -> assay tokenizers: inline on one core, Ray on two   \\ in turns, each a command of its own
        -> bare `encode_batch_fast`, on as many cores (`bare`) /
        -> documents and tokens of all, rows of both engines: they must agree, else exit code 1

Seconds of ours are of the whole command, its start, its intervals and its catalog included; those of bare encoding are
of the encoding alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import xxhash

from jobs.bench.measure import Timing, record, show
from jobs.bench.overlap.run import parse_size
from jobs.bench.process_tree import Done, run_command
from jobs.bench.tokenizers.texts import Texts, make_texts
from jobs.bench.tokenizers.trained import trained_tokenizer
from operators.tokenizer_statistics.registry import STATISTICS

CORES = {"inline": 1, "ray": 2}
NAME = "bench"
TIMEOUT = 1700.0  # seconds of one command


@dataclass
class Profiling:
    """What the runs of one engine took, and what bare encoding took in the same rounds on as many cores.

    `rows`: of the result. `tokens`, `documents`: of both, which must agree.
    """

    engine: str
    seconds: list[float] = field(default_factory=list)
    bare_seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    tokens: tuple[int, int] = (0, 0)
    documents: tuple[int, int] = (0, 0)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of the values over all documents. Which documents are checked, or in which group, follows from their paths,
        and so do the other values and all intervals."""
        values = [
            (row["part"], row["domain"], row["statistic"], row["value"])
            for row in self.rows
            if STATISTICS[row["statistic"]].behind == "documents"
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps(values).encode())

    @property
    def is_right(self) -> bool:
        return self.tokens[0] == self.tokens[1] > 0 and self.documents[0] == self.documents[1] > 0

    def results(self, texts: Texts) -> dict[str, Any]:
        """For the record."""
        timing, bare = Timing(tuple(self.seconds)), Timing(tuple(self.bare_seconds))
        return {
            "median_s": timing.median,
            "mb_s": texts.n_bytes / timing.median / 1e6,
            "bare_mb_s": texts.n_bytes / bare.median / 1e6,
            "over_bare": timing.ratio(bare),
            "peak_mib": max(self.peaks) / 2**20,
            "tokens": self.tokens[0],
            "documents": self.documents[0],
            "digest": self.digest,
            "is_right": self.is_right,
        }


def bench_tokenizers(size: str = "1GB", rounds: int = 1, engines: Sequence[str] = tuple(CORES), seed: int = 0) -> bool:
    """Run the verb; returns whether every engine counted what bare encoding counts, and all kept the same rows.

    Raises:
        typer.BadParameter: a size that is none, or an unknown engine.
        RuntimeError: a command failed, with the end of what it said.
    """
    n_bytes = parse_size(size, "--size")
    engines = tuple(dict.fromkeys(engines))
    unknown = [engine for engine in engines if engine not in CORES]
    if unknown:
        raise typer.BadParameter(f"--engine {unknown[0]}: choose from {', '.join(CORES)}")
    tokenizer = trained_tokenizer()
    with tempfile.TemporaryDirectory() as scratch:
        texts = make_texts(Path(scratch) / "texts", n_bytes, seed)
        variants = [Profiling(engine) for engine in engines]
        for _ in range(rounds):
            for variant in variants:
                _profile(variant, texts, tokenizer, Path(scratch))
                _encode(variant, texts, tokenizer)
    results = {variant.engine: variant.results(texts) for variant in variants}
    agree = all(variant.rows == variants[0].rows for variant in variants)
    _show(texts, results, rounds, agree=agree)
    config = {"size": n_bytes, "bytes": texts.n_bytes, "documents": texts.n_documents, "rounds": rounds, "seed": seed,
              "tokenizer": tokenizer.name, "cores": CORES}  # fmt: skip
    record("tokenizers", {**results, "engines_agree": agree}, **config)
    return agree and all(variant.is_right for variant in variants)


def _profile(variant: Profiling, texts: Texts, tokenizer: Path, scratch: Path) -> None:
    lake = Path(tempfile.mkdtemp(dir=scratch))
    command = [
        sys.executable, "-m", "jobs.cli", "tokenizers", "--tokenizer", f"bench={tokenizer}", "--input",
        str(texts.folder), "--domain-column", "domain", "--lake", str(lake), "--name", NAME, "--engine", variant.engine,
    ]  # fmt: skip
    done = _run(command, variant.engine)
    variant.seconds.append(done.seconds)
    variant.peaks.append(done.peak_bytes)
    folder = lake / "tokenizer_statistics" / f"profile={NAME}"
    (part,) = folder.glob("*.parquet")
    rows = pq.read_table(part, partitioning=None)
    every = rows.filter(pc.and_(pc.equal(rows["part"], "all"), pc.equal(rows["statistic"], "tokens_per_document")))
    n = json.loads((folder / "job.json").read_text())["facts"]["documents"]
    variant.tokens = round(every["value"][0].as_py() * n), variant.tokens[1]
    variant.documents = n, variant.documents[1]
    variant.rows = rows.to_pylist()
    shutil.rmtree(lake)


def _encode(variant: Profiling, texts: Texts, tokenizer: Path) -> None:
    cores = str(CORES[variant.engine])
    done = _run(
        [sys.executable, "-m", "jobs.bench.tokenizers.bare", str(texts.folder), str(tokenizer), cores], variant.engine
    )
    found = json.loads(done.output)
    variant.bare_seconds.append(found["seconds"])
    variant.tokens = variant.tokens[0], found["tokens"]
    variant.documents = variant.documents[0], found["documents"]


def _run(command: Sequence[str], engine: str) -> Done:
    done = run_command(command, CORES[engine], TIMEOUT)
    if done.code:
        late = f" (it may take {TIMEOUT:,.0f} s)" if done.seconds >= TIMEOUT else ""
        raise RuntimeError(f"{command[2]}, {engine}: exit code {done.code}{late}: {done.complaint[-500:]}")
    return done


def _show(texts: Texts, results: dict[str, dict[str, Any]], rounds: int, *, agree: bool) -> None:
    rows = [
        [f"assay tokenizers, {engine}", str(CORES[engine]), f"{r['median_s']:.1f}", f"{r['mb_s']:.2f}",
         f"{r['bare_mb_s']:.2f}", f"{r['over_bare']:.2f}", f"{r['peak_mib']:,.0f}", f"{r['tokens']:,}",
         "yes" if r["is_right"] else "NO", r["digest"]]
        for engine, r in results.items()
    ]  # fmt: skip
    title = f"{texts.n_bytes / 1e6:,.1f} MB of text in {texts.n_documents:,} documents; medians of {rounds}"
    columns = ["whole command", "cores", "s", "MB/s", "bare MB/s", "time over bare", "peak MiB", "tokens", "as bare",
               "digest"]  # fmt: skip
    show(title, columns, rows, ("as bare", "digest"))
    if not agree:
        sys.stdout.write("the engines kept different rows\n")
