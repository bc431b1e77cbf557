"""Tonight against the nights before, for every number at once, with one false-alarm rate for the whole night.

    nights of each number -> weekly cycle out (`weekdays`) -> changes of level over all nights (`changes`, `dates`)
                                     \\-> tonight against the nights since the last change (`levels`), tails as long
                                         as those of all numbers' nights (`tails`) -> Holm

`alpha` is the chance that a night in which nothing changed gives any finding, over all its numbers: half of it for
tonight (Holm), half for changes of level (max-T). In a year of 365 such nights, up to 365 alpha nights have one by
luck; fewer do, since the scans of neighbouring nights are nearly the same and Holm is cautious where numbers move
together. Fewer than FEWEST nights before tonight, or since the last change: no verdict, said so.
Where nights scatter with long tails (Student's t, 3 degrees of freedom), up to 2 % of nights are found unlike those
before where 0.5 % were asked for, fewer the more nights there are; by a normal tail it would be 10 %. What is not
handled: seasons longer than a week, which are found as changes or trends, and dependence of nights on the nights before
(`Judged.dependent` says how strong it is, where it shows): of 20 numbers whose nights have a correlation of 0.3 with
the one before, 3 % of histories of 20 nights have a false change of level where 0.5 % were asked for, 8 % of 60 nights,
and 12 % of 120 (simulated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from scipy import special, stats

from operators.evaluation.multiplicity import holm_adjusted
from operators.nights.changes import Change, Series, find_changes
from operators.nights.dates import size_of
from operators.nights.levels import Floats, expect, is_rounding, level_of
from operators.nights.scale import natural, natural_difference
from operators.nights.tails import Tail, left_out, tail_of
from operators.nights.weekdays import NO_WEEK, Week, week_of
from schemas.nights import HISTORY, LIKE, STEP, TONIGHT, TOO_FEW, TREND, UNLIKE

FEWEST = 5  # nights before tonight, of the same level, that a verdict needs
CONFIDENCE = 0.95
_DEPENDENT = 0.01  # level at which nights are said to depend on the night before

Key = tuple[str, str, str]  # measure, part, subject


@dataclass(frozen=True)
class Nights:
    """One number over nights, tonight last: ascending dates, levels and their errors [T] on `scale`.

    `freedom`: degrees of freedom of tonight's error, one less than it has units. `tonight`: the number itself, of which
    the level of a share is not exactly the arcsine; None: what the level gives.
    """

    dates: Sequence[date]
    levels_T: Floats
    errors_T: Floats
    scale: str
    unit: str
    freedom: float = inf
    tonight: float | None = None


@dataclass(frozen=True)
class Watch:
    """`alpha`: of the night; `draws`: orders of nights drawn, at least 2 / alpha for changes of level to be found."""

    alpha: float = 0.01
    draws: int = 1999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.draws + 1 < 2 / self.alpha:
            raise ValueError(
                f"alpha {self.alpha:g} with {self.draws} draws: expected a share above 0 and below 1, and at least "
                "2 / alpha draws"
            )


@dataclass(frozen=True)
class Verdict:
    """One row of `night_changes`, numbers in the unit of the number itself; `is_finding`: worth a reader's time."""

    key: Key
    test: str
    verdict: str
    unit: str
    n_nights: int
    since: date | None = None
    since_low: date | None = None
    since_high: date | None = None
    before: float | None = None
    after: float | None = None
    expected: tuple[float, float] | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    freedom: float | None = None  # of the t that `expected` is from; not kept

    @property
    def is_finding(self) -> bool:
        return self.verdict in (UNLIKE, STEP, TREND)


@dataclass(frozen=True)
class Judged:
    """Verdicts in the order of the numbers; `weekly`: numbers whose weekly cycle was taken out; `dependent`: those
    whose nights depend on the night before, with that correlation.

    `reach`: how many times as far off as its expected interval reaches one number had to be tonight to be found among
    all, by the median of numbers; None where none was judged.
    """

    verdicts: tuple[Verdict, ...]
    reach: float | None = None
    weekly: tuple[Key, ...] = ()
    dependent: tuple[tuple[Key, float], ...] = ()


