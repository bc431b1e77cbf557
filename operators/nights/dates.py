"""When a level changed, and by how much: a confidence set of dates, and an interval of the difference.

    set of dates     places k whose two levels fit nearly as well as the best ones: T ln(R_k / R_best) is at most its
                     95 % quantile in worlds drawn with the change at k (scatter and errors as fitted there, the
                     difference one standard error nearer to 0)
    difference       after - before, +- t; the widest over all dates of the set. The end towards 0 is that of a t that
                     was only seen because it is beyond the least one that is found: P(t | t >= least) = 2.5 %

The set need not be without gaps; its ends are given. A change is dated because it was found, and one that is barely
found is so where noise made it larger and better placed: of changes that are found in one history of three, sets hold
the date in 92 to 94 % (simulated; `assay bench calibration` has those found in two of three, where it is 95 %). Sets
drawn from worlds in which a change is found held it in 99 % there, and were of nearly all nights.
Letters: `T` nights, `K` places to cut, `B` draws.
Sources: inverting the likelihood ratio: Siegmund 1988, doi 10.2307/1403361; Worsley 1986, doi 10.1093/biomet/73.1.91.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from operators.nights.changes import MIN_NIGHTS, Series, contrasts, explained
from operators.nights.levels import Floats, between, weights_of

DRAWS = 399  # worlds drawn
_SHRUNK = 1.0  # errors: changes that are found look larger than they are, and the larger, the smaller the set
_LEAST = 1e-300
_FARTHEST = 40.0  # of the likelihood ratio: dates beyond are in no 95 % set


@dataclass(frozen=True)
class Size:
    """A change on the scale of comparison. `first`, `last`: ends of the set of dates, as nights before the change.

    `before`, `after`: the levels at the best date; `low`, `high`: the interval of their difference over all dates.
    """

    first: int
    last: int
    before: float
    after: float
    low: float
    high: float


def size_of(series: Series, split: int, *, confidence: float, least: float = 0.0, seed: int = 0) -> Size:
    """The date and size of a change that was found with `split` nights before it.

    least: share of all squares that two levels had to explain to be found; 0: it was not looked for.

    Raises:
        ValueError: fewer than MIN_NIGHTS nights on a side.
    """
    if not MIN_NIGHTS <= split <= len(series) - MIN_NIGHTS:
        raise ValueError(f"a change after {split} of {len(series)} nights: {MIN_NIGHTS} are needed on either side")
    sides_T = (np.arange(len(series)) >= split).astype(np.intp)
    weights_T = weights_of(series.values_T, series.errors_T, between(series.values_T, series.errors_T, sides_T))
    kept = _dates(series.values_T, weights_T, confidence, np.random.default_rng(seed))
    kept = sorted({*kept, split})
    ends = [_difference(series.values_T, weights_T, k, confidence) for k in kept]
    before, after = _levels(series.values_T, weights_T, split)
    ends.append(_selected(series.values_T, weights_T, split, confidence, least))
    return Size(kept[0], kept[-1], before, after, min(e[0] for e in ends), max(e[1] for e in ends))


def _dates(values_T: Floats, weights_T: Floats, confidence: float, rng: np.random.Generator) -> list[int]:
    """Numbers of nights before the change that the confidence set holds."""
    explained_K, squares = explained(values_T, weights_T)
    left_K = np.maximum(squares - explained_K, _LEAST)
    ratio_K = values_T.size * np.log(left_K / left_K.min())
    worlds = _Worlds(weights_T, rng)
    kept = []
    for place in np.flatnonzero(ratio_K <= _FARTHEST):
        # Noise has a variance of 1 in units of its weights: what scatter it has beyond makes the change smaller in it.
        scale = max(1.0, float(left_K[place]) / (values_T.size - 2))
        apart = max(0.0, float(np.sqrt(explained_K[place] / scale)) - _SHRUNK)
        if ratio_K[place] <= worlds.quantile(int(place), apart, confidence):
            kept.append(int(place) + MIN_NIGHTS)
    return kept


class _Worlds:
    """Worlds of normal noise, the same for every place; a change is added to them as its contrasts alone."""

    def __init__(self, weights_T: Floats, rng: np.random.Generator) -> None:
        noise_BT = rng.standard_normal((DRAWS, weights_T.size)) / np.sqrt(weights_T)
        self.noise_BK = contrasts(noise_BT, weights_T)
        self.squares_B = explained(noise_BT, weights_T)[1]
        self.size = weights_T.size
        self.before_K = np.cumsum(weights_T)[MIN_NIGHTS - 1 : weights_T.size - MIN_NIGHTS] / weights_T.sum()

    def quantile(self, place: int, apart: float, confidence: float) -> float:
        """Of T ln(R_k / R_best) at a place whose levels are `apart` standard errors."""
        odds_K = self.before_K / (1 - self.before_K)
        alike_K = np.sqrt(np.minimum(odds_K, odds_K[place]) / np.maximum(odds_K, odds_K[place]))
        explained_BK = (self.noise_BK + apart * alike_K) ** 2
        best_B = explained_BK.max(axis=1)
        squares_B = self.squares_B + 2 * apart * self.noise_BK[:, place] + apart**2
        left_B = np.maximum(squares_B - explained_BK[:, place], _LEAST)
        ratio_B = self.size * np.log(left_B / np.maximum(squares_B - best_B, _LEAST))
        return float(np.quantile(ratio_B, confidence, method="higher"))


def _levels(values_T: Floats, weights_T: Floats, split: int) -> tuple[float, float]:
    sides = slice(split), slice(split, None)
    before, after = (float(np.average(values_T[side], weights=weights_T[side])) for side in sides)
    return before, after


def _difference(values_T: Floats, weights_T: Floats, split: int, confidence: float) -> tuple[float, float]:
    """The interval of after - before for a change at one date."""
    apart, error, freedom = _apart(values_T, weights_T, split)
    reach = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    return apart - reach, apart + reach


def _apart(values_T: Floats, weights_T: Floats, split: int) -> tuple[float, float, int]:
    """After - before for a change at one date, its error, and the degrees of freedom of that."""
    before, after = _levels(values_T, weights_T, split)
    means_T = np.where(np.arange(values_T.size) < split, before, after)
    freedom = values_T.size - 3  # two levels, and a date that was chosen to leave little
    scale = max(1.0, float((weights_T * (values_T - means_T) ** 2).sum()) / freedom)
    error = np.sqrt(scale * (1 / weights_T[:split].sum() + 1 / weights_T[split:].sum()))
    return after - before, float(error), freedom


def _selected(values_T: Floats, weights_T: Floats, split: int, confidence: float, least: float) -> tuple[float, float]:
    """Both ends on the side of 0: the smallest difference of which what was found is no surprise, given that it was."""
    apart, error, freedom = _apart(values_T, weights_T, split)
    side, seen = float(np.sign(apart)), abs(apart) / error
    explained_K, squares = explained(values_T, weights_T)
    share = float(explained_K[split - MIN_NIGHTS] / max(float(squares), _LEAST))
    # The same t as that of `seen`, had scatter not been taken to be at least what errors say.
    bare = np.sqrt(max(least, share) / max(1 - max(least, share), _LEAST))
    bound = seen * np.sqrt(least / max(1 - least, _LEAST)) / bare if bare > 0 else 0.0
    tail = (1 - confidence) / 2

    def excess(true: float) -> float:
        return float(special.stdtr(freedom, true - seen) - tail * special.stdtr(freedom, true - bound))

    highest = seen - float(special.stdtrit(freedom, 1 - tail))
    end = 0.0 if highest <= 0 or excess(0.0) >= 0 else float(optimize.brentq(excess, 0.0, highest + 1e-9))
    return side * end * error, side * end * error
