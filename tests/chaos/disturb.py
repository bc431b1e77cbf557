"""What a seed does to a run: which engine, which kills at which moment of which attempt, and how its storage fails.

A moment is a request to the storage, counted from the start of the attempt, plus a pause: a count finds every phase of
a run on a fast machine as on a slow one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from faults import FaultPlan

ENGINES = ("ray", "inline")


class Blow(StrEnum):
    """One thing done to a running attempt."""

    KILL_ACTOR = "kill actor"
    KILL_TASK = "kill task"  # one that reads, tokenizes or writes
    KILL_CLAIMS = "kill claims"  # the actor that keeps count of killed workers
    KILL_DRIVER = "kill driver"
    KILL_BETWEEN = "kill between parts"  # the driver, with a tokens part written and its receipt not
    TERMINATE = "SIGTERM"

    @property
    def ends_the_attempt(self) -> bool:
        return self not in _TO_WORKERS


_TO_WORKERS = (Blow.KILL_ACTOR, Blow.KILL_TASK, Blow.KILL_CLAIMS)


@dataclass(frozen=True)
class Disturbance:
    """`at`: share of an undisturbed run's requests, from 0 to 1; of the documents parts for `KILL_BETWEEN`. `pause`:
    seconds after that request."""

    blow: Blow
    at: float
    pause: float = 0.0


@dataclass(frozen=True)
class SeedPlan:
    """`attempts`: the disturbances of each attempt; further attempts are left alone, but for the storage."""

    seed: int
    engine: str
    attempts: tuple[tuple[Disturbance, ...], ...]
    storage: FaultPlan = field(default_factory=FaultPlan)


def draw(seed: int) -> SeedPlan:
    """The plan of a seed: even ones run on Ray, odd ones inline. Two of three have a failing storage."""
    rng = random.Random(seed)
    engine = ENGINES[seed % 2]
    n_fatal = rng.choice((1, 1, 1, 2) if engine == "ray" else (1, 2, 2, 3))  # starting Ray takes long
    attempts = []
    for place in range(n_fatal + 1):
        blows = [] if engine == "inline" else _blows_to_workers(rng)
        if place < n_fatal:
            blows.append(_fatal(rng))
        attempts.append(tuple(blows))
    storage = _failing(seed, rng) if rng.random() < 2 / 3 else FaultPlan(seed)
    return SeedPlan(seed, engine, tuple(attempts), storage)


def _blows_to_workers(rng: random.Random) -> list[Disturbance]:
    blows = rng.choices(_TO_WORKERS, weights=(3, 3, 1), k=rng.choice((0, 1, 1, 2)))
    return [Disturbance(blow, rng.uniform(0.1, 0.9), rng.uniform(0, 0.3)) for blow in blows]


def _fatal(rng: random.Random) -> Disturbance:
    blow = rng.choice((Blow.KILL_DRIVER, Blow.KILL_DRIVER, Blow.KILL_BETWEEN, Blow.KILL_BETWEEN, Blow.TERMINATE))
    if blow is Blow.KILL_BETWEEN:
        return Disturbance(blow, rng.uniform(0, 0.6))
    # Most pauses end while blocks are scored; a few, after early requests, while the engine starts.
    return Disturbance(blow, rng.uniform(0, 0.8), rng.choice((rng.uniform(0, 0.3), rng.uniform(0, 6))))


def _failing(seed: int, rng: random.Random) -> FaultPlan:
    strength = rng.choice((0.3, 1.0))
    return FaultPlan(
        seed,
        slow_down=0.06 * strength,
        delay=0.05 * strength,
        drop=0.03 * strength,
        lose=0.02 * strength,
        cut=0.02 * strength,
        most_in_a_row=2,
        longest_delay=0.5,
    )
