"""Evaluates many scores of the same documents: every number with its interval, every test adjusted for the others.

    each score     AUROC (DeLong and bootstrap intervals, one-sided p), TPR at low FPR, FPR at 95 % TPR
    all scores     p-values adjusted: Holm for "any of them", Benjamini-Hochberg for "which of them"
    each, paired   with one baseline score on the documents where both are defined; adjusted by Holm

No score is turned round and none is chosen: a table's best of many is optimistic, the adjusted p-values are not.
Letters: `N` documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from operators.evaluation.area import (
    Comparison,
    area,
    bootstrap_interval,
    compare_auroc,
    delong_interval,
    p_value,
)
from operators.evaluation.bootstrap import DRAWS, bootstrap_auroc, percentiles
from operators.evaluation.classes import Codes, Floats, Interval, Values, as_columns, split
from operators.evaluation.multiplicity import bh_adjusted, holm_adjusted
from operators.evaluation.roc import FPR_LEVELS, TPR_LEVEL, TprAtFpr, operating_points, smallest_fpr
from operators.evaluation.roc_interval import fpr_interval

BASELINE = "loss"

_NOTHING = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class Against:
    """A score against the baseline: DeLong's paired test, and percentiles of the difference over paired resamples."""

    baseline: str
    delong: Comparison
    bootstrap: Interval
    p_holm: float


@dataclass(frozen=True)
class Evaluation:
    """One score on one labelled set. Numbers are NaN where a class has no defined score.

    `p_value`: one-sided, of an AUROC above 1/2; `p_holm`, `p_bh`: adjusted for all scores evaluated together.
    `against`: None for the baseline itself.
    """

    name: str
    n_positive: int
    n_negative: int
    undefined_positive: int
    undefined_negative: int
    auroc: float
    auroc_interval: Interval
    auroc_bootstrap: Interval
    p_value: float
    p_holm: float
    p_bh: float
    tpr_at_fpr: tuple[TprAtFpr, ...]
    fpr_at_tpr: float
    fpr_at_tpr_interval: Interval
    against: Against | None = None


def evaluate(
    scores: Mapping[str, Values],
    labels: Values,
    *,
    clusters: Values | None = None,
    baseline: str | None = None,
    levels: Sequence[float] = FPR_LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Evaluation]:
    """Evaluate several scores of the same documents, in the order given.

    Args:
        scores: name -> [N] score of each document, None or NaN where undefined.
        labels: [N] 1 positive, 0 negative, None or NaN unknown (such documents are left out).
        clusters: [N] numbers that say which documents belong together (chunks of one source); errors and resamples
            are then over clusters.
        baseline: the score that others are compared with; `loss` by default, or the first where there is none.
        levels: false-positive rates at which to report the TPR.
        draws: bootstrap draws, shared by all scores; with 0, bootstrap intervals are NaN.
        seed: of the bootstrap.

    Raises:
        ValueError: lengths differ, a label is neither 0, 1 nor missing, or no score is called `baseline`.
    """
    columns = {name: as_columns(values, labels)[0] for name, values in scores.items()}
    if not columns:
        return []
    if baseline is not None and baseline not in columns:
        raise ValueError(f"no score {baseline!r} to compare with; evaluated are {', '.join(columns)}")
    _, truth, codes = as_columns(next(iter(columns.values())), labels, clusters)
    results = [_one(name, values, truth, codes, levels) for name, values in columns.items()]
    against = baseline or (BASELINE if BASELINE in columns else next(iter(columns)))
    others = {name: values for name, values in columns.items() if name != against}
    compared = {name: compare_auroc(values, columns[against], truth, codes) for name, values in others.items()}
    drawn, differences = _bootstrap(columns, against, truth, codes, draws, seed)
    p_holm, p_bh = (adjust([each.p_value for each in results]) for adjust in (holm_adjusted, bh_adjusted))
    pairs_holm = dict(zip(compared, holm_adjusted([each.p_value for each in compared.values()]), strict=True))
    return [
        replace(
            result,
            auroc_bootstrap=drawn[result.name],
            p_holm=float(holm),
            p_bh=float(bh),
            against=Against(against, compared[result.name], differences[result.name], float(pairs_holm[result.name]))
            if result.name in compared
            else None,
        )
        for result, holm, bh in zip(results, p_holm, p_bh, strict=True)
    ]


def _one(name: str, scores: Floats, truth: Floats, codes: Codes | None, levels: Sequence[float]) -> Evaluation:
    """What one score says by itself."""
    classes = split(scores, truth, codes)
    undefined = np.isnan(scores)
    return Evaluation(
        name=name,
        n_positive=classes.positive.size,
        n_negative=classes.negative.size,
        undefined_positive=int((undefined & (truth == 1)).sum()),
        undefined_negative=int((undefined & (truth == 0)).sum()),
        auroc=math.nan if classes.is_empty else area(classes),
        auroc_interval=_NOTHING if classes.is_empty else delong_interval(classes),
        auroc_bootstrap=_NOTHING,
        p_value=math.nan if classes.is_empty else p_value(classes),
        p_holm=math.nan,
        p_bh=math.nan,
        tpr_at_fpr=operating_points(classes, levels),
        fpr_at_tpr=math.nan if classes.is_empty else smallest_fpr(classes, TPR_LEVEL),
        fpr_at_tpr_interval=_NOTHING if classes.is_empty else fpr_interval(classes, TPR_LEVEL),
    )


def _bootstrap(
    columns: Mapping[str, Floats], baseline: str, truth: Floats, codes: Codes | None, draws: int, seed: int
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Bootstrap intervals of each AUROC, and of its difference to the baseline's where both are defined."""
    if draws == 0:
        return dict.fromkeys(columns, _NOTHING), dict.fromkeys(columns, _NOTHING)
    table: dict[tuple[str, bytes], Floats] = {}

    def resampled(name: str, on: Floats) -> tuple[str, bytes]:
        """Ask for a score on the documents where `on` is defined, once."""
        values = np.where(np.isnan(on), np.nan, columns[name])
        key = name, np.packbits(np.isnan(values) | np.isnan(truth)).tobytes()
        table[key] = values
        return key

    own = {name: resampled(name, values) for name, values in columns.items()}
    pairs = {name: (resampled(name, columns[baseline]), resampled(baseline, columns[name])) for name in columns}
    rows = bootstrap_auroc(np.column_stack([*table.values()]), truth, codes, draws=draws, seed=seed)
    drawn = dict(zip(table, rows, strict=True))
    areas, differences = {}, {}
    for name, values in columns.items():
        classes = split(values, truth, codes)
        areas[name] = _NOTHING if classes.is_empty else bootstrap_interval(drawn[own[name]], classes)
        first, second = pairs[name]
        differences[name] = percentiles(drawn[first] - drawn[second])
    return areas, differences
