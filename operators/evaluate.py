"""How well scores separate two classes: AUROC, TPR at a low FPR, FPR at a high TPR, all with 95 % intervals.

    AUROC         mid-ranks (Mann-Whitney); DeLong interval on the logit scale, or stratified bootstrap
    TPR at FPR    achieved, never interpolated: the largest TPR among thresholds whose FPR is at most the level
    undefined     NULL and NaN scores are counted per class and left out; -inf and +inf are valid, the extreme ranks

Scores are oriented beforehand, higher = positive: nothing here turns them round or picks the better of two directions.
A threshold c calls a document positive where score >= c, so equal scores are one threshold.

Letters: `N` documents of one class or both, `U` different score values, `R` bootstrap draws.
Sources: DeLong et al. 1988, doi 10.2307/2531595; low FPR: Carlini et al. 2022, arXiv 2112.03570.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Values = Sequence[float | None] | npt.ArrayLike

FPR_LEVELS = (0.001, 0.01, 0.05)
TPR_LEVEL = 0.95
DRAWS = 2000
CONFIDENCE = 0.95

_CELLS = 4_000_000  # of a bootstrap chunk [R, U]: 32 MB a matrix


@dataclass(frozen=True)
class Interval:
    """A two-sided interval of `CONFIDENCE`, ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


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


@dataclass(frozen=True)
class Evaluation:
    """One score on one labelled set. Numbers are NaN where a class has no defined score."""

    name: str
    n_positive: int
    n_negative: int
    undefined_positive: int
    undefined_negative: int
    auroc: float
    auroc_interval: Interval
    tpr_at_fpr: tuple[TprAtFpr, ...]
    fpr_at_tpr: float


def evaluate(
    scores: Mapping[str, Values],
    labels: Values,
    *,
    levels: Sequence[float] = FPR_LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Evaluation]:
    """Evaluate several scores of the same documents, in the order given.

    Args:
        scores: name -> [N] score of each document, None or NaN where undefined.
        labels: [N] 1 positive, 0 negative, None or NaN unknown (such documents are left out).
        levels: false-positive rates at which to report the TPR.
        draws: bootstrap draws for the TPR intervals; AUROC has DeLong's.
        seed: of the bootstrap, the same for every score.

    Raises:
        ValueError: lengths differ, or a label is neither 0, 1 nor missing.
    """
    return [_evaluate_one(name, values, labels, levels, draws, seed) for name, values in scores.items()]


def _evaluate_one(
    name: str, scores: Values, labels: Values, levels: Sequence[float], draws: int, seed: int
) -> Evaluation:
    classes = _classes(scores, labels)
    positive, negative = (values[~np.isnan(values)] for values in classes)
    undefined = [int(np.isnan(values).sum()) for values in classes]
    nothing = Interval(math.nan, math.nan)
    both = positive.size > 0 and negative.size > 0
    if both:
        low_fpr = _tpr_at_fpr_with_intervals(positive, negative, levels, draws, seed)
    else:
        low_fpr = [TprAtFpr(level, math.nan, nothing, math.nan, math.nan, False) for level in levels]
    return Evaluation(
        name=name,
        n_positive=positive.size,
        n_negative=negative.size,
        undefined_positive=undefined[0],
        undefined_negative=undefined[1],
        auroc=_auroc(positive, negative) if both else math.nan,
        auroc_interval=_delong_interval(positive, negative) if both else nothing,
        tpr_at_fpr=tuple(low_fpr),
        fpr_at_tpr=_fpr_at_tpr(positive, negative, TPR_LEVEL) if both else math.nan,
    )


# AUROC


def auroc(scores: Values, labels: Values) -> float:
    """P(positive > negative) + P(equal) / 2 over all pairs of defined scores.

    Raises:
        ValueError: a class is empty, lengths differ, or a label is neither 0, 1 nor missing.
    """
    return _auroc(*_defined(scores, labels))


def delong_error(scores: Values, labels: Values) -> float:
    """DeLong's standard error of the AUROC; NaN where a class has one document.

    Raises:
        ValueError: as `auroc`.
    """
    return _delong_error(*_defined(scores, labels))


