"""How many tokens a corpus holds, from a few places of it, with an interval.

Places are drawn with probability proportional to stored bytes: the bytes of all files, sorted by format and size, are
cut into `n` equal stretches and a byte is drawn from each, so that large and small files and every part of a large one
have their share (Hansen and Hurwitz, "On the theory of sampling from finite populations", Annals of Mathematical
Statistics 14, 1943). The total is stored bytes times tokens over bytes of the records that begin in the places, a ratio
whose interval is Student's t of the residuals, which stratification makes too wide rather than too narrow.

A small corpus is counted, not sampled. What is trusted least: compressed, text and Arrow files and row groups of
Parquet that are large stand by their beginning, and an interval of few places misses what is rare and huge. In
simulated corpora of several languages the interval held the truth in 100 % of 100 samples of JSON Lines whose lengths
are log-normal with sigma 1.2, 96 % with sigma 2, 94 % of Pareto lengths (exponent 1.2), 90 % of 60 of books longer
than a place; of Parquet in 95 % of 144 with sigma 1.2, and 81 % with sigma 2: there rows count, whatever their
length.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from operators.readers.record import UnreadableError
from operators.shards import Shard
from pipelines.estimate.places import Place, Reader, fed_tokens, summed
from pipelines.plan import Plan

LEVEL = 0.95
FEWEST_PLACES = 4  # that must have been read for an interval


@dataclass(frozen=True)
class Budget:
    """What a sample may cost: `places` of `place_bytes` stored bytes and at most about `seconds`; a corpus of
    `whole_bytes` in `whole_files` is counted."""

    places: int = 32
    place_bytes: int = 128 << 10
    seconds: float = 5.0
    whole_bytes: int = 2 << 20
    whole_files: int = 64


@dataclass(frozen=True)
class Tokens:
    """`total` tokens, between `low` and `high`; `fed`: how many go through the model, as windows overlap. `records` and
    `rejects` are of the sample; `basis` says what it is."""

    total: float
    low: float
    high: float
    fed: float
    records: int
    rejects: int
    basis: str

    @property
    def is_counted(self) -> bool:
        return self.low == self.high


class UnknownError(ValueError):
    """There is nothing to estimate from; the message says why."""


def estimate_tokens(plan: Plan, shards: Sequence[Shard], budget: Budget | None = None, seed: int = 0) -> Tokens:
    """Tokens of these files as the plan reads them.

    Raises:
        UnknownError: sizes are not known, or too few places could be read.
        StorageError: the storage failed.
    """
    budget = budget or Budget()
    limit = plan.config.limit
    if limit is not None:
        return _first_records(plan, shards, limit, budget)
    n_bytes = sum(shard.n_bytes for shard in shards)
    if n_bytes <= budget.whole_bytes and len(shards) <= budget.whole_files:
        counted = _counted(plan, shards, budget)
        if counted is not None:
            return counted
    if not n_bytes:
        raise UnknownError("the storage does not say how long the files are")
    return _sampled(plan, shards, n_bytes, budget, seed)


def _counted(plan: Plan, shards: Sequence[Shard], budget: Budget) -> Tokens | None:
    """All of it; None where that takes longer than it may."""
    lengths, rejects, is_all = _from_the_start(plan, shards, budget, limit=None)
    return _exact(plan, lengths, rejects) if is_all else None


def _first_records(plan: Plan, shards: Sequence[Shard], limit: int, budget: Budget) -> Tokens:
    """Of a job with a limit: its first records, up to what the budget allows, stand for those that follow."""
    lengths, rejects, is_all = _from_the_start(plan, shards, budget, limit)
    if is_all:
        return _exact(plan, lengths, rejects)
    mean, half = _mean(lengths)
    fed = fed_tokens(lengths, plan.document_windows) * limit / len(lengths)
    low, high = max(float(sum(lengths)), limit * (mean - half)), limit * (mean + half)
    basis = f"from its first {len(lengths):,} of {limit:,} records"
    return Tokens(limit * mean, low, high, fed, len(lengths), rejects, basis)


def _from_the_start(
    plan: Plan, shards: Sequence[Shard], budget: Budget, limit: int | None
) -> tuple[list[int], int, bool]:
    """Tokens of each record in input order, how many are rejects, and whether these are all that the run reads."""
    deadline = time.monotonic() + budget.seconds
    lengths: list[int] = []
    rejects = 0
    for more, rejected in Reader(plan, budget.place_bytes).records(shards):
        lengths += more
        rejects += rejected
        if limit is not None and len(lengths) >= limit:
            return lengths[:limit], rejects, True
        if time.monotonic() > deadline or (limit is not None and sum(lengths) > budget.whole_bytes):
            return lengths, rejects, False
    return lengths, rejects, True


def _exact(plan: Plan, lengths: list[int], rejects: int) -> Tokens:
    total, fed = float(sum(lengths)), float(fed_tokens(lengths, plan.document_windows))
    return Tokens(total, total, total, fed, len(lengths), rejects, "counted, all of it")


def _sampled(plan: Plan, shards: Sequence[Shard], n_bytes: int, budget: Budget, seed: int) -> Tokens:
    rng = random.Random(f"{seed} {len(shards)} {n_bytes}")
    drawn = _draw(shards, n_bytes, budget.places, rng)
    places = [place for place in _read(plan, drawn, budget) if place is not None]
    if len(places) < FEWEST_PLACES:
        raise UnknownError(f"of {len(drawn)} places of the input only {len(places)} could be read in time")
    found = summed(places)
    begun = sum(place.length > 0 for place in places)
    if begun < 2:
        raise UnknownError(f"in {begun} of {len(places)} places of the input does a record begin: they are too long")
    lengths = [place.length / place.stored for place in places]
    mean, half = _ratio([place.tokens / place.stored for place in places], lengths)
    fed, _ = _ratio([place.fed / place.stored for place in places], lengths)
    files = len({shard.uri for shard, _, _ in drawn})
    basis = f"from {len(places)} places in {files:,} of {len(shards):,} files, {mean:.3g} tokens a stored byte"
    return Tokens(
        n_bytes * mean, n_bytes * max(0.0, mean - half), n_bytes * (mean + half), n_bytes * fed,
        found.records, found.rejects, basis,
    )  # fmt: skip


def _draw(shards: Sequence[Shard], n_bytes: int, n: int, rng: random.Random) -> list[tuple[Shard, int, int]]:
    """(file, byte in it, seed) of each place."""
    order = sorted(shards, key=lambda shard: (shard.format, shard.n_bytes, shard.uri))
    ends = list(itertools.accumulate(shard.n_bytes for shard in order))
    drawn = []
    for stretch in range(n):
        byte = min(n_bytes - 1, int((stretch + rng.random()) * n_bytes / n))
        place = bisect.bisect_right(ends, byte)
        drawn.append((order[place], byte - (ends[place] - order[place].n_bytes), rng.getrandbits(32)))
    return drawn


def _read(plan: Plan, drawn: Sequence[tuple[Shard, int, int]], budget: Budget) -> list[Place | None]:
    """The places, in random order and several at once, as far as time allows; None for one that cannot be read."""
    reader = Reader(plan, budget.place_bytes)
    deadline = time.monotonic() + budget.seconds

    def read(place: tuple[Shard, int, int]) -> Place | None:
        shard, position, seed = place
        if time.monotonic() > deadline:
            return None
        try:
            found = reader.place(shard, position, random.Random(seed))
        except UnreadableError:
            return Place.without(shard.n_bytes, shard.n_bytes, 1)  # a reject in the run, too
        return found if found.stored > 0 else None

    order = sorted(drawn, key=lambda place: place[2])  # so that those that time leaves out are no one part
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(read, order))


def _mean(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and half the width of its interval at `LEVEL`."""
    sample = list(values)
    return _ratio(sample, [1.0] * len(sample))


def _ratio(values: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    """Sum of the values over that of the sizes, and half the width of its interval at `LEVEL`: of the residuals
    `value - ratio * size` (Cochran, "Sampling Techniques", 1977, section 6.3). What has no size says nothing: only the
    others count as observations."""
    from scipy.special import stdtrit  # here: a run that is not estimated does without

    n = sum(size > 0 for size in sizes)
    ratio = math.fsum(values) / math.fsum(sizes)
    if n < 2:
        return ratio, math.inf
    squares = math.fsum((value - ratio * size) ** 2 for value, size in zip(values, sizes, strict=True))
    return ratio, float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(squares * n / (n - 1)) / math.fsum(sizes)
