"""AUROC with DeLong's error: one score, two scores on the same documents, documents that come in clusters.

    place     share of the other class below a document, ties by half; the AUROC is the mean place of the positives
    error     from the spread of the places (DeLong); with clusters, from the spread of their sums (Obuchowski)
    interval  Student's t on the logit scale, so it stays inside (0, 1)
    paired    the same formulas on the differences of the places of two scores

DeLong takes the normal distribution; here it is t, with the degrees of freedom that the places have: hundreds for
hundreds of documents that mix, so that nothing changes, and few where few documents decide: large areas, where
intervals of the normal cover too little. `assay bench calibration` counts how often these cover.

With clusters it is one less than there are clusters of the class that has fewer: Satterthwaite's errs too often where
one class has very few.

Letters: `N` documents of one class or both.
Sources: DeLong et al. 1988, doi 10.2307/2531595; clusters: Obuchowski 1997, doi 10.2307/2533958; degrees of freedom:
Satterthwaite 1946, doi 10.2307/3002019, with the variance of a sample variance, Kendall & Stuart 1969, ch. 12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from operators.evaluation.bootstrap import DRAWS, bootstrap_auroc, percentiles
from operators.evaluation.classes import (
    CONFIDENCE,
    Classes,
    Codes,
    Floats,
    Interval,
    Values,
    as_columns,
    defined_classes,
    split,
)
from operators.evaluation.mann_whitney import mann_whitney_p


@dataclass(frozen=True)
class Comparison:
    """The AUROC of a score less that of another, on the documents where both are defined.

    `p_value` is two-sided, by DeLong's paired test; numbers are NaN where such documents of a class are missing.
    """

    n_positive: int
    n_negative: int
    difference: float
    interval: Interval
    p_value: float


def auroc(scores: Values, labels: Values) -> float:
    """P(positive > negative) + P(equal) / 2 over all pairs of defined scores.

    Raises:
        ValueError: a class is empty, lengths differ, or a label is neither 0, 1 nor missing.
    """
    return area(defined_classes(scores, labels))


def auroc_interval(
    scores: Values,
    labels: Values,
    *,
    method: Literal["delong", "bootstrap"] = "delong",
    clusters: Values | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """95 % interval of the AUROC, over the population that documents (or clusters) were drawn from.

    `delong` is t on the logit scale, so it stays inside (0, 1). `bootstrap` resamples each class and takes percentiles:
    with fewer than 20 clusters of a class these lie too near. Where the data show no spread, as with perfectly
    separated classes, both would collapse to a point; the interval there is the one that holds for any two
    distributions (`interval_without_spread`).

    Raises:
        ValueError: as `auroc`.
    """
    if method == "delong":
        return delong_interval(defined_classes(scores, labels, clusters))
    values, truth, codes = as_columns(scores, labels, clusters)
    classes = defined_classes(scores, labels, clusters)
    (drawn,) = bootstrap_auroc(values[:, None], truth, codes, draws=draws, seed=seed)
    return bootstrap_interval(drawn, classes)


def auroc_p_value(scores: Values, labels: Values, clusters: Values | None = None) -> float:
    """One-sided p-value of "positives do not score higher": AUROC <= 1/2 against AUROC > 1/2.

    Mann-Whitney's test, exact or sampled where a class is small. With clusters, whose documents are not independent,
    the t-test that belongs to the interval. A score that runs the wrong way has p near 1: its direction was fixed
    before the data, so that is no finding.

    Raises:
        ValueError: as `auroc`.
    """
    return p_value(defined_classes(scores, labels, clusters))


def compare_auroc(scores: Values, others: Values, labels: Values, clusters: Values | None = None) -> Comparison:
    """The AUROC of `scores` less that of `others`: DeLong's paired test on documents where both are defined.

    Raises:
        ValueError: lengths differ, or a label is neither 0, 1 nor missing.
    """
    first, truth, codes = as_columns(scores, labels, clusters)
    second, _, _ = as_columns(others, labels)
    both = ~np.isnan(first) & ~np.isnan(second)
    pair = [split(np.where(both, values, np.nan), truth, codes) for values in (first, second)]
    sizes = pair[0].positive.size, pair[0].negative.size
    if pair[0].is_empty:
        return Comparison(*sizes, math.nan, Interval(math.nan, math.nan), math.nan)
    (positive, negative), (positive_2, negative_2) = pair[0].places, pair[1].places
    error, freedom = _error_of(positive - positive_2, negative - negative_2, pair[0])
    difference = float((positive - positive_2).mean())
    interval, p = _difference_test(difference, error, freedom, pair[0])
    return Comparison(*sizes, difference, interval, p)


# The parts


def area(classes: Classes) -> float:
    """The AUROC of two classes that are not empty."""
    return float(classes.places[0].mean())


def delong_interval(classes: Classes) -> Interval:
    """95 % interval of the AUROC of two classes that are not empty."""
    at = area(classes)
    error, freedom = _error(classes)
    if not error > 0 or at in (0.0, 1.0):
        return interval_without_spread(classes)
    half_width = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error / (at * (1 - at))
    centre = special.logit(at)
    return Interval(float(special.expit(centre - half_width)), float(special.expit(centre + half_width)))


def bootstrap_interval(drawn: Floats, classes: Classes) -> Interval:
    """Percentiles of the AUROCs of resamples, or the bound that holds always where they are all the same."""
    interval = percentiles(drawn)
    return interval if interval.low < interval.high else interval_without_spread(classes)


def interval_without_spread(classes: Classes) -> Interval:
    """An interval for an AUROC whose estimated error is 0 or unknown, valid for every pair of distributions.

    With m the size of the smaller class, m disjoint pairs are independent, and all of them are in order with
    probability at most A^m: so an area of 1 says A >= (alpha / 2)^(1/m). Otherwise Hoeffding's bound for U-statistics
    over m pairs. With clusters, m counts pairs of clusters, as if these were of one size.
    """
    at, pairs = area(classes), classes.n_independent
    tail = (1 - CONFIDENCE) / 2
    bound = tail ** (1 / pairs)
    if at == 1.0:
        return Interval(bound, 1.0)
    if at == 0.0:
        return Interval(0.0, 1.0 - bound)
    half_width = math.sqrt(-math.log(tail) / (2 * pairs))
    return Interval(max(0.0, at - half_width), min(1.0, at + half_width))


def p_value(classes: Classes) -> float:
    """One-sided p-value of an AUROC above 1/2, of two classes that are not empty."""
    if classes.clusters_positive is not None:
        return _p_value_of_clusters(classes)
    return mann_whitney_p(classes.positive, classes.negative)


def _p_value_of_clusters(classes: Classes) -> float:
    at, pairs = area(classes), classes.n_independent
    error, freedom = _error(classes)
    if at == 1.0:
        return float(0.5**pairs)
    if not error > 0 or at == 0.0:
        return math.exp(-2 * pairs * max(0.0, at - 0.5) ** 2)
    return max(float(stats.t.sf(special.logit(at) * at * (1 - at) / error, freedom)), 0.5**classes.n_fewer)


def _difference_test(difference: float, error: float, freedom: float, classes: Classes) -> tuple[Interval, float]:
    """Interval and two-sided p-value; by Hoeffding's bound for a mean in [-1, 1] where nothing varies.

    A p-value is never below that of a sign test of as many signs as there are documents (or clusters) of a class.
    """
    if error > 0:
        half_width = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
        p = min(1.0, max(float(2 * stats.t.sf(abs(difference) / error, freedom)), 2 * 0.5**classes.n_fewer))
    else:
        pairs = classes.n_independent
        half_width = 0.0 if difference == 0 else math.sqrt(-2 * math.log((1 - CONFIDENCE) / 2) / pairs)
        p = min(1.0, 2 * math.exp(-pairs * difference**2 / 2))
    return Interval(max(-1.0, float(difference - half_width)), min(1.0, float(difference + half_width))), p


def _error(classes: Classes) -> tuple[float, float]:
    return _error_of(*classes.places, classes)


def _error_of(positive: Floats, negative: Floats, classes: Classes) -> tuple[float, float]:
    """Standard error of the mean place, and its degrees of freedom."""
    if classes.clusters_positive is not None and classes.clusters_negative is not None:
        return _clustered_error(positive, negative, classes.clusters_positive, classes.clusters_negative)
    if min(positive.size, negative.size) < 2:
        return math.nan, math.inf
    variances, theirs = np.transpose([_mean_variance(places) for places in (positive, negative)])
    variance = float(variances.sum())
    most = positive.size + negative.size - 2.0
    freedom = 2 * variance**2 / float(theirs.sum()) if theirs.sum() > 0 else most
    return math.sqrt(variance), float(np.clip(freedom, 1.0, most))


def _mean_variance(places: Floats) -> tuple[float, float]:
    """Estimated variance of a mean, and that of the estimate, from the fourth moment."""
    size, deviations = places.size, places - places.mean()
    variance = float((deviations**2).sum() / (size - 1))
    of_it = (float((deviations**4).mean()) - variance**2 * (size - 3) / (size - 1)) / size
    return variance / size, max(0.0, of_it) / size**2


def _clustered_error(
    positive: Floats, negative: Floats, clusters_positive: Codes, clusters_negative: Codes
) -> tuple[float, float]:
    """Obuchowski's error: sums of deviations over clusters vary, and those of both classes in a cluster covary."""
    codes, places_of = np.unique(np.concatenate([clusters_positive, clusters_negative]), return_inverse=True)
    in_positive, in_negative = places_of[: positive.size], places_of[positive.size :]
    sums_positive = np.bincount(in_positive, positive - positive.mean(), codes.size) / positive.size
    # A negative's place is the share of positives below it; what covaries with a positive's is the share above.
    sums_negative = np.bincount(in_negative, negative.mean() - negative, codes.size) / negative.size
    n_positive, n_negative = np.unique(in_positive).size, np.unique(in_negative).size
    if min(n_positive, n_negative) < 2:
        return math.nan, math.inf
    of_positive = float((sums_positive**2).sum()) * n_positive / (n_positive - 1)
    of_negative = float((sums_negative**2).sum()) * n_negative / (n_negative - 1)
    shared = float((sums_positive * sums_negative).sum()) * codes.size / (codes.size - 1)
    variance = of_positive + of_negative + 2 * shared
    if not variance > 0:
        return 0.0, math.inf
    return math.sqrt(variance), min(n_positive, n_negative) - 1.0
