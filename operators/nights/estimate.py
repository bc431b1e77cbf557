"""One number of a night with its error: a ratio of sums, whose units are shards where there are enough, else documents.

    r = sum x / sum y        se^2 = U / (U - 1) sum_u (x_u - r y_u)^2 / (sum y)^2        (delta method)
    u   shards where they weigh as much as FEWEST_SHARDS equal ones do, (sum y)^2 / sum y_u^2, else documents
    interval    r -+ t se, t with one degree of freedom less than there are units' worth; of a share Wilson's

Documents of one shard often come from one site or one crawl and go together; as if independent they would make errors
far too small. With few shards nothing says how far shards differ, and documents are taken: what that misses is part of
how far nights scatter (`levels`), which is estimated from the nights.
Letters: `U` units (shards).
Sources: delta method by clusters: Cochran 1977, ch. 6 and 9A; Wilson 1927, doi 10.1080/01621459.1927.10502953, with the
number of independent documents that the error stands for: Korn & Graubard 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy import stats

from operators.nights.scale import share_level
from schemas.nights import ARCSINE, IDENTITY

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST_SHARDS = 8.0
FEWEST_UNITS = 8  # with fewer, an error is too unsure to compare nights by
SHARDS, DOCUMENTS = "shards", "documents"


@dataclass(frozen=True)
class Sums:
    """`x_U`, `y_U` by shard; `xx`, `yy`, `xy`: products summed over all documents; `n`: documents."""

    x_U: Floats
    y_U: Floats
    xx: float
    yy: float
    xy: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and its level and error on the scale of comparison; None: not known.

    `n`: documents or records; `n_units`: independent units; `method`: which they are.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    n_units: int
    method: str
    scale: str
    level: float
    level_error: float | None


def ratio(sums: Sums, *, is_share: bool = False) -> Estimate | None:
    """The ratio with its error; None where its denominator is 0 or there is no document."""
    x, y = float(sums.x_U.sum()), float(sums.y_U.sum())
    if not sums.n or not y > 0:
        return None
    value = x / y
    weight = y**2 / float((sums.y_U**2).sum())  # as many shards of one size would be as sure
    if weight >= FEWEST_SHARDS:
        squares, units, alike, method = float(((sums.x_U - value * sums.y_U) ** 2).sum()), sums.y_U.size, weight, SHARDS
    else:
        squares = max(0.0, sums.xx - 2 * value * sums.xy + value**2 * sums.yy)
        units, alike, method = sums.n, y**2 / sums.yy, DOCUMENTS
    error = None if units < 2 or alike <= 1 else sqrt(squares * units / (units - 1)) / y
    make = _share if is_share else _plain
    return make(value, error, alike, sums.n, units, method)


def counted_share(count: int, n: int) -> Estimate | None:
    """A share of `n` independent ones; None of none."""
    return _share(count / n, None, float(n), n, n, DOCUMENTS) if n else None


def area(value: float, low: float, high: float, n: int) -> Estimate:
    """An AUROC with its interval, compared like a share of as many as its interval stands for."""
    half = (high - low) / 2 / float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (low + high) / 2
    alike = max(1.0, centre * (1 - centre) / half**2) if half > 0 else float(n)
    level, error = share_level(value, alike)
    return Estimate(value, low, high, n, n, DOCUMENTS, ARCSINE, level, error)


def _plain(value: float, error: float | None, alike: float, n: int, units: int, method: str) -> Estimate:
    if error is None:
        return Estimate(value, None, None, n, units, method, IDENTITY, value, None)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(1.0, alike - 1))) * error
    return Estimate(value, value - reach, value + reach, n, units, method, IDENTITY, value, error)


def _share(value: float, error: float | None, alike: float, n: int, units: int, method: str) -> Estimate:
    """Of a share of 0 or 1, and where nothing varies, documents count as they are."""
    value = min(1.0, max(0.0, value))
    spread = value * (1 - value)
    independent = max(1.0, min(float(n), spread / error**2)) if error and spread > 0 else float(n)
    # With few units the error is itself unsure: t instead of the normal, as Korn and Graubard do.
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(1.0, alike - 1) if method == SHARDS else inf))
    low, high = _wilson(value, independent, t)
    return Estimate(value, low, high, n, units, method, ARCSINE, *share_level(value, independent))


def _wilson(share: float, n: float, t: float) -> tuple[float, float]:
    centre = (share + t**2 / (2 * n)) / (1 + t**2 / n)
    reach = t / (1 + t**2 / n) * sqrt(share * (1 - share) / n + t**2 / (4 * n**2))
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))
