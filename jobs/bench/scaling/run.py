"""`assay bench scaling`: what two actors do against one, and the Ray engine against a plain loop, one thread each.

    a corpus that one thread scores in `--seconds`
        -> inline on one core -> Ray, one actor -> Ray, two actors -> two inline runs at once    (in turns)
        -> speed after the fixed start, the start, the whole command, memory, a digest of all rows: equal, else code 1

Ray has two cores throughout: its readers, tokenizers and writers run beside the actors. `per core` is the speed of two
actors, halved, over that of the plain loop, which reads, tokenizes and writes on its one core, too. Two inline runs at
once share nothing but the machine: what they do not reach together no engine can. GPT-2 small is the smallest model
that people score with. Of `small`, a toy, all the rest of a run is an eighth of the work, and one actor leaves it to a
second core.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from jobs.bench.measure import record, show
from jobs.bench.scaling.corpus import SHAPES, bytes_a_second, make_model, write_corpus
from jobs.bench.scaling.measured import Measured, measure, measure_at_once
from operators.machine import usable_cores

CONTEXT = 1024
INLINE, ONE, TWO, ALONE = "inline", "ray, 1 actor", "ray, 2 actors", "inline twice"
ENOUGH_SECONDS = 100  # that one thread took after its start: from then on the targets are judged
_ENGINES = {
    INLINE: (("--engine", "inline"), 1, 1),
    ONE: (("--engine", "ray", "--actors", "1"), 1, 2),
    TWO: (("--engine", "ray", "--actors", "2"), 2, 2),
}  # flags, actors, cores


def bench_scaling(seconds: float, shape: str, rounds: int) -> bool:
    """Run the verb; returns whether all runs wrote the same rows.

    Raises:
        typer.BadParameter: an unknown shape, or a machine of one core.
        RuntimeError: a command failed, with the end of what it said.
    """
    if shape not in SHAPES:
        raise typer.BadParameter(f"--shape {shape}: choose from {', '.join(SHAPES)}")
    if usable_cores() < 2:
        raise typer.BadParameter("this process may use one core only: two actors need two")
    with tempfile.TemporaryDirectory(prefix="assay-scaling-") as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model", shape)
        n_bytes = int(seconds * bytes_a_second(model, CONTEXT))
        n_documents = write_corpus(folder / "corpus", n_bytes)
        runs: dict[str, list[Measured]] = {name: [] for name in (*_ENGINES, ALONE)}
        together: list[float] = []
        for _ in range(rounds):
            for name, (engine, actors, cores) in _ENGINES.items():
                lake = folder / "lake"
                runs[name].append(measure(model, folder / "corpus", lake, CONTEXT, engine, actors=actors, cores=cores))
                shutil.rmtree(lake)
            lakes = [folder / f"lake-{place}" for place in range(2)]
            pair = measure_at_once(model, folder / "corpus", lakes, CONTEXT)
            together.append(sum(run.tokens_per_s for run in pair))
            runs[ALONE] += pair
            for lake in lakes:
                shutil.rmtree(lake)
    results = _results(runs, together)
    _show(results, seconds, shape, rounds, n_documents)
    enough = results[INLINE]["phase_s"] >= ENOUGH_SECONDS
    if not enough and seconds >= ENOUGH_SECONDS:
        sys.stdout.write(f"one thread took less than {ENOUGH_SECONDS} s: not judged, give more --seconds\n")
    record(
        "scaling", results, shape=shape, seconds=seconds, rounds=rounds, bytes=n_bytes, documents=n_documents,
        context=CONTEXT, enough=enough, threads=1,
    )  # fmt: skip
    return bool(results["rows_agree"])


def _results(runs: dict[str, list[Measured]], together: Sequence[float]) -> dict[str, Any]:
    """For the record: medians by variant, and ratios taken within a round."""
    found: dict[str, Any] = {name: _medians(of_name) for name, of_name in runs.items()}
    found[ALONE]["tokens_per_s"] = statistics.median(together)
    speed = {name: [run.tokens_per_s for run in of_name] for name, of_name in runs.items()} | {ALONE: together}
    whole = {name: [run.seconds for run in of_name] for name, of_name in runs.items()}
    found["ratios"] = {
        "two over one": _ratio(speed[TWO], speed[ONE]),
        "per core of inline": _ratio(speed[TWO], speed[INLINE]) / 2,
        "one actor of inline": _ratio(speed[ONE], speed[INLINE]),
        "machine, two over one": _ratio(speed[ALONE], speed[INLINE]),
        "two over one, whole command": _ratio(whole[ONE], whole[TWO]),
    }
    found["rows_agree"] = len({run.digest for of_name in runs.values() for run in of_name}) == 1
    return found


def _medians(runs: Sequence[Measured]) -> dict[str, Any]:
    return {
        "tokens_per_s": statistics.median(run.tokens_per_s for run in runs),
        "start_s": statistics.median(run.start_s for run in runs),
        "phase_s": statistics.median(run.tokens / run.tokens_per_s for run in runs),
        "median_s": statistics.median(run.seconds for run in runs),
        "peak_mib": max(run.peak_bytes for run in runs) / 2**20,
        "tokens": runs[0].tokens,
        "blocks": runs[0].blocks,
        "digest": runs[0].digest,
    }


def _ratio(these: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, others, strict=True))


def _show(results: dict[str, Any], seconds: float, shape: str, rounds: int, n_documents: int) -> None:
    ratios = results["ratios"]
    rows = [
        [name, f"{r['tokens_per_s']:,.0f}", f"{r['start_s']:.1f}", f"{r['median_s']:.1f}", f"{r['peak_mib']:,.0f}",
         f"{r['tokens']:,}", f"{r['blocks']:,}", r["digest"]]
        for name, r in results.items() if name in (*_ENGINES, ALONE)
    ]  # fmt: skip
    title = f"{shape}: {n_documents:,} documents, {seconds:g} s of one thread; medians of {rounds}"
    columns = ["variant", "tokens/s after the start", "start s", "whole s", "peak MiB", "tokens", "blocks", "digest"]
    show(title, columns, rows, ("digest",))
    sys.stdout.write(
        f"two actors over one {ratios['two over one']:.3f}x (the machine gives two separate runs "
        f"{ratios['machine, two over one']:.3f}x; whole commands {ratios['two over one, whole command']:.3f}x); "
        f"two actors, a core, of inline {ratios['per core of inline']:.3f}; "
        f"one actor of inline {ratios['one actor of inline']:.3f}\n"
    )
    if not results["rows_agree"]:
        sys.stdout.write("the runs wrote different rows\n")
