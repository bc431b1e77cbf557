"""What the documents of a corpus are like in one number each: quantiles, mean, and whether two corpora differ.

    quantiles    as order statistics (the smallest value that the share of the documents does not exceed), with the
                 distribution-free interval of two order statistics, which covers at its level or more; the smallest
                 and the largest have none
    mean         with an interval by Student's t and one by the bootstrap-t over documents, which follows the skew that
                 lengths have (Efron & Tibshirani 1993, chapter 12): from the lower to the upper end of both, since
                 either alone covers less than it says, of long tails or few documents; t alone from `MANY` on
    difference   Kolmogorov and Smirnov's largest gap between the shares of documents up to a value, 0 to 1, by
                 relabelling documents: ties, which its own distribution does not allow, do no harm

Letters: `N` documents of both corpora, `B` splits, `R` draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from operators.comparison.resampling import Ends, Mask, Statistic
from operators.evaluation.classes import Floats

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MEAN = -1.0  # in the place of a quantile
MANY = 20_000
_CELLS = 1 << 21


@dataclass(frozen=True)
class Point:
    """A quantile or the mean (`quantile` = `MEAN`) of `n` values."""

    quantile: float
    value: float
    ends: Ends
    n: int


def profile(values: Floats, *, confidence: float, draws: int, rng: np.random.Generator) -> list[Point]:
    """The mean and the quantiles of values; NaN are left out, and there are no points where none is left."""
    ordered = np.sort(values[~np.isnan(values)])
    if not ordered.size:
        return []
    mean = Point(MEAN, float(ordered.mean()), mean_interval(ordered, confidence, draws, rng), ordered.size)
    return [mean, *(_quantile(ordered, share, confidence) for share in QUANTILES)]


def _quantile(ordered: Floats, share: float, confidence: float) -> Point:
    place = max(0, int(np.ceil(share * ordered.size - 1e-9)) - 1)
    return Point(share, float(ordered[place]), quantile_interval(ordered, share, confidence), ordered.size)


def quantile_interval(ordered: Floats, share: float, confidence: float) -> Ends:
    """From the order statistics between which the quantile lies; NaN where so few documents cannot say.

    #{values up to the quantile} is binomial, so P(value l <= quantile <= value u) >= P(l <= count < u), counted from 1.
    """
    n, none = ordered.size, Ends(np.nan, np.nan)
    if not 0 < share < 1:
        return none
    beyond = (1 - confidence) / 2
    low = int(stats.binom.ppf(beyond, n, share))  # P(count < low) <= beyond
    high = int(stats.binom.ppf(1 - beyond, n, share)) + 1  # P(count >= high) <= beyond
    if low < 1 or high > n:
        return none
    return Ends(float(ordered[low - 1]), float(ordered[high - 1]))


def mean_interval(values: Floats, confidence: float, draws: int, rng: np.random.Generator) -> Ends:
    """Of the mean of the source that values were drawn from; NaN below four values."""
    n = values.size
    if n < 4:
        return Ends(np.nan, np.nan)
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error == 0:
        return Ends(mean, mean)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    if n >= MANY:
        return Ends(mean - half, mean + half)
    beyond = (1 - confidence) / 2
    low, high = np.quantile(_studentised(values, draws, rng), [1 - beyond, beyond])
    return Ends(min(mean - half, float(mean - low * error)), max(mean + half, float(mean - high * error)))


def _studentised(values: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """(mean of a resample - mean) / its own error; resamples of one value only are left out."""
    rows = max(1, _CELLS // values.size)
    found = []
    for start in range(0, draws, rows):
        drawn = values[rng.integers(0, values.size, (min(rows, draws - start), values.size))]
        error = drawn.std(axis=1, ddof=1) / np.sqrt(values.size)
        moved = drawn.mean(axis=1) - values.mean()
        found.append(moved[error > 0] / error[error > 0])
    return np.concatenate(found)


def largest_gap(values_N: Floats) -> Statistic:
    """Kolmogorov and Smirnov's distance of two sets of documents by their values, `[1, B]`; NaN are in neither."""
    places = np.flatnonzero(~np.isnan(values_N))
    order = places[np.argsort(values_N[places], kind="stable")]
    ordered = values_N[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), max(0, ordered.size - 1))

    def values(a_NB: Mask, b_NB: Mask) -> Floats:
        if not order.size:
            return np.full((1, a_NB.shape[1]), np.nan)
        a, b = (np.cumsum(mask[order], axis=0, dtype=np.int64) for mask in (a_NB, b_NB))
        with np.errstate(invalid="ignore", divide="ignore"):
            gap_B = np.abs(a[last] / a[-1] - b[last] / b[-1]).max(axis=0)
        found: Floats = gap_B[None]
        return found

    return values
