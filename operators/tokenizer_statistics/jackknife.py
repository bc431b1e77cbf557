"""Intervals over groups of documents: what leaving each group out does to a statistic.

    values   the statistic on all documents, then on all but group 0, all but group 1, ...        (1 + G,)
    variance (g - 1) / g * sum of (value without a group - their mean) ** 2, over the g groups that hold documents
    interval value +- t * sqrt(variance), Student's t with g - 1 degrees of freedom

Documents are the independent units, and a hash of the key puts them into groups, so nothing is resampled and the same
counts give the same interval. It is that of what samples of this size give: a bias that comes from the size of the
sample, as plug-in entropies have, is not in it.

Measured on source code in documents of log-normal length (deviation 1), 95 % asked for: 80 samples of 1000 documents,
92 to 99 % covered; 250 of 200 documents, 92 % and more, but 84 to 90 % of how numbers are split, which few documents
are full of; 300 of 40 documents, 89 % and more, numbers 83 to 95 %. Intervals of conditional entropy and of the
percentile frequency are a third wider than they need be.
Source: the delete-a-group jackknife, Kott 2001, Journal of Official Statistics 17(4).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from operators.tokenizer_statistics.text_facts import Flags

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]

MIN_GROUPS = 5  # with fewer groups that hold documents there is no interval


def variance(values: Values, occupied: Flags) -> float | None:
    """Of the statistic, from its values `(1 + G,)`; None where a value is undefined or groups are too few."""
    without = values[1:][occupied]
    if len(without) < MIN_GROUPS or not np.isfinite(without).all():
        return None
    g = len(without)
    return float((g - 1) / g * ((without - without.mean()) ** 2).sum())


def interval(value: float, spread: float | None, df: int, confidence: float) -> Interval | None:
    """Around `value`, of variance `spread` with so many degrees of freedom."""
    if spread is None:
        return None
    reach = student_t(confidence, df) * math.sqrt(spread)
    return value - reach, value + reach


def wilson(successes: float, trials: int, confidence: float) -> Interval | None:
    """Of a share of documents, each an independent trial. Source: Wilson 1927, JASA 22(158)."""
    if trials < 1:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return middle - reach, middle + reach


def student_t(confidence: float, df: int) -> float:
    """The t that |T| of `df` degrees of freedom stays below with this probability, to 1e-12 in angle.

    By bisection of the closed form for whole degrees. Source: Abramowitz & Stegun 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < confidence else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def _within(angle: float, df: int) -> float:
    """P(|T| < sqrt(df) tan(angle))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, df, 2):  # k is the power of the next cosine but one
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
