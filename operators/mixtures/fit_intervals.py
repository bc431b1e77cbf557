"""Intervals of ratios of sums over documents: symmetric studentised bootstrap on the logarithm.

    r = log(sum x / sum y)        se^2 = sum (x_d / sum x - y_d / sum y)^2, over documents d
    t_b = |r_b - r| / se_b in sample b        interval: exp(r -+ q se), q the quantile of t_b at the level

Lengths of documents have long tails, and few carry much of the sums: percentiles of the ratio, and BCa, then cover too
seldom with tens of documents. Dividing by each sample's own error mends most of that (Hall 1988; measured by
`assay bench calibration`). What it cannot mend: where a handful of documents hold most of the text, intervals are
still too short. Samples without a document of the group are left out; where the error of so many samples is 0 that the
quantile is infinite, as with two to five documents, there is no interval.
Shapes: `R` bootstrap samples, `F` the products of `fit_sums.FIELDS`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from operators.mixtures.fit_sums import FIELDS, Sums

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Estimates = tuple[Floats, Floats]  # a logarithm and its standard error, of shape [] or [R]

_NONE_APART = 1e-9  # of a logarithm: closer than this is rounding
_RELATIVE_ROUNDING = 1e-14  # of a variance that is the difference of like sums


def log_ratio(sums_xF: Floats, top: str, bottom: str) -> Estimates:
    """log(top / bottom) and its standard error, for sums [..., F]. Not finite where a sum is 0."""
    x, y = _field(sums_xF, top), _field(sums_xF, bottom)
    xx, yy, xy = (_field(sums_xF, name) for name in (f"{top}*{top}", f"{bottom}*{bottom}", f"{top}*{bottom}"))
    with np.errstate(divide="ignore", invalid="ignore"):
        of_top = xx / x**2
        variance = of_top - 2 * xy / (x * y) + yy / y**2
        return np.log(x / y), np.sqrt(_positive(variance, of_top))


def log_odds(part_xS: Floats, whole_xS: Floats) -> Estimates:
    """log(share / (1 - share)) of a part of the whole, and its standard error, for `S`: a sum and that of its squares.
    Not finite where either side is 0."""
    x, rest = part_xS[..., 0], whole_xS[..., 0] - part_xS[..., 0]
    rest_square = np.maximum(whole_xS[..., 1] - part_xS[..., 1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x / rest), np.sqrt(part_xS[..., 1] / x**2 + rest_square / rest**2)


def studentised(of_all: Estimates, drawn: Estimates, level: float) -> Interval | None:
    """The interval of a logarithm, from its estimate [] and those of the samples [R]; None where there is none.

    A sample that is not finite counts as infinitely far off: leave out beforehand those that say nothing.
    """
    estimate, error = (float(each) for each in of_all)
    if not (drawn[0].size and np.isfinite(estimate) and np.isfinite(error)):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(drawn[0] - estimate)
        t = np.where(apart <= _NONE_APART, 0.0, apart / drawn[1])
    t[~np.isfinite(t)] = np.inf
    reach = float(np.quantile(t, level, method="higher")) * error if error else 0.0
    return (estimate - reach, estimate + reach) if np.isfinite(reach) else None


def ratio_interval(sums: Sums, top: str, bottom: str, level: float) -> Interval | None:
    """The interval of log(top / bottom) of a group; None for fewer than two documents with a scored token."""
    if sums.n_scored_documents < 2:
        return None
    held = sums.drawn_RF[_field(sums.drawn_RF, bottom) > 0]
    return studentised(log_ratio(sums.exact_F, top, bottom), log_ratio(held, top, bottom), level)


def share_interval(tokens_S: Floats, drawn_RS: Floats, whole: Sums, level: float) -> Interval | None:
    """The interval of a group's share of the scored tokens, drawing documents of the whole; of the group `tokens` and
    `drawn_tokens` are given. None where either side is empty in so many samples that nothing can be said."""
    found = studentised(log_odds(tokens_S, whole.tokens), log_odds(drawn_RS, whole.drawn_tokens), level)
    if found is None:
        return None
    low, high = (float(np.exp(-np.logaddexp(0.0, -end))) for end in found)
    return low, high


def exponential(interval: Interval | None, factor: float = 1.0) -> tuple[float | None, float | None]:
    """The ends of a logarithm's interval as numbers, times a factor; two None for none, or where they are too large."""
    if interval is None:
        return None, None
    with np.errstate(over="ignore"):
        low, high = (float(np.exp(end) * factor) for end in interval)
    return (low, high) if np.isfinite(high) else (None, None)


def _field(sums_xF: Floats, name: str) -> Floats:
    field: Floats = sums_xF[..., FIELDS.index(name)]
    return field


def _positive(variance: Floats, scale: Floats) -> Floats:
    """Zero where a variance is below what rounding of its terms leaves."""
    cleared: Floats = np.where(variance > _RELATIVE_ROUNDING * scale, variance, 0.0)
    cleared[np.isnan(variance)] = np.nan
    return cleared
