"""Takes a weekly cycle out of a number, where the nights show one.

    weighted means by day of the week; F-test of 7 levels against 1 over the nights before tonight, at LEVEL
    where it rejects: value - (mean of its weekday - mean of all);  6 degrees of freedom are spent, and what tonight
    is expected to be is less sure by 7 / T of a night's variance

With fewer than FEWEST nights, or a weekday seen fewer than 4 times, nothing is taken out: the cycle is then part of how
far nights scatter, which hides small changes and makes no false ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from operators.nights.levels import Floats, between, weights_of

FEWEST = 35  # nights before tonight: five weeks
LEVEL = 0.001
_OF_EACH = 4
_DAYS = 7


@dataclass(frozen=True)
class Week:
    """What was taken out: `effects` [7] on the scale of comparison, 0 where nothing was. `spent`: degrees of freedom;
    `more`: what it adds to the variance of an expected night, as a share of one night's."""

    effects: Floats
    spent: int = 0
    more: float = 0.0

    @property
    def is_seen(self) -> bool:
        return self.spent > 0


NO_WEEK = Week(np.zeros(_DAYS))


def week_of(weekdays_T: npt.NDArray[np.intp], values_T: Floats, errors_T: Floats) -> Week:
    """The weekly cycle of some nights; `weekdays_T`: 0 Monday .. 6 Sunday."""
    if values_T.size < FEWEST or np.bincount(weekdays_T, minlength=_DAYS).min() < _OF_EACH:
        return NO_WEEK
    weights = weights_of(values_T, errors_T, between(values_T, errors_T, weekdays_T))
    means = np.bincount(weekdays_T, weights * values_T) / np.bincount(weekdays_T, weights)
    mean = float(np.average(values_T, weights=weights))
    explained = float((weights * (means[weekdays_T] - mean) ** 2).sum())
    left = float((weights * (values_T - means[weekdays_T]) ** 2).sum())
    freedom = values_T.size - _DAYS
    if left <= 0 or stats.f.sf(explained / (_DAYS - 1) / (left / freedom), _DAYS - 1, freedom) > LEVEL:
        return NO_WEEK
    return Week(means - mean, _DAYS - 1, _DAYS / values_T.size)
