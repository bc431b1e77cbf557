"""`assay mixture weights`: of which domains documents are, by what a reference model of each domain says of them.

    runs of K models --> documents that all have --> by document: totals | by token: log-probs
                     --> EM --> shares, posteriors --> bootstrap over documents --> `mixtures`, kept under a name

The shares answer: if every document (or token) had been drawn from one of these models, how often from each? Text that
is of none of them is given to whichever model minds it least, and nothing here says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.conditions import documents_where
from jobs.mixture.weights_fit import CERTAIN, Estimate, estimate
from jobs.mixture.weights_request import DOCUMENT, TOKEN, WeightsOptions, about_runs, check_request
from jobs.query import check_lake, check_run
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.mixtures.em_read import Totals, read_tokens, read_totals
from operators.results import check_free, run_states
from pipelines.catalog import publish_result
from pipelines.config import ConfigError
from schemas.mixtures import MIXTURE_CURVES, MIXTURE_POSTERIORS, MIXTURES
from schemas.results import MIXTURE


@dataclass(frozen=True)
class Weights:
    """Everything that was found. `left_out`: documents of each run that are not in the fit; `kept`: where it lies."""

    options: WeightsOptions
    estimates: tuple[Estimate, ...]
    documents: int
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    kept: str


def run_weights(options: WeightsOptions, fmt: str | None, output: Path | None, figure: Path | None) -> None:
    """Fit, keep, draw, and print or write what was found; `fmt` None: as the name of `output` ends, else a table.

    Raises:
        ConfigError: no such lake or run, runs that do not compare, or nothing that all have.
        ResultError: the name is taken.
        QueryError: the condition failed.
    """
    from jobs.figures import check_figure
    from jobs.mixture.weights_report import draw, show
    from jobs.output import choose_format

    chosen = choose_format(fmt, output)
    check_figure(figure)
    found = weights(options)
    if figure is not None:
        draw(found, figure)
    show(found, chosen, output)


def weights(options: WeightsOptions) -> Weights:
    """Fit the shares at every grain that is asked for, and keep them.

    Raises:
        ConfigError, ResultError, QueryError: as `run_weights`.
    """
    check_request(options)
    check_lake(options.lake, options.storage_options)
    for run in options.runs:
        check_run(options.lake, run, options.storage_options)
    lake = Lake(options.lake, options.storage_options)
    check_free(lake, MIXTURE, options.name, options.overwrite)
    states = run_states(lake, options.runs)
    with reading(options.lake, options.storage_options) as connection:
        about = about_runs(connection, options)
        try:
            totals = read_totals(connection, options.runs, cut=about.cut, tokenizers=about.tokenizers)
        except ValueError as error:
            raise _own(error) from None
        chosen = _chosen(options, totals)
        estimates = []
        for grain in dict.fromkeys(options.grains):
            with tempfile.TemporaryDirectory(prefix="assay-mixture-") as scratch:
                observations, doc_ids = chosen.observations, chosen.doc_ids
                if grain == TOKEN:
                    try:
                        observations, doc_ids = read_tokens(connection, options.runs, chosen.doc_ids, Path(scratch))
                    except ValueError as error:
                        raise _own(error) from None
                estimates.append(estimate(options, grain, observations, doc_ids))
    left_out = {run: n - len(chosen) for run, n in zip(options.runs, totals.of_run, strict=True)}
    notes = (*about.notes, *_about_documents(options, totals, chosen), *_about_fits(options, estimates))
    facts = {
        "documents": len(chosen),
        "left_out": left_out,
        "cut_bytes": totals.cut_bytes,
        "fits": {each.method: _facts(each) for each in estimates},
    }
    kept = publish_result(
        lake, MIXTURE, options.name, _tables(options, estimates), settings=options.settings, facts=facts, states=states
    )
    return Weights(options, tuple(estimates), len(chosen), left_out, notes, kept)


def _own(error: ValueError) -> ValueError:
    """An error of ours with a meaning of its own stays; a plain one is about the runs that were asked for."""
    return ConfigError(str(error)) if type(error) is ValueError else error


def _chosen(options: WeightsOptions, totals: Totals) -> Totals:
    """The documents that the condition chooses.

    Raises:
        ConfigError: there are none.
    """
    chosen = totals
    if options.where is not None:
        wanted = documents_where(options.lake, options.runs[0], options.where, "--where", options.storage_options)
        chosen = totals.where(np.isin(totals.doc_ids, wanted.doc_ids))
    if not len(chosen):
        counts = ", ".join(f"{run} {n:,}" for run, n in zip(options.runs, totals.of_run, strict=True))
        where = "" if options.where is None else f", none where {options.where}"
        raise ConfigError(
            f"no document to fit: {totals.in_all:,} are in all runs (documents of each: {counts}), {len(totals):,} of "
            f"them with predictions that compare{where}"
        )
    return chosen


# What is kept and said


def _tables(options: WeightsOptions, estimates: Sequence[Estimate]) -> dict[str, pa.Table]:
    curves = [
        {"method": each.method, "step": i, "objective": step.objective, "gap": step.gap, "n": each.n}
        for each in estimates
        for i, step in enumerate(each.fit.steps)
    ]
    return {
        MIXTURES.name: pa.Table.from_pylist([row for e in estimates for row in e.rows], schema=MIXTURES.arrow()),
        MIXTURE_CURVES.name: pa.Table.from_pylist(curves, schema=MIXTURE_CURVES.arrow()),
        MIXTURE_POSTERIORS.name: pa.concat_tables(_posteriors(options, each) for each in estimates),
    }


def _posteriors(options: WeightsOptions, estimate: Estimate) -> pa.Table:
    """Rows of `mixture_posteriors`, names as dictionaries: they are cast where they are written."""
    n, size = estimate.posterior_DK.shape
    component = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.arange(size, dtype=np.int32), n)), pa.array(options.names)
    )
    method = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n * size, np.int32)), pa.array([estimate.method]))
    return pa.table(
        {
            "method": method,
            "doc_id": np.repeat(estimate.doc_ids, size),
            "component": component,
            "posterior": np.clip(estimate.posterior_DK, 0, 1).ravel(),
        }
    )


def _facts(estimate: Estimate) -> dict[str, Any]:
    last = estimate.fit.steps[-1]
    return {
        "n": estimate.n,
        "steps": len(estimate.fit.steps) - 1,
        "converged": estimate.fit.has_converged,
        "gap": last.gap,
        "objective": last.objective,
        "certain_documents": estimate.certain,
    }


def _about_documents(options: WeightsOptions, totals: Totals, chosen: Totals) -> Iterator[str]:
    for run, n in zip(options.runs, totals.of_run, strict=True):
        if n > totals.in_all:
            yield f"note: {n - totals.in_all:,} of {n:,} documents of {run} are not in every run, and are left out"
    if totals.unscored:
        yield (
            f"note: {totals.unscored:,} documents are left out: some run predicts no token of them, or all runs find "
            "them impossible"
        )
    if totals.cut_bytes or totals.uncut:
        yield (
            "note: the runs begin to predict at different bytes (a first token without a BOS has no prediction), so "
            f"each text counts from the first byte at which all begin a token: {totals.cut_bytes:,} bytes of "
            f"{totals.bytes_D.sum() + totals.cut_bytes:,.0f} are left out"
        )
    if totals.uncut:
        yield f"warning: {totals.uncut:,} documents are left out: the runs begin no token at the same byte of them"
    if len(chosen) < len(totals):
        yield f"note: {len(chosen):,} of {len(totals):,} documents are where {options.where}"


def _about_fits(options: WeightsOptions, estimates: Sequence[Estimate]) -> Iterator[str]:
    for each in estimates:
        for row in each.rows:
            if row["note"] is not None:
                yield f"warning: {each.method}, {row['component']}: {row['note']}"
        if each.grain == DOCUMENT:
            yield (
                f"note: one component has a posterior of {CERTAIN} or more in {each.certain:.0%} of the documents"
                + (": the shares all but count documents" if each.certain > CERTAIN else "")
            )
    yield "note: text that is of none of these components is given to the one that finds it least unlikely"
    yield (
        f"intervals: {options.confidence:.0%}, {options.resamples:,} resamples of documents, seed {options.seed}; an "
        "end at 0 or 1 makes one one-sided"
    )
