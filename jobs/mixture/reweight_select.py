"""`assay mixture select`: where the tokens worth training on lie, by excess loss of a model over a reference.

runs of a model and a reference --> checks --> `selective_estimate` --> share of tokens by domain
                                                                    --> `mixtures`, a page, a figure
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.figures import Bar, draw_bars
from jobs.mixture.reweight_output import Found, Shown, keep, mixture_rows, show
from jobs.mixture.reweight_request import ReweightOptions, check_comparable, component_notes, prepared, tally_notes
from operators.evaluation.run_scores import reading
from operators.mixtures.reweight_estimates import SelectiveEstimate, selective_estimate
from operators.mixtures.reweight_losses import read_components
from operators.results import run_states
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

SELECTIVE = "selective"


def run_select(options: ReweightOptions, share: float, fmt: str | None, output: Path | None) -> None:
    """Select tokens, keep what share of each domain they are, and print or write it.

    Raises:
        ConfigError, ScoreError, ResultError, QueryError, ObjectError: as `jobs.mixture.reweight.run_doremi`.
    """
    chosen = prepared(options, fmt, output)
    with reading(options.keeping.lake, options.keeping.storage_options) as connection:
        found = _select(connection, options, share)
    keep(options.keeping, found)
    if options.figure is not None:
        _draw_selected(options.figure, found)
    show(options.keeping, found, chosen, output)


def _select(connection: duckdb.DuckDBPyConnection, options: ReweightOptions, share: float) -> Found:
    (current,) = options.runs
    states = run_states(options.keeping.there, [current, options.reference])
    notes = list(check_comparable(connection, options))
    components = read_components(connection, current, options.by)
    try:
        estimate = selective_estimate(connection, current, options.reference, components, share, options.resampling)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise ConfigError(f"runs {current} and {options.reference}: {error}") from None
    notes += tally_notes(current, options.reference, estimate.tally)
    of_each, said = component_notes(components, estimate.n_documents_D, estimate.selected)
    notes += said + _select_notes(estimate, share)
    resampling = options.resampling
    rows = mixture_rows(
        SELECTIVE, components.names, "tokens", share=estimate.share.value, share_low=estimate.share.low,
        share_high=estimate.share.high, estimate=estimate.selected.value, estimate_low=estimate.selected.low,
        estimate_high=estimate.selected.high, confidence=resampling.confidence,
        n=estimate.n_tokens_D.astype(np.int64), note=of_each,
    )  # fmt: skip
    shown = Shown(
        SELECTIVE,
        f"tokens of {current} in the top {share:.1%} by excess loss over {options.reference}",
        "selected",
        {
            "documents": [f"{n:,}" for n in estimate.n_documents_D.tolist()],
            "tokens": [f"{n:,.0f}" for n in estimate.n_tokens_D.tolist()],
            "of all": [f"{n / estimate.n_tokens_D.sum():.4f}" for n in estimate.n_tokens_D.tolist()],
        },
    )
    settings = {
        "current": current, "reference": options.reference, "by": options.by, "keep": share, **asdict(resampling)
    }  # fmt: skip
    facts = {
        "bootstrap": "documents of the corpus, percentiles, the threshold found anew",
        "threshold_nats": estimate.threshold,
        "kept": estimate.kept,
        "documents": dict(zip(components.names, estimate.n_documents_D.tolist(), strict=True)),
        "tokens": asdict(estimate.tally),
    }
    return Found(rows, settings, facts, [shown], notes, None, states)


def _select_notes(estimate: SelectiveEstimate, share: float) -> list[str]:
    kept = (
        f"note: tokens with an excess of {estimate.threshold:+.4f} nats or more are selected, {estimate.kept:.4%} of "
        f"all; 'selected' is of the domain's tokens, 'share' of the selected ones"
    )
    if estimate.kept - share > 0.01:
        kept = f"{kept.replace('note', 'warning')}; {share:.1%} were asked for, but tokens tie at the threshold"
    return [kept]


def _draw_selected(path: Path, found: Found) -> None:
    rows = found.rows.to_pylist()
    total = sum(row["n"] for row in rows)
    bars = [
        bar
        for row in rows
        for bar in (
            Bar(row["component"], row["share"], row["share_low"], row["share_high"], "of the selected tokens"),
            Bar(row["component"], row["n"] / total, None, None, "of all tokens"),
        )
    ]
    draw_bars(path, bars, title="Tokens worth training on, by domain", axis="share")