def judge(numbers: Mapping[Key, Nights], watch: Watch) -> Judged:
    """Every number's verdict on tonight, and every change of level and trend in its nights.

    Raises:
        ValueError: levels that are not finite, dates that do not ascend, or numbers whose last night is not tonight.
    """
    if len({nights.dates[-1] for nights in numbers.values()}) > 1:
        raise ValueError("numbers of different nights: every one must end tonight")
    calendar = sorted({day for nights in numbers.values() for day in nights.dates})
    places = {day: place for place, day in enumerate(calendar)}
    weeks = {key: _week(nights) for key, nights in numbers.items()}
    series = {key: _series(nights, weeks[key], places) for key, nights in numbers.items()}
    changes = find_changes(series, alpha=watch.alpha / 2, draws=watch.draws, n_places=len(calendar), seed=watch.seed)
    before = {key: _before(series[key], [c for c in changes if c.key == key]) for key in numbers}
    tail = tail_of(left_out(each.values_T, each.errors_T) for each in before.values() if len(each) >= FEWEST)
    tonight = [_tonight(key, nights, series[key], before[key], weeks[key], tail) for key, nights in numbers.items()]
    history = [_history(numbers[change.key], series[change.key], change, watch.seed) for change in changes]
    return Judged(
        verdicts=(*_adjusted(tonight, watch.alpha / 2), *history),
        reach=_reach(tonight, tail, watch.alpha / 2),
        weekly=tuple(key for key, week in weeks.items() if week.is_seen),
        dependent=tuple(_dependent(series, changes)),
    )


def _week(nights: Nights) -> Week:
    """Of the nights before tonight: a strange night must not explain itself."""
    weekdays = np.array([day.weekday() for day in nights.dates[:-1]], np.intp)
    return week_of(weekdays, nights.levels_T[:-1], nights.errors_T[:-1]) if weekdays.size else NO_WEEK


def _series(nights: Nights, week: Week, places: Mapping[date, int]) -> Series:
    weekdays = np.array([day.weekday() for day in nights.dates], np.intp)
    at = np.array([places[day] for day in nights.dates], np.intp)
    return Series(at, nights.levels_T - week.effects[weekdays], nights.errors_T)


# Tonight


def _before(series: Series, changes: Sequence[Change[Key]]) -> Series:
    """The nights since the last change, without tonight."""
    since = max((change.split for change in changes if not change.is_trend), default=0)
    return series.cut(min(since, len(series) - 1), len(series) - 1)


def _tonight(key: Key, nights: Nights, series: Series, before: Series, week: Week, tail: Tail) -> Verdict:
    """Tonight against the nights since the last change; `p_adjusted` and the verdict are still open."""
    value = natural(float(nights.levels_T[-1]), nights.scale) if nights.tonight is None else nights.tonight
    verdict = Verdict(key, TONIGHT, TOO_FEW, nights.unit, len(before) + 1, after=value)
    if len(before) < FEWEST or len(before) - 1 - week.spent < 1:
        return verdict
    level, error = level_of(before.values_T, before.errors_T, week.spent), float(series.errors_T[-1])
    tonight = float(series.values_T[-1])
    expected = expect(level, error, tonight, CONFIDENCE, week.more, nights.freedom)
    cycle = float(week.effects[nights.dates[-1].weekday()])  # given back: a reader sees the number as it was
    reach = float(special.stdtrit(expected.freedom, (1 + CONFIDENCE) / 2)) * float(np.hypot(level.error, error))
    mean, apart = expected.value + cycle, tonight - expected.value
    ends = [natural_difference(mean, mean + apart, apart + side, nights.scale) for side in (-reach, reach)]
    return replace(
        verdict,
        verdict=LIKE,
        before=natural(mean, nights.scale),
        expected=(natural(expected.low + cycle, nights.scale), natural(expected.high + cycle, nights.scale)),
        difference=natural_difference(mean, mean + apart, apart, nights.scale),
        interval=(ends[0], ends[1]),
        p_value=max(expected.p_value, tail.p_value(apart / expected.spread)),
        freedom=expected.freedom,
    )


