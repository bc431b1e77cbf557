"""The level that nights share, how far nights scatter about it, and where the next night is expected.

    y_t = level + b_t + e_t      e_t: error within night t, standard deviation s_t, known from its documents
                                 b_t: from night to night, variance tau^2, estimated from the nights
    weights w_t = 1 / (s_t^2 + tau^2);  tau^2 by Paule and Mandel: sum w_t (y_t - level)^2 = degrees of freedom
    next night: level +- t sqrt(c (s^2 + tau^2 + 1 / sum w)),  c = max(1, sum w_t (y_t - level)^2 / freedom),
                t of T - 1 degrees of freedom, fewer where tonight is surer than the nights before: they leave open how
                far nights scatter below their own errors

Known errors alone would call every ordinary difference between nights a change: corpora differ from night to night by
more than their documents do. Where nights scatter less than their errors say, errors are believed, and intervals are
wider than they need be. Nights are taken as independent and b_t as normal; `assay bench calibration` says what tails
and dependence do.
Letters: `T` nights in order of date.
Sources: Paule & Mandel 1982, doi 10.6028/jres.087.022; prediction: Higgins et al. 2009, doi 10.1111/j.1467-985X.2008.
00552.x; scaling by c: Hartung & Knapp 2001, doi 10.1002/sim.1009.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_EXACT = 1e-12  # of the logarithm of tau^2
_NEGLIGIBLE = 1e-12  # of a spread against the size of the numbers: rounding


@dataclass(frozen=True)
class Level:
    """What some nights have in common. `error`: of `mean`; `scale`: c above; `tau`: between nights; `freedom`: of t."""

    mean: float
    error: float
    scale: float
    tau: float
    freedom: float


@dataclass(frozen=True)
class Expected:
    """Where a night was expected, and how unlikely one as far off is (two-sided); `freedom`: of the t of both."""

    value: float
    low: float
    high: float
    p_value: float
    spread: float
    freedom: float


def between(values_T: Floats, errors_T: Floats, groups_T: Codes | None = None) -> float:
    """tau^2, the variance between nights of one group: where every group has a level of its own.

    groups_T: codes 0 .. G - 1; None: all nights share one level. 0 where errors explain the scatter.
    """
    freedom = values_T.size - (1 if groups_T is None else np.unique(groups_T).size)
    if freedom < 1:
        return 0.0
    own = errors_T**2

    def scatter(tau2: float) -> float:
        weights = 1 / (own + tau2)
        if groups_T is None:
            return float(weights @ (values_T - (weights @ values_T) / weights.sum()) ** 2)
        sums = np.bincount(groups_T, weights)
        means = np.bincount(groups_T, weights * values_T) / np.where(sums > 0, sums, 1.0)
        return float(weights @ (values_T - means[groups_T]) ** 2)

    if is_rounding(values_T):
        return 0.0
    spread = float(np.ptp(values_T))
    least = 1e-12 * spread**2  # errors may all be 0
    if scatter(least) <= freedom:
        return 0.0
    most = values_T.size * spread**2  # at which nights scatter less than 1, and there is one degree of freedom
    return exp(optimize.brentq(lambda at: scatter(exp(at)) - freedom, log(least), log(most), xtol=_EXACT))


def is_rounding(values_T: Floats) -> bool:
    """Whether nights differ by no more than sums in another order do."""
    return bool(np.ptp(values_T) <= _NEGLIGIBLE * (1.0 + float(np.abs(values_T).max())))


def weights_of(values_T: Floats, errors_T: Floats, tau2: float) -> Floats:
    """1 / (s^2 + tau^2), [T]. Finite also where nights never vary: then only what is beyond rounding is unlike them."""
    least = (_NEGLIGIBLE * (1.0 + float(np.abs(values_T).max()))) ** 2
    weights: Floats = 1 / np.maximum(errors_T**2 + tau2, least)
    return weights


def level_of(values_T: Floats, errors_T: Floats, spent: int = 0) -> Level:
    """The level of nights that share one. `spent`: degrees of freedom that were used up before.

    Raises:
        ValueError: fewer than two nights, or none left to say how far nights scatter.
    """
    freedom = values_T.size - 1 - spent
    if freedom < 1:
        raise ValueError(f"{values_T.size} nights say nothing of how far nights scatter")
    tau2 = between(values_T, errors_T)
    weights = weights_of(values_T, errors_T, tau2)
    mean = float((weights * values_T).sum() / weights.sum())
    scatter = float((weights * (values_T - mean) ** 2).sum())
    scale = max(1.0, scatter / freedom)
    return Level(mean, sqrt(scale / float(weights.sum())), scale, sqrt(tau2), float(freedom))


def expect(
    level: Level, error: float, value: float, confidence: float, more: float = 0.0, freedom: float = inf
) -> Expected:
    """Where a night whose own error is `error` was expected, against the `value` that it has.

    more: further variance of the expectation, as a share of that of one night. freedom: degrees of freedom of `error`;
    the fewest are taken: of it, of the nights, and of tau^2 against tonight's variance (Satterthwaite), 1 at least.
    """
    one = error**2 + level.tau**2
    spread = sqrt(level.error**2 + level.scale * one * (1 + more))
    # tau^2 is as unsure as the nights before are, whatever tonight's error is: its variance is 2 freedom / (sum w)^2.
    of_tau = (one * level.scale / level.error**2) ** 2 / level.freedom
    fewer = max(1.0, min(level.freedom, freedom, of_tau))
    reach = float(special.stdtrit(fewer, (1 + confidence) / 2)) * spread
    far = abs(value - level.mean) / spread
    p_value = float(min(1.0, 2 * special.stdtr(fewer, -far)))
    return Expected(level.mean, level.mean - reach, level.mean + reach, p_value, spread, fewer)
