"""Histories of nights whose truth is known: nothing changed, or the level did, on a known night by a known amount.

    y_t = level + b_t + e_t, e_t normal with a known error that differs from night to night (`unequal`: documents of a
    night in tens, or tens of thousands); b_t with standard deviation 1: normal, of Student's t with 3 degrees of
    freedom (long tails), or autoregressive (the next night 0.3 like the one before), which no promise covers

Sizes of changes are in standard deviations of b_t.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt
from typing import Literal

import numpy as np

from jobs.bench.worlds import numbers
from operators.nights.changes import Series, find_changes
from operators.nights.dates import size_of
from operators.nights.judge import Nights, Watch, judge
from operators.nights.levels import Floats, expect, level_of
from schemas.nights import IDENTITY

LEVEL = 0.95
DRAWS = 199  # orders of a scan
NIGHTS = (6, 60)  # tonight included
OLD = (60, 120)  # where nights depend on those before, which tells the more the longer the history
YOUNG = 20  # too few to say how long tails are
LAG = 0.3
FAMILY = 20  # numbers of a night that are judged together; they move together by half

_FREEDOM = 3
_FIRST = date(2026, 1, 1)

Between = Literal["normal", "long tails", "autoregressive"]


@dataclass(frozen=True)
class World:
    """Nights of one number. `shift`: of the level from night `at` on."""

    name: str
    between: Between = "normal"
    unequal: bool = True
    nights: int = 60
    at: int = 0
    shift: float = 0.0

    def draw(self, rng: np.random.Generator, nights: int | None = None) -> Series:
        """A history."""
        size = nights or self.nights
        errors = 0.7 * np.exp(0.7 * rng.standard_normal(size)) if self.unequal else np.full(size, 0.5)
        values = _between(rng, self.between, size) + errors * rng.standard_normal(size)
        values += self.shift * (np.arange(size) >= self.at)
        return Series(np.arange(size), values, errors)


SAME = (World("alike", unequal=False), World("unequal"), World("long tails", "long tails"))
DEPENDENT = World("autoregressive", "autoregressive")
CLEAR = (
    World("20 nights", nights=20, at=12, shift=3.0),
    World("60 nights", nights=60, at=40, shift=2.5),
    World("60 nights, long tails", "long tails", nights=60, at=40, shift=2.5),
)
FAINT = World("60 nights, barely found", nights=60, at=40, shift=1.5)


def _between(rng: np.random.Generator, kind: Between, size: int) -> Floats:
    if kind == "normal":
        return rng.standard_normal(size)
    if kind == "long tails":
        return np.asarray(rng.standard_t(_FREEDOM, size) / sqrt(_FREEDOM / (_FREEDOM - 2)))
    steps = rng.standard_normal(size)
    values = np.empty(size)
    values[0] = steps[0]
    for t in range(1, size):
        values[t] = LAG * values[t - 1] + sqrt(1 - LAG**2) * steps[t]
    return values


def tonight_p_values(world: World, draws: int, nights: int, seed: int) -> Iterator[float]:
    """P-values of a last night that is like those before it."""
    rng = numbers(f"nights, tonight, {world.name}", nights, seed)
    for _ in range(draws):
        series = world.draw(rng, nights)
        before = series.cut(0, nights - 1)
        level = level_of(before.values_T, before.errors_T)
        yield expect(level, float(series.errors_T[-1]), float(series.values_T[-1]), LEVEL).p_value


def false_changes(world: World, draws: int, nights: int, seed: int) -> Iterator[bool]:
    """Whether a change of level is found at 5 % where there is none."""
    rng = numbers(f"nights, changes, {world.name}", nights, seed)
    for draw in range(draws):
        series = {"": world.draw(rng, nights)}
        yield bool(find_changes(series, alpha=1 - LEVEL, draws=DRAWS, n_places=nights, seed=draw))


def false_alarms(world: World, draws: int, nights: int, alpha: float, seed: int) -> Iterator[bool]:
    """Whether a night of FAMILY numbers, none of which changed, has any finding."""
    rng = numbers(f"nights, alarms, {world.name}", nights, seed)
    days = [_FIRST + timedelta(days=t) for t in range(nights)]
    orders = int(np.ceil(4 / alpha))
    for draw in range(draws):
        shared = _between(rng, world.between, nights)
        family = {}
        for place in range(FAMILY):
            series = world.draw(rng, nights)
            levels = sqrt(0.5) * (shared + series.values_T)
            family[("m", "all", str(place))] = Nights(days, levels, sqrt(0.5) * series.errors_T, IDENTITY, "")
        judged = judge(family, Watch(alpha, orders, draw))
        yield any(verdict.is_finding for verdict in judged.verdicts)


@dataclass(frozen=True)
class Found:
    """What was said of changes that are there: `power`: share found at 1 %; of those found, whether the set of dates
    and the interval of the size hold the truth."""

    power: float
    dates: tuple[bool, ...]
    sizes: tuple[bool, ...]


def found(world: World, draws: int, seed: int) -> Found:
    """Changes of a world, looked for at 1 %."""
    rng = numbers(f"nights, found, {world.name}", world.nights, seed)
    dates, sizes = [], []
    for draw in range(draws):
        series = world.draw(rng)
        changes = find_changes({"": series}, alpha=0.01, draws=DRAWS, n_places=world.nights, seed=draw)
        first = next((c for c in changes if not c.is_trend and len(series) == c.stop - c.start), None)
        if first is None:
            continue
        size = size_of(series, first.split, confidence=LEVEL, least=first.least, seed=draw)
        dates.append(size.first <= world.at <= size.last)
        sizes.append(size.low <= world.shift <= size.high)
    return Found(len(dates) / draws, tuple(dates), tuple(sizes))
