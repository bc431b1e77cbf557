"""`assay mixture correlate`: which domains' fit goes with few errors on a benchmark, over many models.

`domain_fit` of runs, or a file --> matrix, with errors and caps --> `correlate`, an estimator at a time
                                --> `mixtures`, a page, bars of shares, a heat map of the matrix
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128_hexdigest

from jobs.figures import check_figure, draw_heatmap
from jobs.memorization.request import check_name
from jobs.mixture.correlate_fits import fitted_matrix, fitted_states
from jobs.mixture.correlate_request import Given, assembled, read_caps, read_errors, read_matrix
from jobs.mixture.reweight_output import Found, Keeping, Shown, draw, keep, mixture_rows, show
from jobs.output import choose_format
from jobs.query import check_lake
from operators.evaluation.run_scores import reading
from operators.mixtures.correlations import ESTIMATORS, ORDER_ONLY, Estimator, Ties
from operators.mixtures.correlations_estimates import (
    FEWEST_MODELS,
    Correlation,
    CorrelationOptions,
    Matrix,
    correlate,
)
from operators.mixtures.correlations_uncertainty import ENOUGH_MODELS
from operators.mixtures.projection import Projection
from operators.scores.origin import State
from pipelines.config import ConfigError


@dataclass(frozen=True)
class CorrelateOptions:
    """What is asked. `matrix` None: the domain fits of the lake, of `run_ids` or of all runs that have one."""

    keeping: Keeping
    errors: Path
    matrix: Path | None = None
    run_ids: Sequence[str] = ()
    estimators: Sequence[Estimator] = ("sign_cdf",)
    projections: Sequence[Projection] = ("linear",)
    ties: Ties = "average"
    caps: Path | None = None
    cap: Sequence[str] = ()
    permutations: int = 10_000
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    figure: Path | None = None
    heatmap: Path | None = None


def parse_estimators(given: Sequence[str]) -> tuple[Estimator, ...]:
    """The estimators asked for, each once; `all` is every one.

    Raises:
        ConfigError: no such estimator.
    """
    unknown = [name for name in given if name not in (*ESTIMATORS, "all")]
    if unknown:
        raise ConfigError(f"--estimator {unknown[0]!r}: expected {', '.join(ESTIMATORS)} or all")
    return tuple(each for each in ESTIMATORS if each in given or "all" in given)


def run_correlate(options: CorrelateOptions, fmt: str | None, output: Path | None) -> None:
    """Correlate, keep, and print or write what was found.

    Raises:
        ConfigError, ResultError: files or runs that do not fit, a name that is taken.
        QueryError, ObjectError: DuckDB or the storage failed.
    """
    chosen = choose_format(fmt, output)
    for path in (options.figure, options.heatmap):
        check_figure(path)
    if options.matrix is not None and options.run_ids:
        raise ConfigError("--matrix and --run-id: bits per byte come from a file or from runs, not from both")
    errors = read_errors(options.errors)
    given, states = _given(options, errors)
    found = _found(options, given, states)
    keep(options.keeping, found)
    _draw(options, found, given.matrix)
    show(options.keeping, found, chosen, output)


def _given(options: CorrelateOptions, errors: dict[str, float]) -> tuple[Given, dict[str, State]]:
    keeping = options.keeping
    if options.matrix is not None:
        keeping.there.storage.check()
        keeping.check()
        return assembled(read_matrix(options.matrix), errors, str(options.matrix)), {}
    check_lake(keeping.lake, keeping.storage_options)
    keeping.check()
    for run_id in options.run_ids:
        check_name(keeping.there, run_id)
    with reading(keeping.lake, keeping.storage_options) as connection:
        cells, warnings = fitted_matrix(connection, keeping.lake, options.run_ids)
    given = assembled(cells, errors, f"the domain fits of {keeping.lake}")
    return Given(given.matrix, (*warnings, *given.notes)), fitted_states(keeping.there, given.matrix.models)


def _found(options: CorrelateOptions, given: Given, states: dict[str, State]) -> Found:
    matrix = given.matrix
    asked = CorrelationOptions(
        read_caps(options.caps, options.cap, matrix.domains), options.projections, options.ties, options.permutations,
        options.resamples, options.confidence, options.seed,
    )  # fmt: skip
    try:
        every = {estimator: correlate(matrix, estimator, asked) for estimator in options.estimators}
    except ValueError as error:
        raise ConfigError(f"--cap, --matrix: {error}") from None
    rows = [_rows(matrix, estimator, each, options) for estimator, each in every.items()]
    of_each = next(iter(every.values()))
    shown = [
        Shown(
            f"{estimator}/{projection}",
            f"{estimator}, projected by {projection}: {len(matrix.models):,} models, {len(matrix.domains):,} domains",
            "estimate",
            {
                "models": [str(n) for n in each.n_models.tolist()],
                "mean bits/byte": ["-" if value != value else f"{value:.4f}" for value in _mean_bpb(matrix)],
            },
        )
        for estimator, each in every.items()
        for projection in options.projections
    ]
    notes = [*given.notes, *_notes(options, of_each, asked, matrix)]
    return Found(
        pa.concat_tables(rows), _settings(options, matrix, asked), _facts(matrix, of_each), shown, notes, None, states
    )


def _mean_bpb(matrix: Matrix) -> list[float]:
    known = ~np.isnan(matrix.bpb_ND)
    return [float(matrix.bpb_ND[has, d].mean()) if has.any() else float("nan") for d, has in enumerate(known.T)]


def _rows(matrix: Matrix, estimator: Estimator, found: Correlation, options: CorrelateOptions) -> pa.Table:
    of_each = zip(found.n_models.tolist(), found.p_value, found.low, strict=True)
    notes = [_note(n, len(matrix.models), p, low) for n, p, low in of_each]
    return pa.concat_tables(
        mixture_rows(
            f"{estimator}/{projection}", matrix.domains, "weight", share=shares.value, share_low=shares.low,
            share_high=shares.high, estimate=found.estimate, estimate_low=found.low, estimate_high=found.high,
            p_value=found.p_value, p_adjusted=found.p_adjusted, confidence=options.confidence, n=found.n_models,
            note=notes,
        )
        for projection, shares in found.shares.items()
    )  # fmt: skip


def _note(n_models: int, all_models: int, p_value: float, low: float) -> str | None:
    if n_models < FEWEST_MODELS:
        return f"{n_models} models have it: no estimate"
    if p_value != p_value:
        return "its models do not differ: no estimate"
    if n_models < ENOUGH_MODELS:
        return f"{n_models} models: no interval"
    if low != low:
        return "the same whichever model is left out: no interval"
    return f"{all_models - n_models} of {all_models} models lack it" if n_models < all_models else None


def _notes(options: CorrelateOptions, found: Correlation, asked: CorrelationOptions, matrix: Matrix) -> list[str]:
    n = len(matrix.models)
    notes = [
        "note: higher = models with fewer bits per byte there make fewer errors; a correlation over models that others "
        "trained, no experiment",
        "note: intervals are over models: the estimate's by jackknife and t, the share's by bootstrap; p of "
        f"{asked.permutations:,} permutations at most, not below {found.least_p:.2g}",
    ]
    if n < ENOUGH_MODELS:
        notes.append(
            f"warning: {n} models are too few for an interval ({ENOUGH_MODELS} is the least), and p tells little: do "
            "not choose data by this"
        )
    if "linear" in options.projections and (asked.caps_D >= 1).all():
        notes.append("note: without caps (--cap 0.2, --cap web=0.5) linear gives everything to the best domain")
    if "product" in options.estimators:
        notes.append(
            "note: product is a mean of bits per byte x error, not centred, as in the paper: 0 is not 'no link', and "
            "domains of more bits per byte come out higher; p alone is of the link"
        )
    if "l2" in options.projections and any(each in ORDER_ONLY for each in options.estimators):
        notes.append(f"note: l2 reads sizes, of which {', '.join(ORDER_ONLY)} know only the order")
    if options.ties == "position":
        notes.append(
            "note: ties are broken by place in the matrix, as in the authors' code: another order, other numbers"
        )
    return notes


def _settings(options: CorrelateOptions, matrix: Matrix, asked: CorrelationOptions) -> dict[str, Any]:
    return {
        "matrix": None if options.matrix is None else options.matrix.name, "errors": options.errors.name,
        "run_ids": list(options.run_ids), "estimators": list(options.estimators),
        "projections": list(options.projections), "ties": options.ties,
        "caps": dict(zip(matrix.domains, asked.caps_D.tolist(), strict=True)), "permutations": asked.permutations,
        "resamples": asked.resamples, "confidence": asked.confidence, "seed": asked.seed,
    }  # fmt: skip


def _facts(matrix: Matrix, found: Correlation) -> dict[str, Any]:
    return {
        "errors": dict(zip(matrix.models, matrix.error_N.tolist(), strict=True)),
        "matrix_digest": xxh3_128_hexdigest(matrix.bpb_ND.tobytes()),
        "missing_cells": int(np.isnan(matrix.bpb_ND).sum()),
        "least_p": found.least_p,
    }


def _draw(options: CorrelateOptions, found: Found, matrix: Matrix) -> None:
    if options.figure is not None:
        draw(options.figure, found, "Shares by perplexity correlation", "share")
    if options.heatmap is not None:
        title = "Bits per byte by model and domain"
        draw_heatmap(options.heatmap, matrix.bpb_ND, matrix.models, matrix.domains, title=title, legend="bits per byte")
