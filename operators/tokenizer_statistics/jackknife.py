"""Intervals over groups of documents: what leaving each group out does to a statistic.

    values   the statistic on all documents, then on all but group 0, all but group 1, ...        (1 + G,)
    variance (g - 1) / g * sum of (value without a group - their mean) ** 2, over the g groups that hold documents
    interval value +- t * sqrt(variance), Student's t with at most g - 1 degrees of freedom

Documents are the independent units, and a hash of the key puts them into groups, so nothing is resampled and the same
counts give the same interval. It is that of what samples of this size give: a bias that comes from the size of the
sample, as plug-in entropies have, is not in it.

Statistics that few documents decide, as how numbers are split, have skewed values and a variance that is itself badly
known. So shares are taken to their logit, and what has a least value to the logarithm of what is above it, unless a
value lies at an end of the range; and t has fewer degrees of freedom where few groups hold most of the variance.

Measured with the tokenizer of GPT-2 on source code in documents of log-normal length (deviation 1), 95 % asked for, 600
samples of 40, 200, 1000, 5000 documents. Bytes per token: 94, 97, 96, 95 % covered. Shares and lengths of split
numbers: 88 to 97, 91 to 94, 92 to 95, 92 to 96 %; what is missed lies mostly on the side that few documents are on.
Intervals of conditional entropy and of the percentile frequency are a third wider than they need be.
Source: the delete-a-group jackknife, Kott 2001, Journal of Official Statistics 17(4); degrees of freedom: Satterthwaite
1946, Biometrics Bulletin 2(6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from operators.tokenizer_statistics.text_facts import Flags

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]
Scale = tuple[Callable[[Values], Values], Callable[[float], float]]

MIN_GROUPS = 5  # with fewer groups that hold documents there is no interval
_SAME = 1e-12  # of a value: groups that differ by less differ by rounding
_LARGEST = 700.0  # whose exponential is finite


@dataclass(frozen=True)
class Spread:
    """variance: of a statistic. df: degrees of freedom that the variance is known with."""

    variance: float
    df: int


def spread(values: Values, occupied: Flags) -> Spread | None:
    """Of the statistic, from its values `(1 + G,)`.

    None where a value is undefined, groups are too few, or all of them agree: that says nothing of how sure it is.
    """
    without = values[1:][occupied]
    g = len(without)
    if g < MIN_GROUPS or not np.isfinite(without).all() or np.ptp(without) <= _SAME * np.abs(without).max():
        return None
    squares = (without - without.mean()) ** 2
    kurtosis = g * (squares**2).sum() / squares.sum() ** 2  # 3 for a normal, up to g where one group is all
    return Spread(float((g - 1) / g * squares.sum()), min(g - 1, round(2 * g / (kurtosis - (g - 3) / (g - 1)))))


def together(one: Spread, other: Spread) -> Spread:
    """Of the sum of two independent statistics. Source: Welch 1947, Biometrika 34."""
    total = one.variance + other.variance
    return Spread(total, int(total**2 / (one.variance**2 / one.df + other.variance**2 / other.df)))


def interval(value: float, found: Spread | None, confidence: float) -> Interval | None:
    """Around `value`."""
    if found is None:
        return None
    reach = student_t(confidence, found.df) * math.sqrt(found.variance)
    return value - reach, value + reach


def jackknife(
    values: Values, occupied: Flags, confidence: float, minimum: float = -math.inf, maximum: float = math.inf
) -> Interval | None:
    """Of a statistic that lies between `minimum` and `maximum` by nature, from its values `(1 + G,)`."""
    forth, back = _scale(values, minimum, maximum)
    scaled = forth(values)
    ends = interval(float(scaled[0]), spread(scaled, occupied), confidence)
    return None if ends is None else (back(ends[0]), back(ends[1]))


def _scale(values: Values, minimum: float, maximum: float) -> Scale:
    """A scale on which intervals end within the range, where all values lie inside of it; and back from it."""
    width = maximum - minimum
    if not math.isfinite(minimum) or not ((values > minimum) & (values < maximum)).all():
        return np.asarray, float
    if math.isfinite(maximum):
        return (lambda v: np.log((v - minimum) / (maximum - v))), (
            lambda x: minimum + width / 2 * (1 + math.tanh(x / 2))
        )
    return (lambda v: np.log(v - minimum)), (lambda x: minimum + math.exp(min(x, _LARGEST)))


def wilson(successes: float, trials: int, confidence: float) -> Interval | None:
    """Of a share of documents, each an independent trial. Source: Wilson 1927, JASA 22(158)."""
    if trials < 1:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    # At the ends the formula gives 0 or 1 but for rounding.
    return (middle - reach if successes else 0.0), (middle + reach if successes < trials else 1.0)


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
