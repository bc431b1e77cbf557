"""Intervals for a point of the ROC curve whose threshold is estimated on the same documents.

What is covered: the TPR, in the population, of the lowest threshold whose FPR in the population is at most the level.
Two things are unknown, the threshold and the share of positives above it, and each has an exact distribution:

    K     how many of the n0 negatives lie above that threshold: Bin(n0, level), whatever the distributions
    x_k   how many of the n1 positives lie above the k-th highest negative: Bin(n1, TPR there)

So, as the threshold lies between negatives K + 1 and K, the ends are those of Clopper and Pearson, mixed over K:

    low    the 2.5 % quantile of   sum_k P(K = k) Beta(x_k, n1 - x_k + 1)
    high   the 97.5 % quantile of  sum_k P(K = k) Beta(x_(k+1) + 1, n1 - x_(k+1))

"Above" is strict: with ties the ends move apart. This is a confidence distribution, exact in the limits where one of
the two sources vanishes, and conservative elsewhere because of the brackets: with few documents, low levels or ties it
covers more (`assay bench calibration` counts how often). Where level * n0 is below 1, P(K = 0) is large, and the lower
end is 0 because no sample of that size says more. Exact bounds of K and of x joined by Bonferroni's inequality have a
proof for every n; in simulations made once they covered in 99 to 100 % and were a quarter to a half wider; a percentile
bootstrap covers in 84 to 88 % where level * n0 < 5, for it cannot draw a negative above the highest.

With clusters, n0 and n1 become effective sizes (documents divided by the design effect of being above the threshold, as
Korn and Graubard do): an approximation that needs some 20 clusters a class.

Sources: Clopper & Pearson 1934; confidence distributions: Xie & Singh 2013, doi 10.1111/insr.12000; effective sizes:
Korn & Graubard 1998, Survey Methodology 24.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from operators.evaluation.classes import CONFIDENCE, Classes, Codes, Floats, Interval

_TAIL = (1 - CONFIDENCE) / 2
_LEFT_OUT = 1e-9  # probability of the counts K beyond those looked at, each side
_PRECISION = 1e-9  # of an end


def tpr_interval(classes: Classes, level: float) -> Interval:
    """95 % interval of the TPR at FPR `level`, of two classes that are not empty."""
    positive, negative = np.sort(classes.positive), -np.sort(-classes.negative)
    k = min(math.floor(level * negative.size * (1 + 1e-12)), negative.size)  # alarms allowed in the sample
    above = classes.positive > negative[k] if k < negative.size else np.ones(positive.size, dtype=bool)
    alarms = classes.negative > negative[k] if k < negative.size else np.ones(negative.size, dtype=bool)
    n_positive = _effective_size(above, classes.clusters_positive)
    n_negative = max(1, math.floor(_effective_size(alarms, classes.clusters_negative)))

    counts = np.arange(
        max(0, int(stats.binom.ppf(_LEFT_OUT, n_negative, level))),
        int(stats.binom.isf(_LEFT_OUT, n_negative, level)) + 1,
    )
    weights = stats.binom.pmf(counts, n_negative, level)
    ratio = negative.size / n_negative
    bounded = np.concatenate([[np.inf], negative, [-np.inf]])  # the k-th highest at place k
    highest = np.floor(counts * ratio).astype(np.intp)
    lowest = np.minimum(np.ceil((counts + 1) * ratio), negative.size + 1).astype(np.intp)
    scale = n_positive / positive.size
    fewest = (positive.size - np.searchsorted(positive, bounded[highest], side="right")) * scale
    most = (positive.size - np.searchsorted(positive, bounded[lowest], side="right")) * scale
    fewest[highest == 0] = 0.0
    most[lowest > negative.size] = n_positive
    return Interval(_low(fewest, n_positive, weights), _high(most, n_positive, weights))


def fpr_interval(classes: Classes, level: float) -> Interval:
    """95 % interval of the FPR at TPR `level`, of two classes that are not empty: the same, seen from the other end.

    Share of the negatives below the highest threshold that leaves at most 1 - level of the positives below it.
    """
    mirrored = Classes(-classes.negative, -classes.positive, classes.clusters_negative, classes.clusters_positive)
    below = tpr_interval(mirrored, 1 - level)
    return Interval(1 - below.high, 1 - below.low)


def _low(hits: Floats, size: float, weights: Floats) -> float:
    some = hits > 0
    at_zero = float(weights[~some].sum())  # no hits: all of the probability at 0

    def probability(tpr: float) -> float:
        below = special.betainc(hits[some], size - hits[some] + 1, tpr)
        return at_zero + float(weights[some] @ below)

    return _quantile(probability, _TAIL)


def _high(hits: Floats, size: float, weights: Floats) -> float:
    some = hits < size
    at_one = float(weights[~some].sum())

    def probability(fnr: float) -> float:  # of 1 - TPR, small where TPR is high
        below = special.betainc(size - hits[some], hits[some] + 1, fnr)
        return at_one + float(weights[some] @ below)

    return 1.0 - _quantile(probability, _TAIL)


def _quantile(probability: Callable[[float], float], tail: float) -> float:
    """Where a distribution on [0, 1] reaches `tail`."""
    if probability(0.0) >= tail:
        return 0.0
    if probability(1.0) <= tail:  # mass that was left out
        return 1.0
    return float(optimize.brentq(lambda value: probability(value) - tail, 0.0, 1.0, xtol=_PRECISION))


def _effective_size(hits: npt.NDArray[np.bool_], clusters: Codes | None) -> float:
    """How many independent documents say as much of the share of `hits` as these do."""
    if clusters is None:
        return float(hits.size)
    _, codes = np.unique(clusters, return_inverse=True)
    n_clusters = int(codes.max()) + 1
    share = float(hits.mean())
    if n_clusters == hits.size or hits.size < 2:
        return float(hits.size)
    if share in (0.0, 1.0) or n_clusters < 2:
        return float(n_clusters)  # nothing to see of how alike a cluster's documents are: take them for one
    sums = np.bincount(codes, hits - share)
    variance = n_clusters / (n_clusters - 1) * float((sums**2).sum()) / hits.size**2
    independent = share * (1 - share) / (hits.size - 1)
    upper = 1 - _TAIL
    freedom = (stats.t.ppf(upper, hits.size - 1) / stats.t.ppf(upper, n_clusters - 1)) ** 2
    if variance == 0:
        return float(hits.size)
    return float(np.clip(hits.size * independent / variance * freedom, 1.0, hits.size))
