"""The ROC curve and its low end: TPR at an FPR, FPR at a TPR, both achieved and never interpolated.

A threshold c calls a document positive where score >= c, so equal scores are one threshold.

    TPR at FPR   the largest TPR among thresholds whose FPR is at most the level
    FPR at TPR   the smallest FPR among thresholds whose TPR is at least the level

Letters: `U` different score values.
Source: low FPR: Carlini et al. 2022, arXiv 2112.03570.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.evaluation.classes import Classes, Floats, Interval, Values, defined_classes
from operators.evaluation.roc_interval import fpr_interval, tpr_interval

FPR_LEVELS = (0.001, 0.01, 0.05)
TPR_LEVEL = 0.95


@dataclass(frozen=True)
class TprAtFpr:
    """TPR at one level of FPR. `fpr` is what was achieved, `threshold` is NaN where nothing may be called positive.

    FPR moves in steps of 1 / n_negative; `resolvable` is false below that, where the level means no false alarm at all.
    """

    level: float
    tpr: float
    interval: Interval
    fpr: float
    threshold: float
    resolvable: bool


def tpr_at_fpr(scores: Values, labels: Values, level: float) -> float:
    """The largest TPR among thresholds with FPR <= `level`; 0 where no threshold has that.

    Raises:
        ValueError: a class is empty, lengths differ, or a label is neither 0, 1 nor missing.
    """
    return _at_fpr(roc_curve(defined_classes(scores, labels)), level)[0]


def tpr_at_fpr_interval(scores: Values, labels: Values, level: float, *, clusters: Values | None = None) -> Interval:
    """95 % interval of the TPR that the population has at this FPR (`roc_interval.tpr_interval`).

    Raises:
        ValueError: as `tpr_at_fpr`.
    """
    return tpr_interval(defined_classes(scores, labels, clusters), level)


def fpr_at_tpr(scores: Values, labels: Values, level: float = TPR_LEVEL) -> float:
    """The smallest FPR among thresholds with TPR >= `level`.

    Raises:
        ValueError: as `tpr_at_fpr`.
    """
    return smallest_fpr(defined_classes(scores, labels), level)


def fpr_at_tpr_interval(
    scores: Values, labels: Values, level: float = TPR_LEVEL, *, clusters: Values | None = None
) -> Interval:
    """95 % interval of the FPR that the population has at this TPR (`roc_interval.fpr_interval`).

    Raises:
        ValueError: as `tpr_at_fpr`.
    """
    return fpr_interval(defined_classes(scores, labels, clusters), level)


def roc_curve(classes: Classes) -> tuple[Floats, Floats, Floats]:
    """FPR, TPR and threshold at every different score, highest first: [U] each, of two classes that are not empty."""
    values, places = np.unique(np.concatenate([classes.positive, classes.negative]), return_inverse=True)
    places = values.size - 1 - places
    positives = np.bincount(places[: classes.positive.size], minlength=values.size)
    negatives = np.bincount(places[classes.positive.size :], minlength=values.size)
    return negatives.cumsum() / classes.negative.size, positives.cumsum() / classes.positive.size, values[::-1]


def operating_points(classes: Classes, levels: Sequence[float]) -> tuple[TprAtFpr, ...]:
    """The TPR at each level with its interval; NaN where a class is empty."""
    if classes.is_empty:
        nothing = Interval(math.nan, math.nan)
        return tuple(TprAtFpr(level, math.nan, nothing, math.nan, math.nan, False) for level in levels)
    points, curve = [], roc_curve(classes)
    for level in levels:
        tpr, fpr, threshold = _at_fpr(curve, level)
        resolvable = 1 / classes.negative.size <= level
        points.append(TprAtFpr(level, tpr, tpr_interval(classes, level), fpr, threshold, resolvable))
    return tuple(points)


def smallest_fpr(classes: Classes, level: float) -> float:
    """FPR at a TPR, of two classes that are not empty."""
    fpr, tpr, _ = roc_curve(classes)
    return float(fpr[np.searchsorted(tpr, level, side="left")])


def _at_fpr(curve: tuple[Floats, Floats, Floats], level: float) -> tuple[float, float, float]:
    """TPR, FPR and threshold of the lowest threshold with FPR <= level; 0, 0 and NaN where there is none."""
    fpr, tpr, thresholds = curve
    allowed = int(np.searchsorted(fpr, level, side="right"))  # FPR rises along the curve
    if allowed == 0:
        return 0.0, 0.0, math.nan
    return float(tpr[allowed - 1]), float(fpr[allowed - 1]), float(thresholds[allowed - 1])
