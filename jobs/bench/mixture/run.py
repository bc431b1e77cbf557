"""`assay bench mixture`: does `assay mixture tokenizer` find the shares a tokenizer was trained on, how fast?

    sources of this machine -> training set with random shares -> tokenizer    (set-up, not timed)
        -> assay mixture tokenizer on the other half of every source, a command on two cores -> shares against the truth
    small worlds of made-up languages -> shares, intervals
        -> one world without its largest source: is that said?  one with a source twice: is that said?

Real candidates are other documents than those trained on, though pieces of the same files, so what is measured is all
that a user would meet but a candidate of another kind. Seconds are those of the whole command, and by phase as it
states them; memory is that of all processes together, and by phase that of the largest process so far.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from jobs.bench.measure import Timing, record, show
from jobs.bench.mixture.worlds import World, made_up, n_bytes, real
from jobs.bench.process_tree import run_command
from pipelines.mixture.job import parse_size

CORES, TIMEOUT = 2, 1500.0  # seconds of one command
SMALL_MERGES, SMALL_BYTES = 1500, 600_000
WITHIN = 0.03  # mean absolute error that is promised


@dataclass(frozen=True)
class Recovered:
    """Shares of one world against the truth. `covered`: candidates whose interval holds the true share."""

    truth: Mapping[str, float]
    share: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]

    @property
    def error(self) -> float:
        """Mean absolute error."""
        return sum(abs(self.share[name] - true) for name, true in self.truth.items()) / len(self.truth)

    @property
    def covered(self) -> int:
        return sum(self.low[name] <= true <= self.high[name] for name, true in self.truth.items())


def bench_mixture(merges: int = 30_000, sources: int = 5, size: str = "50MB", worlds: int = 10, rounds: int = 1,
                  seed: int = 0) -> bool:  # fmt: skip
    """Run the verb; returns whether made-up worlds were found within what is promised, and degenerate ones said.

    Of the real sources the targets judge: with little text they are not to be found so closely.

    Args:
        size: of the text the tokenizer is trained on, and of the candidates together. "50MB".

    Raises:
        typer.BadParameter: a size that is none.
        RuntimeError: the command failed.
    """
    text = parse_size(size)
    if not text or text < 100_000:
        raise typer.BadParameter(f"--size {size}: a size from 100KB on, as 50MB")
    with tempfile.TemporaryDirectory() as folder:
        world = real(sources, text, seed)
        paths = world.write(Path(folder) / "world", merges)
        runs = [_command(paths, Path(folder), merges) for _ in range(rounds)]
    seconds = Timing(tuple(run["wall_s"] for run in runs))
    last = runs[-1]
    recovered = _recovered(world.truth, last["shares"])
    small = [_small(made_up(3, SMALL_BYTES, seed + i)) for i in range(worlds)]
    degenerate = _degenerate(made_up(3, SMALL_BYTES, seed))
    results = {
        "median_s": seconds.median,
        "peak_mib": max(run["all_peak_mib"] for run in runs),
        "phases_s": last["seconds"],
        "phases_peak_mib": last["peak_mib"],
        "mae": recovered.error,
        "covered": recovered.covered / len(recovered.truth),
        "shares": {name: [recovered.truth[name], recovered.share[name], recovered.low[name], recovered.high[name]]
                   for name in recovered.truth},
        "constraints": last["constraints"],
        "rounds": last["rounds"],
        "merges_used": last["merges_used"],
        "misfit": last["misfit"],
        "is_misfit": last["is_misfit"],
        "worlds": _summary(small),
        **degenerate,
    }  # fmt: skip
    _report(world, results, recovered, degenerate)
    config = {
        "merges": merges, "sources": sources, "size": text, "rounds": rounds, "seed": seed, "worlds": worlds,
        "cores": CORES, "trained_bytes": {name: n_bytes(texts) for name, texts in world.training.items()},
        "candidate_bytes": {name: n_bytes(texts) for name, texts in world.candidates.items()},
    }  # fmt: skip
    record("mixture", results, **config)
    return float(_summary(small)["mae"]) <= WITHIN and all(degenerate.values())


def _command(paths: Mapping[str, Path], folder: Path, merges: int) -> dict[str, Any]:
    """Run the verb as a user does; what it wrote as JSON, with `wall_s` and `all_peak_mib`."""
    output = folder / "report.json"
    tokenizer = next(iter(paths.values())).parent / "tokenizer.json"
    corpora = [word for name, path in paths.items() for word in ("--corpora", f"{name}={path}")]
    done = run_command(
        [sys.executable, "-m", "jobs.cli", "mixture", "tokenizer", "--tokenizer", str(tokenizer), *corpora,
         "--lake", str(folder / "lake"), "--name", "bench", "--overwrite", "bench", "--max-merges", str(merges),
         "--output", str(output)], CORES, TIMEOUT,
    )  # fmt: skip
    if done.code:
        late = f" (it may take {TIMEOUT:,.0f} s)" if done.seconds >= TIMEOUT else ""
        raise RuntimeError(f"assay mixture tokenizer ended with exit code {done.code}{late}: {done.complaint[-500:]}")
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return {**found, "wall_s": done.seconds, "all_peak_mib": done.peak_bytes / 2**20}


def _recovered(truth: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> Recovered:
    columns = ("share", "share_low", "share_high")
    share, low, high = ({row["corpus"]: _number(row[column]) for row in rows} for column in columns)
    return Recovered(truth, share, low, high)


def _number(value: float | None) -> float:
    """NaN for what could not be told, which covers nothing."""
    return float("nan") if value is None else float(value)


# Small worlds, in this process


def _infer(world: World, resamples: int) -> tuple[Any, Any]:
    from operators.merges import infer_from_words, parse_bpe, word_counts

    bpe = parse_bpe(world.train(SMALL_MERGES).to_str())
    words = {name: word_counts(bpe, texts, range(len(texts))) for name, texts in world.candidates.items()}
    trained_on = sum(map(n_bytes, world.training.values()))
    return infer_from_words(bpe, words, resamples=resamples, training_bytes=trained_on)


def _small(world: World) -> Recovered:
    from operators.merges import RESAMPLES

    inference, sampled = _infer(world, RESAMPLES)
    values = (inference.byte_share, sampled.byte_low, sampled.byte_high)
    share, low, high = (dict(zip(inference.names, map(float, column), strict=True)) for column in values)
    return Recovered(world.truth, share, low, high)


def _summary(small: Sequence[Recovered]) -> dict[str, float]:
    shares = sum(len(each.truth) for each in small)
    return {
        "n": len(small),
        "mae": sum(each.error for each in small) / max(1, len(small)),
        "worst_mae": max((each.error for each in small), default=0.0),
        "covered": sum(each.covered for each in small) / max(1, shares),
    }


def _degenerate(world: World) -> dict[str, bool]:
    """Whether a missing source and a doubled one are said, and neither of a sound world; no draw decides that."""
    truth = world.truth
    largest = max(truth, key=lambda name: truth[name])
    rest = {name: texts for name, texts in world.candidates.items() if name != largest}
    halves = {"one-half": world.candidates[largest][::2], "other-half": world.candidates[largest][1::2]}
    _, sound = _infer(world, 1)
    _, missing = _infer(replace(world, candidates=rest), 1)
    _, twice = _infer(replace(world, candidates={**rest, **halves}), 1)
    return {
        "sound_is_clear": not sound.is_misfit and not sound.alike,
        "missing_is_said": missing.is_misfit,
        "twice_is_said": any(set(pair) == set(halves) for pair in twice.alike),
    }


# Printing


def _report(world: World, results: Mapping[str, Any], recovered: Recovered, degenerate: Mapping[str, bool]) -> None:
    rows = [
        [
            name,
            f"{n_bytes(world.training[name]) / 1e6:.1f}",
            f"{n_bytes(world.candidates[name]) / 1e6:.1f}",
            *(f"{100 * value:.1f} %" for value in (true, recovered.share[name])),
            f"{100 * recovered.low[name]:.1f} to {100 * recovered.high[name]:.1f}",
        ]
        for name, true in recovered.truth.items()
    ]
    show(
        f"{results['merges_used']:,} merges on {CORES} cores",
        ["source", "trained on, MB", "candidate, MB", "true share", "found", "interval, 95 %"],
        rows,
    )
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in results["phases_s"].items())
    peaks = ", ".join(f"{phase} {peak:,.0f}" for phase, peak in results["phases_peak_mib"].items())
    small = results["worlds"]
    for line in (
        f"whole command {results['median_s']:.1f} s ({phases}); memory of all processes {results['peak_mib']:,.0f} MiB",
        f"largest process so far, MiB: {peaks}",
        f"mean absolute error {results['mae']:.4f}; intervals cover {results['covered']:.0%} of the true shares",
        f"{small['n']} small worlds: mean absolute error {small['mae']:.4f}, the worst {small['worst_mae']:.4f}; "
        f"intervals cover {small['covered']:.0%}",
        *(f"{name.replace('_', ' ')}: {'yes' if is_said else 'NO'}" for name, is_said in degenerate.items()),
    ):
        sys.stdout.write(line + "\n")