def _adjusted(verdicts: Sequence[Verdict], alpha: float) -> list[Verdict]:
    adjusted = holm_adjusted([np.nan if v.p_value is None else v.p_value for v in verdicts])
    return [
        v if v.p_value is None else replace(v, p_adjusted=float(p), verdict=UNLIKE if p <= alpha else LIKE)
        for v, p in zip(verdicts, adjusted, strict=True)
    ]


def _reach(verdicts: Sequence[Verdict], tail: Tail, alpha: float) -> float | None:
    """Holm finds the first of several numbers where its p-value is alpha over their number."""
    freedoms = [v.freedom for v in verdicts if v.freedom is not None]
    if not freedoms:
        return None
    p_value = alpha / len(freedoms)
    t_half, t_found = (-special.stdtrit(freedoms, p / 2) for p in (1 - CONFIDENCE, p_value))
    return float(np.median(np.maximum(t_found, tail.far(p_value)) / t_half))


# Changes of level


def _history(nights: Nights, series: Series, change: Change[Key], seed: int) -> Verdict:
    span = series.cut(change.start, change.stop)
    verdict = Verdict(
        change.key, HISTORY, TREND if change.is_trend else STEP, nights.unit, len(span),
        p_value=change.p_value, p_adjusted=change.p_adjusted,
    )  # fmt: skip
    if change.is_trend:
        return _trend(verdict, nights, span, change.start)
    size = size_of(span, change.split - change.start, confidence=CONFIDENCE, least=change.least, seed=seed)
    dates = nights.dates[change.start : change.stop]
    difference, *ends = (
        natural_difference(size.before, size.after, each, nights.scale)
        for each in (size.after - size.before, size.low, size.high)
    )
    return replace(
        verdict,
        since=nights.dates[change.split],
        since_low=dates[size.first],
        since_high=dates[size.last],
        before=natural(size.before, nights.scale),
        after=natural(size.after, nights.scale),
        difference=difference,
        interval=(ends[0], ends[1]),
    )


def _trend(verdict: Verdict, nights: Nights, span: Series, start: int) -> Verdict:
    """From the first to the last night by the line of least squares, all nights alike. `start`: place of the first."""
    line = _line(span)
    width = float(span.places_T[-1] - span.places_T[0])
    change = float(line.slope) * width
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(span) - 2)) * float(line.stderr) * width
    before = float(line.intercept + line.slope * span.places_T[0])
    difference, low, high = (
        natural_difference(before, before + change, each, nights.scale)
        for each in (change, change - reach, change + reach)
    )
    return replace(
        verdict,
        since=nights.dates[start],
        before=natural(before, nights.scale),
        after=natural(before + change, nights.scale),
        difference=difference,
        interval=(low, high),
    )


def _line(span: Series) -> Any:
    return stats.linregress(span.places_T.astype(np.float64), span.values_T)


# Dependence


def _dependent(series: Mapping[Key, Series], changes: Sequence[Change[Key]]) -> list[tuple[Key, float]]:
    """Numbers whose nights go with the night before, beyond luck (1 % over all numbers), changes of level and trends
    taken out."""
    found, p_values = [], []
    for key, each in series.items():
        own = [c for c in changes if c.key == key]
        cuts = [0, *sorted(c.split for c in own if not c.is_trend), len(each)]
        trends = {(c.start, c.stop) for c in own if c.is_trend}
        residuals = np.concatenate([_residuals(each.cut(*part), part in trends) for part in pairwise(cuts)])
        squares = float((residuals**2).sum())
        if len(each) < 2 * FEWEST or is_rounding(each.values_T) or not squares > 0:
            continue
        lag = float((residuals[1:] * residuals[:-1]).sum()) / squares
        found.append((key, lag))
        p_values.append(float(special.ndtr(-(lag + 1 / len(each)) * np.sqrt(len(each)))))
    return [pair for pair, p in zip(found, holm_adjusted(p_values), strict=True) if p <= _DEPENDENT]


def _residuals(part: Series, is_trend: bool) -> Floats:
    if not is_trend:
        return np.asarray(part.values_T - part.values_T.mean(), dtype=np.float64)
    line = _line(part)
    return np.asarray(part.values_T - line.intercept - line.slope * part.places_T, dtype=np.float64)
