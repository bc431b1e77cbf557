"""Sums over documents, as they are and in every bootstrap sample: all that domain fit and its intervals are made of.

    block [B, C] -> documents with a scored token -> products [B, F] -> sums [F]; weights [R, B] @ products -> [R, F]

Documents are what is drawn, since tokens of one document go together. A document's weight in a sample is Poisson of
mean 1, so blocks can be taken one after the other in any number (Hanley & MacGibbon 2006; Chamandy et al. 2012); in a
ratio the number of documents drawn cancels. Memory is `R x F` numbers a group, whatever the number of documents.
Shapes: `B` documents of a block, `R` bootstrap samples, `F` the products of FIELDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, factorial

import numpy as np
import numpy.typing as npt

from operators.mixtures.fit_read import BYTES, FED, LOSS, SCORED, WORDS, Block

Floats = npt.NDArray[np.float64]

# Firsts, and the seconds that variances are made of.
FIELDS = ("loss", "tokens", "bytes", "loss*loss", "tokens*tokens", "bytes*bytes", "loss*tokens", "loss*bytes")
_TOKENS = [FIELDS.index("tokens"), FIELDS.index("tokens*tokens")]
_LARGEST_LOSS = 700.0  # nats a token, whose exp a double can hold
_STEPS = 1 << 16  # of the table that turns 16 random bits into a weight


@dataclass
class Sums:
    """Sums over a group of documents. `exact_F` and `drawn_RF`: over those with a scored token.

    `extrapolated`: nats, every token fed counted as an average one of its document. `n_fed`, `n_words`: of documents
    with a scored token.
    """

    exact_F: Floats
    drawn_RF: Floats
    n_documents: int = 0
    n_undefined: int = 0
    n_fed: int = 0
    n_words: int = 0
    extrapolated: float = 0.0

    @classmethod
    def of_none(cls, resamples: int) -> Sums:
        """Sums over no documents."""
        return cls(np.zeros(len(FIELDS)), np.zeros((resamples, len(FIELDS))))

    @property
    def n_scored_documents(self) -> int:
        return self.n_documents - self.n_undefined

    @property
    def tokens(self) -> Floats:
        """Scored tokens, and the sum of their squares by document, [2]."""
        return self.exact_F[_TOKENS]

    @property
    def drawn_tokens(self) -> Floats:
        """The same of every sample, [R, 2]."""
        return self.drawn_RF[:, _TOKENS]

    def __getitem__(self, field: str) -> float:
        return float(self.exact_F[FIELDS.index(field)])

    def add(self, other: Sums) -> None:
        """Take in another group."""
        self.exact_F += other.exact_F
        self.drawn_RF += other.drawn_RF
        self.n_documents += other.n_documents
        self.n_undefined += other.n_undefined
        self.n_fed += other.n_fed
        self.n_words += other.n_words
        self.extrapolated += other.extrapolated

    def add_block(self, block: Block, rng: np.random.Generator) -> None:
        """Take in documents, and draw their weights."""
        values = block.values_BC[block.values_BC[:, SCORED] > 0]
        loss, scored, fed = values[:, LOSS], values[:, SCORED], values[:, FED]
        products_BF = products(loss, scored, values[:, BYTES])
        self.exact_F += products_BF.sum(axis=0)
        if len(self.drawn_RF):
            with np.errstate(invalid="ignore"):  # losses that are infinite
                self.drawn_RF += poisson_weights(rng, len(values), len(self.drawn_RF)) @ products_BF
        self.n_documents += len(block.values_BC)
        self.n_undefined += len(block.values_BC) - len(values)
        self.n_fed += int(fed.sum())
        self.n_words += int(values[:, WORDS].sum())
        self.extrapolated += float((loss / scored * fed).sum())


def products(loss: Floats, tokens: Floats, n_bytes: Floats) -> Floats:
    """The products of FIELDS, [B, F]."""
    firsts = {"loss": loss, "tokens": tokens, "bytes": n_bytes}
    columns = []
    for field in FIELDS:
        first, _, second = field.partition("*")
        columns.append(firsts[first] * firsts[second] if second else firsts[first])
    return np.stack(columns, axis=1)


def perplexity(nats: float | None) -> float | None:
    """exp of a mean loss; None for none, or where it is too large a number."""
    return exp(nats) if nats is not None and nats < _LARGEST_LOSS else None


def poisson_weights(rng: np.random.Generator, n: int, resamples: int) -> Floats:
    """How often each of `n` documents is in each sample, [R, B]: Poisson of mean 1, its chances to 1 in 65,536.

    16 random bits and a table: many times as fast as `Generator.poisson`.
    """
    bits = rng.integers(0, _STEPS, size=(n, resamples), dtype=np.uint16)
    return np.take(_table(), bits).T


@cache
def _table() -> Floats:
    """The Poisson quantile in the middle of each of `_STEPS` equal steps of probability."""
    below = np.cumsum([exp(-1) / factorial(k) for k in range(12)])
    return np.searchsorted(below, (np.arange(_STEPS) + 0.5) / _STEPS).astype(np.float64)
