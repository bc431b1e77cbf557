"""`assay mixture doremi`: what a model has left to learn, by domain, from runs of proxies and of a reference.

runs of proxies and a reference --> checks --> `doremi_estimate` --> weights of domains
                                                                 --> `mixtures`, `mixture_curves`, a page, a figure
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from jobs.mixture.reweight_output import Found, Shown, draw, keep, mixture_rows, named, show
from jobs.mixture.reweight_request import ReweightOptions, check_comparable, component_notes, prepared, tally_notes
from operators.evaluation.run_scores import reading
from operators.mixtures.reweight import ETA, SMOOTHING
from operators.mixtures.reweight_estimates import DoremiEstimate, Update, doremi_estimate
from operators.mixtures.reweight_losses import Components, Floats, read_components
from operators.results import run_states
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

DOREMI = "doremi"
LARGEST_WEIGHTS = 1 << 20  # bytes of a file of weights


@dataclass(frozen=True)
class DoremiOptions:
    """`start`: `uniform`, or a JSON file of weights by domain. `steps`: whether to keep the weights after each."""

    eta: float = ETA
    smoothing: float = SMOOTHING
    start: str = "uniform"
    steps: bool = False


def run_doremi(options: ReweightOptions, doremi: DoremiOptions, fmt: str | None, output: Path | None) -> None:
    """Re-weight, keep, and print or write what was found.

    Raises:
        ConfigError, ScoreError, ResultError: no such lake or run, runs that cannot be compared, a name that is taken.
        QueryError, ObjectError: DuckDB or the storage failed.
    """
    chosen = prepared(options, fmt, output)
    start = None if doremi.start == "uniform" else read_weights(Path(doremi.start))
    with reading(options.keeping.lake, options.keeping.storage_options) as connection:
        found = _doremi(connection, options, doremi, start)
    keep(options.keeping, found)
    if options.figure is not None:
        draw(options.figure, found, f"Weights by excess loss over {options.reference}", "weight")
    show(options.keeping, found, chosen, output)


def read_weights(path: Path) -> dict[str, float]:
    """Weights by domain: a JSON object of numbers, or one with such an object as `train_domain_weights`.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_WEIGHTS + 1)
        value = json.loads(content.decode("utf-8-sig"), parse_int=float) if len(content) <= LARGEST_WEIGHTS else None
    except OSError as error:
        raise ConfigError(f"--start {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and isinstance(value.get("train_domain_weights"), dict):
        value = value["train_domain_weights"]
    if not isinstance(value, dict) or not value or not all(isinstance(weight, float) for weight in value.values()):
        raise ConfigError(f'--start {path}: expected uniform, or a JSON file as {{"web": 0.7, "books": 0.3}}')
    return value


# From the lake to rows


def _doremi(
    connection: duckdb.DuckDBPyConnection,
    options: ReweightOptions,
    doremi: DoremiOptions,
    start: Mapping[str, float] | None,
) -> Found:
    states = run_states(options.keeping.there, [*options.runs, options.reference])
    notes = list(check_comparable(connection, options))
    components = read_components(connection, options.reference, options.by)
    update = Update(doremi.eta, doremi.smoothing, None if start is None else _start_of(start, components))
    try:
        estimate = doremi_estimate(connection, options.runs, options.reference, components, update, options.resampling)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise ConfigError(str(error)) from None
    for run_id, tally in zip(options.runs, estimate.tallies, strict=True):
        notes += tally_notes(run_id, options.reference, tally)
    of_each, said = component_notes(components, estimate.n_documents_D, estimate.mean_score)
    notes += said + _doremi_notes(options, estimate, components)
    shown = Shown(
        DOREMI,
        f"weights of {len(components.names):,} domains by excess loss over {options.reference}",
        "excess, nats",
        {
            "documents": [f"{n:,}" for n in estimate.n_documents_D.tolist()],
            "tokens": [f"{n:,.0f}" for n in estimate.n_tokens_SD.sum(axis=0).tolist()],
            "start": [f"{w:.4f}" for w in estimate.start_D.tolist()],
        },
    )
    settings = {
        "proxies": list(options.runs), "reference": options.reference, "by": options.by, "eta": doremi.eta,
        "smoothing": doremi.smoothing, "start": dict(zip(components.names, estimate.start_D.tolist(), strict=True)),
        **asdict(options.resampling),
    }  # fmt: skip
    facts = {
        "bootstrap": "documents within each domain, scores studentised on the logarithmic scale",
        "documents": dict(zip(components.names, estimate.n_documents_D.tolist(), strict=True)),
        "tokens": {run: asdict(tally) for run, tally in zip(options.runs, estimate.tallies, strict=True)},
    }
    rows = _doremi_rows(options, doremi, components, estimate, of_each)
    return Found(rows, settings, facts, [shown], notes, _doremi_curve(estimate), states)


def _start_of(start: Mapping[str, float], components: Components) -> Floats:
    """The weights to start from, in the order of the components.

    Raises:
        ConfigError: a domain has no weight, or a weight no domain.
    """
    lacking = [name for name in components.names if name not in start]
    unknown = [name for name in start if name not in components.names]
    faults = [f"no weight for {named(lacking)}"] * bool(lacking) + [f"no domain {named(unknown)}"] * bool(unknown)
    if faults:
        raise ConfigError(f"--start: {'; '.join(faults)}; the domains are {named(components.names, 20)}")
    return np.array([start[name] for name in components.names], dtype=np.float64)


def _doremi_notes(options: ReweightOptions, estimate: DoremiEstimate, components: Components) -> list[str]:
    steps = len(options.runs)
    what = "one step from the weights it starts with" if steps == 1 else f"the mean of the weights after {steps} steps"
    notes = [
        f"note: {what}: scoring frozen checkpoints, not the training-time game of the paper; tokens of the proxy are "
        "not drawn by these weights"
    ]
    absent = estimate.n_tokens_SD == 0
    for step, run_id in enumerate(options.runs):
        if absent[step].any() and not absent[step].all():
            lacking = [name for name, is_absent in zip(components.names, absent[step], strict=True) if is_absent]
            notes.append(f"note: step {step + 1} ({run_id}) has no token of {named(lacking)}: the last score stands")
    return notes


def _doremi_rows(
    options: ReweightOptions,
    doremi: DoremiOptions,
    components: Components,
    estimate: DoremiEstimate,
    of_each: Sequence[str | None],
) -> pa.Table:
    every = [(DOREMI, estimate.average, estimate.mean_score, estimate.n_tokens_SD.sum(axis=0))]
    if doremi.steps:
        steps = zip(estimate.weights, estimate.scores, estimate.n_tokens_SD, strict=True)
        every += [(f"{DOREMI}/{i}", weights, scores, n) for i, (weights, scores, n) in enumerate(steps, 1)]
    return pa.concat_tables(
        mixture_rows(
            method, components.names, "weight", share=weights.value, share_low=weights.low, share_high=weights.high,
            estimate=scores.value, estimate_low=scores.low, estimate_high=scores.high,
            confidence=options.resampling.confidence, n=n_tokens.astype(np.int64), note=list(of_each),
        )
        for method, weights, scores, n_tokens in every
    )  # fmt: skip


def _doremi_curve(estimate: DoremiEstimate) -> pa.Table:
    """Excess loss under the weights before the first step, by its scores, and under those after each step."""
    weights = [estimate.start_D, *(each.value for each in estimate.weights)]
    scores = [estimate.scores[0].value, *(each.value for each in estimate.scores)]
    tokens = estimate.n_tokens_SD.sum(axis=1)
    return pa.table({
        "method": pa.array([DOREMI] * len(weights)),
        "step": pa.array(range(len(weights)), pa.int64()),
        "objective": [float(w @ np.nan_to_num(s)) for w, s in zip(weights, scores, strict=True)],
        "n": pa.array([int(n) for n in (tokens[0], *tokens)], pa.int64()),
    })  # fmt: skip
