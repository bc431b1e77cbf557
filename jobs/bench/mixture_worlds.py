"""Documents of a mixture whose shares are known: do the intervals of `assay mixture weights` cover them?

    a component's document is normal in K directions, its own moved up by `gain`: log-likelihoods are exact
    --> fit --> intervals --> per component, whether the true share is inside, sample by sample

By document, from components that overlap to components that are plain to see; one is rare, one is not there. By token,
documents have shares of their own around the true ones and unequal lengths, so tokens of one document belong together.
By bytes, lengths of documents are lognormal, so that few hold most: then shares of bytes are judged.
Every sample is drawn from a seed that names the world, the size and its number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.bench.worlds import numbers
from jobs.mixture.weights_request import DOCUMENT, FEW_DOCUMENTS, TOKEN
from operators.mixtures.em import Floats, Observations, fit_shares
from operators.mixtures.em_bytes import byte_ends
from operators.mixtures.em_intervals import document_sums, draw_shares, interval_ends

RESAMPLES = 400
CONFIDENCE = 0.95
ENOUGH_LONG = 100  # documents of unequal length; of 50, each component's note says what it rests on
_TOKENS = 20  # of a document on average
_ALIKE = 4.0  # the higher, the more the documents' own shares are alike


@dataclass(frozen=True)
class MixtureWorld:
    """`share`: true shares, 0 allowed. `gain`: how far components are apart. `by_token`: tokens are observed.
    `spread`: deviation of the logarithm of a document's bytes; where it is not 0, shares of bytes are judged."""

    name: str
    share: tuple[float, ...]
    gain: float
    by_token: bool = False
    spread: float = 0.0

    @property
    def least(self) -> int:
        """Documents below which intervals do not promise their level: the verb then says so."""
        if self.spread:
            return ENOUGH_LONG
        return FEW_DOCUMENTS[TOKEN if self.by_token else DOCUMENT]

    def covered(self, draws: int, n: int, seed: int) -> npt.NDArray[np.bool_]:
        """Whether each component's interval holds its true share `[R, K]`; samples of `n` documents."""
        return np.array([self._covers(self._sample(n, draw, seed), draw) for draw in range(draws)])

    def _covers(self, observations: Observations, draw: int) -> npt.NDArray[np.bool_]:
        fit = fit_shares(observations)
        sums = document_sums(observations, fit)
        drawn = draw_shares(observations, fit, sums, resamples=RESAMPLES, seed=draw)
        if self.spread:
            ends = byte_ends(sums, fit, drawn, confidence=CONFIDENCE, seed=draw)
        else:
            ends = interval_ends(drawn.share_RK, drawn.plain_RK, fit.share_K, CONFIDENCE)
        return np.asarray((ends.low_K <= self.share) & (ends.high_K >= self.share), bool)

    def _sample(self, n: int, draw: int, seed: int) -> Observations:
        rng = numbers(f"{self.name} {draw}", n, seed)
        if not self.by_token:
            logprob_NK = self._logprobs(rng, rng.choice(len(self.share), p=self.share, size=n))
            return Observations.of_documents(logprob_NK, rng.lognormal(0.0, self.spread, n))
        lengths = rng.integers(1, 2 * _TOKENS, n)
        share_DK = rng.dirichlet(_ALIKE * np.array(self.share), n)
        of_N = np.concatenate([rng.choice(len(self.share), p=share_K, size=length)
                               for share_K, length in zip(share_DK, lengths, strict=True)])  # fmt: skip
        return Observations(self._logprobs(rng, of_N), np.ones(len(of_N)), np.cumsum(lengths) - lengths)

    def _logprobs(self, rng: np.random.Generator, of_N: npt.NDArray[np.int64]) -> Floats:
        x_NK = rng.normal(size=(len(of_N), len(self.share))) + self.gain * np.eye(len(self.share))[of_N]
        return np.asarray(self.gain * x_NK, np.float64)  # but for a term that all components share


PRESENT = (
    MixtureWorld("overlapping", (0.5, 0.3, 0.2), gain=1.5),
    MixtureWorld("apart", (0.5, 0.3, 0.2), gain=3.0),
    MixtureWorld("one rare", (0.6, 0.32, 0.08), gain=2.5),
    MixtureWorld("by token", (0.5, 0.3, 0.2), gain=1.5, by_token=True),
)
ABSENT = MixtureWorld("one absent", (0.6, 0.4, 0.0), gain=2.0)
BYTES = MixtureWorld("bytes", (0.5, 0.3, 0.2), gain=3.0, spread=1.0)
