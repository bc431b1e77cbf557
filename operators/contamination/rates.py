"""Shares of items: their intervals, the difference of two of them, and the exact test of two.

Sources: Clopper & Pearson 1934; Newcombe 1998, Statist. Med. 17, 873 (method 10, of Wilson's intervals); Fisher's exact
test of one side, which holds its level at any size and is conservative at small ones.
"""

from __future__ import annotations

import math

from scipy import stats

from operators.evaluation.classes import CONFIDENCE, Interval

SHARE_METHOD = "Clopper-Pearson"
DIFFERENCE_METHOD = "Newcombe; Fisher's exact test, one-sided"


def share_interval(hits: int, n: int) -> Interval:
    """The exact interval of a share: it covers the truth in at least 95 %.

    Raises:
        ValueError: not 0 <= hits <= n, or n is 0.
    """
    exact = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="exact")
    return Interval(float(exact.low), float(exact.high))


def difference_interval(hits: int, n: int, base_hits: int, base_n: int) -> Interval:
    """The interval of `hits / n - base_hits / base_n`, never outside -1 to 1.

    Raises:
        ValueError: more hits than items, or no items.
    """
    share, base = hits / n, base_hits / base_n
    own, other = _wilson(hits, n), _wilson(base_hits, base_n)
    below = math.hypot(share - own.low, other.high - base)
    above = math.hypot(own.high - share, base - other.low)
    return Interval(share - base - below, share - base + above)


def higher_rate_p_value(hits: int, n: int, base_hits: int, base_n: int) -> float:
    """P-value of "items are hit no oftener than those of the base": Fisher's exact test.

    The chance of at least `hits` among the `n` where `hits + base_hits` of all are drawn without regard to the sets.
    """
    return min(1.0, float(stats.hypergeom.sf(hits - 1, n + base_n, hits + base_hits, n)))


def _wilson(hits: int, n: int) -> Interval:
    found = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))
