"""`assay bench overlap`: does `assay overlap` find all that was planted and nothing else, how fast, in how much memory?

    corpus with planted n-grams, truth (`corpus`)
        -> assay overlap, whole corpus: inline on one core, Ray on two -> tables against the truth (`truth`)
        -> a share of the shards: assay overlap, datatrove's n-gram decontamination, in turns, on as many cores

Every run is a command in a process of its own, as a user starts it, so seconds hold its start. Exit code 1 where recall
or precision is below 1, or any count of any item is wrong.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from jobs.bench.measure import record
from jobs.bench.overlap import peer
from jobs.bench.overlap.corpus import make_corpus
from jobs.bench.overlap.items import FOUND, LEAST_N
from jobs.bench.overlap.report import planted, report, report_compared
from jobs.bench.overlap.variants import CORES, Variant, assay, compared_part, datatrove

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bench_overlap(
    size: str = "20MB",
    items: int = 2000,
    engines: Sequence[str] = tuple(CORES),
    n: int = 13,
    rounds: int = 1,
    compared: str = "2MB",
    peers: bool = True,
    seed: int = 0,
) -> bool:
    """Run the verb; returns whether everything that was planted was found, and nothing else.

    Args:
        size: of the corpus's text; `compared`: of the share of it that datatrove is given too. "20MB", "1GB".

    Raises:
        typer.BadParameter: a size that is none or holds no plant, an unknown engine, an n too small, too few items.
    """
    n_bytes, n_compared = parse_size(size, "--size"), parse_size(compared, "--compared")
    unknown = [engine for engine in engines if engine not in CORES]
    if unknown:
        raise typer.BadParameter(f"--engine {unknown[0]}: choose from {', '.join(CORES)}")
    if n < LEAST_N:
        raise typer.BadParameter(f"--ngram {n}: at least {LEAST_N}; shorter stretches recur by chance")
    with tempfile.TemporaryDirectory() as folder:
        try:
            corpus = make_corpus(Path(folder) / "made", n_bytes, items, n, seed)
        except ValueError as error:
            raise typer.BadParameter(f"--items {items}: {error}") from None
        kinds = planted(corpus)
        if not any(kinds[kind] for kind in FOUND):
            raise typer.BadParameter(f"--size {size}: nothing was planted in {corpus.n_documents} documents; take more")
        config = {
            "bytes": corpus.n_bytes, "documents": corpus.n_documents, "shards": len(corpus.shards), "items": items,
            "size": n_bytes, "n": n, "rounds": rounds, "seed": seed, "planted": kinds, "cores": CORES,
        }  # fmt: skip
        engines = tuple(dict.fromkeys(engines))
        whole = [assay(engine, corpus) for engine in engines]
        _take_turns(whole, rounds, Path(folder))
        part = compared_part(corpus, n_compared) if peers and not peer.missing() else None
        beside = [] if part is None else [v for e in engines for v in (assay(e, part), datatrove(CORES[e], part))]
        _take_turns(beside, rounds, Path(folder))
        results = report(corpus, whole, rounds)
        if part is not None:
            results["compared"] = report_compared(part, beside)
        elif peers:
            sys.stdout.write(f"not compared with datatrove: {', '.join(peer.missing())} is not installed\n")
    record("overlap", results, **config)
    return all(variant.seen.is_right for variant in (*whole, *beside[::2]))


def parse_size(text: str, flag: str) -> int:
    """Bytes of "20MB".

    Raises:
        typer.BadParameter: not a number with B, KB, MB or GB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B|)", text.strip().upper())
    n_bytes = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if n_bytes < 1:
        raise typer.BadParameter(f"{flag} {text}: a size as 20MB or 1GB")
    return n_bytes


def _take_turns(variants: Sequence[Variant], rounds: int, scratch: Path) -> None:
    for _ in range(rounds):
        for variant in variants:
            variant.run(scratch)