def auroc_interval(
    scores: Values,
    labels: Values,
    *,
    method: Literal["delong", "bootstrap"] = "delong",
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """95 % interval of the AUROC.

    `delong` is normal on the logit scale, so it stays inside (0, 1). `bootstrap` resamples each class and takes
    percentiles. Where the data show no spread, as with perfectly separated classes, both would collapse to a point; the
    interval there is the one that holds for any two distributions (`_interval_without_spread`).

    Raises:
        ValueError: as `auroc`.
    """
    positive, negative = _defined(scores, labels)
    if method == "delong":
        return _delong_interval(positive, negative)
    (sampled,) = _bootstrap(positive, negative, [_auroc_of_counts], draws, seed)
    interval = _percentiles(sampled)
    if interval.low == interval.high:
        return _interval_without_spread(positive, negative)
    return interval


def _auroc(positive: Floats, negative: Floats) -> float:
    return float(_places(positive, negative)[0].mean())


def _places(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """For each document, the share of the other class below it, ties by half: [N] of positives and of negatives."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    ranks_positive, ranks_negative = ranks[: positive.size], ranks[positive.size :]
    return (
        (ranks_positive - stats.rankdata(positive)) / negative.size,
        (ranks_negative - stats.rankdata(negative)) / positive.size,
    )


def _delong_error(positive: Floats, negative: Floats) -> float:
    if min(positive.size, negative.size) < 2:
        return math.nan
    variances = [float(place.var(ddof=1)) / place.size for place in _places(positive, negative)]
    return math.sqrt(sum(variances))


def _delong_interval(positive: Floats, negative: Floats) -> Interval:
    area, error = _auroc(positive, negative), _delong_error(positive, negative)
    if not error > 0 or area in (0.0, 1.0):
        return _interval_without_spread(positive, negative)
    half_width = stats.norm.ppf((1 + CONFIDENCE) / 2) * error / (area * (1 - area))
    centre = special.logit(area)
    return Interval(float(special.expit(centre - half_width)), float(special.expit(centre + half_width)))


def _interval_without_spread(positive: Floats, negative: Floats) -> Interval:
    """An interval for an AUROC whose estimated error is 0 or unknown, valid for every pair of distributions.

    With m the size of the smaller class, m disjoint pairs are independent, and all of them are in order with
    probability at most A^m: so an area of 1 says A >= (alpha / 2)^(1/m). Otherwise Hoeffding's bound for U-statistics
    over m pairs.
    """
    area, pairs = _auroc(positive, negative), min(positive.size, negative.size)
    tail = (1 - CONFIDENCE) / 2
    bound = tail ** (1 / pairs)
    if area == 1.0:
        return Interval(bound, 1.0)
    if area == 0.0:
        return Interval(0.0, 1.0 - bound)
    half_width = math.sqrt(-math.log(tail) / (2 * pairs))
    return Interval(max(0.0, area - half_width), min(1.0, area + half_width))


# The ROC curve


def tpr_at_fpr(scores: Values, labels: Values, level: float) -> float:
    """The largest TPR among thresholds with FPR <= `level`; 0 where no threshold has that.

    Raises:
        ValueError: as `auroc`.
    """
    return _at_fpr(*_defined(scores, labels), level)[0]


def tpr_at_fpr_interval(scores: Values, labels: Values, level: float, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % interval of `tpr_at_fpr`: stratified bootstrap, so the threshold is estimated anew in every draw.

    It is widened to the Clopper-Pearson interval of the positives at the threshold found, which does not collapse when
    none or all of them lie above it. With few negatives (level * n_negative below 10, say) the achieved FPR falls short
    of the level, and with it the TPR: the interval then covers the TPR of the population less often (85 % at 1).

    Raises:
        ValueError: as `auroc`.
    """
    return _tpr_at_fpr_with_intervals(*_defined(scores, labels), [level], draws, seed)[0].interval


def fpr_at_tpr(scores: Values, labels: Values, level: float = TPR_LEVEL) -> float:
    """The smallest FPR among thresholds with TPR >= `level`.

    Raises:
        ValueError: as `auroc`.
    """
    return _fpr_at_tpr(*_defined(scores, labels), level)


def _roc(positive: Floats, negative: Floats) -> tuple[Floats, Floats, Floats]:
    """TPR, FPR and threshold at every different score, highest first: [U] each."""
    thresholds, positives, negatives = _counts(positive, negative)
    return positives.cumsum() / positive.size, negatives.cumsum() / negative.size, thresholds


def _counts(positive: Floats, negative: Floats) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The different scores, highest first, and how many documents of each class have them: [U] each."""
    values, places = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    places = values.size - 1 - places
    return (
        values[::-1],
        np.bincount(places[: positive.size], minlength=values.size),
        np.bincount(places[positive.size :], minlength=values.size),
    )


def _at_fpr(positive: Floats, negative: Floats, level: float) -> tuple[float, float, float]:
    """TPR, FPR and threshold of the lowest threshold with FPR <= level; 0, 0 and NaN where there is none."""
    tpr, fpr, thresholds = _roc(positive, negative)
    allowed = int(np.searchsorted(fpr, level, side="right"))  # FPR rises along the curve
    if allowed == 0:
        return 0.0, 0.0, math.nan
    return float(tpr[allowed - 1]), float(fpr[allowed - 1]), float(thresholds[allowed - 1])


def _fpr_at_tpr(positive: Floats, negative: Floats, level: float) -> float:
    tpr, fpr, _ = _roc(positive, negative)
    return float(fpr[np.searchsorted(tpr, level, side="left")])


def _tpr_at_fpr_with_intervals(
    positive: Floats, negative: Floats, levels: Sequence[float], draws: int, seed: int
) -> list[TprAtFpr]:
    statistics = [_tpr_of_counts(level) for level in levels]
    sampled = _bootstrap(positive, negative, statistics, draws, seed)
    results = []
    for level, values in zip(levels, sampled, strict=True):
        tpr, fpr, threshold = _at_fpr(positive, negative, level)
        exact = stats.binomtest(round(tpr * positive.size), positive.size).proportion_ci(CONFIDENCE, method="exact")
        drawn = _percentiles(values)
        interval = Interval(min(drawn.low, float(exact.low)), max(drawn.high, float(exact.high)))
        results.append(TprAtFpr(level, tpr, interval, fpr, threshold, resolvable=1 / negative.size <= level))
    return results


# Bootstrap

Counts = npt.NDArray[np.int64]
Statistic = Callable[[Counts, Counts], Floats]


def _bootstrap(
    positive: Floats, negative: Floats, statistics: Sequence[Statistic], draws: int, seed: int
) -> list[Floats]:
    """Statistics of `draws` resamples, each class on its own: one [R] array a statistic.

    A resample is a count for every different score, highest first: ROC and AUROC need no more than that.
    """
    values, positives, negatives = _counts(positive, negative)
    generator = np.random.default_rng(seed)
    size = max(1, _CELLS // max(values.size, positive.size, negative.size))
    chunks: list[list[Floats]] = []
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        drawn = [_resample(counts, rows, generator) for counts in (positives, negatives)]
        chunks.append([statistic(drawn[0], drawn[1]) for statistic in statistics])
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _resample(counts: npt.NDArray[np.intp], rows: int, generator: np.random.Generator) -> Counts:
    """Counts of `rows` samples with replacement from the documents behind `counts` [U]: [R, U]."""
    documents = np.repeat(np.arange(counts.size), counts)
    chosen = documents[generator.integers(0, documents.size, size=(rows, documents.size))]
    chosen += np.arange(rows)[:, None] * counts.size
    return np.bincount(chosen.ravel(), minlength=rows * counts.size).reshape(rows, counts.size)


def _auroc_of_counts(positives_RU: Counts, negatives_RU: Counts) -> Floats:
    above_RU = positives_RU.cumsum(axis=1) - positives_RU / 2  # positives above a score, half of those at it
    pairs = positives_RU[0].sum() * negatives_RU[0].sum()
    return np.asarray((above_RU * negatives_RU).sum(axis=1) / pairs, dtype=np.float64)


def _tpr_of_counts(level: float) -> Statistic:
    def statistic(positives_RU: Counts, negatives_RU: Counts) -> Floats:
        fpr_RU = negatives_RU.cumsum(axis=1) / negatives_RU[0].sum()
        # FPR rises along the curve, so the positives at an allowed threshold are those counted.
        hits_R = np.where(fpr_RU <= level, positives_RU, 0).sum(axis=1)
        return np.asarray(hits_R / positives_RU[0].sum(), dtype=np.float64)

    return statistic


def _percentiles(sampled: Floats) -> Interval:
    low, high = np.quantile(sampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


# Input


def _classes(scores: Values, labels: Values) -> tuple[Floats, Floats]:
    """Scores of positives and of negatives, undefined ones (NaN) included."""
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.float64)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"scores {values.shape} and labels {truth.shape}: expected two lists of one length")
    strange = sorted(set(truth[~np.isnan(truth)]) - {0.0, 1.0})
    if strange:
        raise ValueError(f"labels must be 0, 1 or missing, found {strange[:5]}")
    return values[truth == 1], values[truth == 0]


def _defined(scores: Values, labels: Values) -> tuple[Floats, Floats]:
    positive, negative = (values[~np.isnan(values)] for values in _classes(scores, labels))
    if positive.size == 0 or negative.size == 0:
        raise ValueError(f"{positive.size} positives and {negative.size} negatives with a defined score: need both")
    return positive, negative
