"""Mann and Whitney's one-sided p-value that positives do not score higher, exact or sampled where a class is small.

    more than 8 documents of each class    normal approximation, corrected for ties and continuity
    fewer, and few ways to deal them       every way to deal the ranks to the classes
    fewer, no ties, up to 2,000 others     exact distribution (SciPy)
    fewer                                  99,999 random ways, the observed one counted: p is 1e-5 at least

Time and memory grow with the documents' number alone, however small the smaller class is.
Source: Mann & Whitney 1947, doi 10.1214/aoms/1177730491.
"""

from __future__ import annotations

import math
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from operators.evaluation.classes import Floats

FEW = 8  # documents of a class up to which the normal approximation is poor
_DEALS = 99_999  # ways to deal ranks that are looked at
_MOST_EXACT = 2_000  # documents up to which SciPy's exact distribution, of quadratic cost, takes well under a second

_Ranks = npt.NDArray[np.int64]


def mann_whitney_p(positive: Floats, negative: Floats) -> float:
    """P-value of "positives do not score higher", of two classes that are not empty; 1 where all scores are equal."""
    scores = np.concatenate([positive, negative])
    values = np.unique(scores)
    if values.size == 1:
        return 1.0
    few = min(positive.size, negative.size)
    if few > FEW:
        return _by_scipy(positive, negative, "asymptotic")
    if math.comb(scores.size, few) > _DEALS and values.size == scores.size <= _MOST_EXACT:
        return _by_scipy(positive, negative, "exact")
    # Twice the rank, for ties have halves; infinities have a rank as any other.
    ranks = np.rint(2 * stats.rankdata(scores)).astype(np.int64)
    if positive.size <= negative.size:
        return _by_deals(ranks, ranks[: positive.size])
    return _by_deals(-ranks, -ranks[positive.size :])


def _by_scipy(positive: Floats, negative: Floats, method: str) -> float:
    return float(stats.mannwhitneyu(positive, negative, alternative="greater", method=method).pvalue)


def _by_deals(ranks: _Ranks, few: _Ranks) -> float:
    """How often as many ranks [few], drawn from all [N], have a sum at least theirs."""
    ways = math.comb(ranks.size, few.size)
    if ways <= _DEALS:
        chosen = np.fromiter(chain.from_iterable(combinations(range(ranks.size), few.size)), np.intp, ways * few.size)
        return float((ranks[chosen.reshape(ways, few.size)].sum(axis=1) >= few.sum()).mean())
    drawn = ranks[_draw(ranks.size, few.size, np.random.default_rng(0))].sum(axis=1)
    return float((1 + np.count_nonzero(drawn >= few.sum())) / (_DEALS + 1))


def _draw(size: int, few: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Random subsets of `range(size)`: [deals, few], each subset as likely as any other.

    Floyd's way: the j-th last number is drawn from all up to it, and taken itself where what was drawn is there.
    """
    chosen = np.empty((_DEALS, few), dtype=np.intp)
    for column, last in enumerate(range(size - few, size)):
        drawn = generator.integers(0, last + 1, _DEALS)
        there = (chosen[:, :column] == drawn[:, None]).any(axis=1)
        chosen[:, column] = np.where(there, last, drawn)
    return chosen
