"""Made-up corpora of documents of unequal length whose fit is known: do the intervals of domain fit cover it?

    length      bytes are lognormal of deviation 1 on the logarithm, as web pages roughly are: the longest of 50
                documents holds a seventh of all bytes
    level       loss a byte is lognormal of its own, so that bits per byte are a ratio of two sums
    tilted      and falls with the length, longer texts being better predicted: both sums vary together
    domains     each document is of the domain asked for with chance 0.3, so its share varies too
    types       a document holds a type n times, n Poisson about a rate of the document's own, and has its own loss

Truths are the expectations, from the moments of the lognormal; no large sample stands for them.
Letters: `n` documents, `F` the products of `fit_sums.FIELDS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log

import numpy as np

from jobs.bench.worlds import Floats, numbers
from operators.mixtures.fit import FitSettings, domain_fit
from operators.mixtures.fit_read import Block
from operators.mixtures.fit_vocabulary import Types, document_sums, rows
from schemas.fits import DOMAIN, MACRO

RESAMPLES = 1000
LEVEL = 0.95
SPREAD = 1.0  # deviation of the logarithm of a document's bytes
NOISE = 0.3  # and of its loss a byte
SHARE = 0.3  # of the documents that are of the domain
BYTES_PER_TOKEN = 4.0


@dataclass(frozen=True)
class World:
    """Documents of mean length 1 on the logarithm's scale; `tilt`: how loss a byte falls with the length."""

    name: str
    tilt: float

    @property
    def nats_per_byte(self) -> float:
        """E[loss] / E[bytes]."""
        power = 1 + self.tilt
        return exp((power**2 - 1) * SPREAD**2 / 2 + NOISE**2 / 2)

    def documents(self, rng: np.random.Generator, n: int) -> Floats:
        """Rows of `fit_read.Block`: loss, tokens scored and fed, bytes, words."""
        log_bytes = rng.normal(0.0, SPREAD, n)
        loss = np.exp((1 + self.tilt) * log_bytes + rng.normal(0.0, NOISE, n))
        n_bytes = np.exp(log_bytes)
        tokens = n_bytes / BYTES_PER_TOKEN
        return np.stack([loss, tokens, tokens, n_bytes, np.ones(n)], axis=1)


LEVEL_WORLD, TILTED = World("level", 0.0), World("tilted", -0.1)
WORLDS = (LEVEL_WORLD, TILTED)


def bits_per_byte(world: World, draws: int, n: int, seed: int) -> Iterator[bool]:
    """Whether the interval of bits per byte covers, for corpora of n documents of one domain."""
    rng = numbers(f"fit, {world.name}", n, seed)
    truth = world.nats_per_byte / log(2)
    for draw in range(draws):
        blocks = [Block("a", world.documents(rng, n))]
        yield _covers(_row(blocks, draw, DOMAIN), "bits_per_byte", truth)


def macro(world: World, draws: int, n: int, seed: int) -> Iterator[bool]:
    """The same of the mean over two domains of n documents, of which one is twice as hard to predict."""
    rng = numbers(f"fit, macro, {world.name}", n, seed)
    truth = 1.5 * world.nats_per_byte / log(2)
    for draw in range(draws):
        hard = world.documents(rng, n) * np.array([2.0, 1.0, 1.0, 1.0, 1.0])
        blocks = [Block("a", world.documents(rng, n)), Block("b", hard)]
        yield _covers(_row(blocks, draw, MACRO), "bits_per_byte", truth)


def token_share(draws: int, n: int, seed: int) -> Iterator[bool]:
    """Whether the interval of a domain's share covers, for corpora of n documents; others are twice as long."""
    rng = numbers("fit, share", n, seed)
    truth = SHARE / (SHARE + 2 * (1 - SHARE))
    for draw in range(draws):
        documents = LEVEL_WORLD.documents(rng, n)
        is_inside = rng.random(n) < SHARE
        blocks = [Block("a", documents[is_inside]), Block("b", 2 * documents[~is_inside])]
        yield _covers(_row(blocks, draw, DOMAIN), "token_share", truth)


def type_loss(draws: int, n: int, seed: int) -> Iterator[bool]:
    """Whether the interval of a type's loss covers; n documents may hold it, each once on average."""
    rng = numbers("fit, type", n, seed)
    truth = exp(NOISE**2 / 2)
    for _ in range(draws):
        rate = rng.lognormal(-(SPREAD**2) / 2, SPREAD, n)
        count = rng.poisson(rate).astype(np.float64)
        of_document = np.exp(rng.normal(0.0, NOISE, n))
        loss = of_document * rng.gamma(np.maximum(count, 1e-300), 1.0)
        held = count > 0
        types = Types()
        types.add(np.zeros(1, np.int64), document_sums(np.zeros(held.sum(), np.intp), loss[held], count[held]))
        (row,) = rows(types, LEVEL).to_pylist()
        yield _covers(row, "mean_loss", truth)


def _row(blocks: list[Block], seed: int, part: str) -> dict[str, float | None]:
    fitted = domain_fit(blocks, FitSettings(LEVEL, RESAMPLES, seed)).to_pylist()
    return next(row for row in fitted if row["part"] == part)


def _covers(row: dict[str, float | None], name: str, truth: float) -> bool:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return low is not None and high is not None and low <= truth <= high
