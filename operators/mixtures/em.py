"""The shares of known distributions in a mixture under which documents are likeliest: EM, sped up, to a proven optimum.

    f(pi) = mean_n ln sum_k pi_k p_k(n)                     concave; its gradient g_k = mean_n p_k(n) / p_pi(n)
    EM      pi_k <- pi_k g_k                                never worse, but slow where components overlap
    Newton  max 2 g.y - y'H y / 2 - sum y over y >= 0       H_jk = mean_n p_j(n) p_k(n) / p_pi(n)^2, so H pi = g
    stop    max_k g_k - 1 <= 1e-9

The last is a proof: f is concave and sum_k pi_k g_k = 1, so no shares are better by more than max_k g_k - 1 nats an
observation. Newton's step is Kim et al., "A fast algorithm for maximum likelihood estimation of mixture proportions
using sequential quadratic programming", arXiv 1806.01412; EM is Dempster, Laird and Rubin 1977.

Documents differ by hundreds of nats between models, so a row is shifted by its largest log-probability before exp.
What underflows then cannot matter: at the optimum p_pi(n) >= max_k p_k(n) / N, or that component would gain more.
Shapes: `N` observations (documents or tokens), `K` components, `D` documents, `B` rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GAP = 1e-9  # nats an observation that the optimum may be better by
MAX_STEPS = 500
BLOCK_ROWS = 1 << 18
_EM_STEPS = 3  # before Newton: far from the optimum its parabola says little
_LENGTHS = (1.0, 0.5, 0.1, 0.01, 1e-3)  # of a step, tried in turn
_RIDGE = 1e-10  # of H's mean diagonal: Newton's step is then unique where components are the same


@dataclass(frozen=True)
class Block:
    """Whole documents: `likelihood_BK` up to a factor a row, whose logarithm is `shift_B`; `starts`: their first rows
    in the block; `documents`: which of all they are."""

    likelihood_BK: Floats
    shift_B: Floats
    bytes_B: Floats
    starts: Ints
    documents: slice


@dataclass(frozen=True)
class Observations:
    """What every component says of every observation; rows of a document stand together.

    `logprob_NK`: nats, -inf allowed, but not throughout a row; in memory or mapped from a file, read in blocks.
    `bytes_N`: length of what is observed. `starts_D`: the first row of each document, ascending from 0.
    """

    logprob_NK: npt.NDArray[np.floating]
    bytes_N: npt.NDArray[np.floating]
    starts_D: Ints

    @classmethod
    def of_documents(cls, logprob_DK: Floats, bytes_D: Floats | None = None) -> Observations:
        """One observation a document; without lengths every document counts alike in shares of bytes."""
        size = len(logprob_DK)
        return cls(logprob_DK, np.ones(size) if bytes_D is None else bytes_D, np.arange(size))

    def __len__(self) -> int:
        return len(self.logprob_NK)

    @property
    def n_components(self) -> int:
        return int(self.logprob_NK.shape[1])

    @property
    def n_documents(self) -> int:
        return len(self.starts_D)

    @property
    def are_documents(self) -> bool:
        """Whether each observation is a document."""
        return self.n_documents == len(self)

    def blocks(self) -> Iterator[Block]:
        """All of them, some `BLOCK_ROWS` rows at once, in float64.

        Raises:
            ValueError: no component gives an observation any probability, or a log-probability is NaN.
        """
        edges = np.append(self.starts_D, len(self))
        cuts = np.unique(np.searchsorted(edges, [*range(0, len(self), BLOCK_ROWS), len(self)]))
        for first, last in pairwise(cuts):
            rows = slice(int(edges[first]), int(edges[last]))
            logprob_BK = np.asarray(self.logprob_NK[rows], np.float64)
            shift_B = logprob_BK.max(axis=1)
            if not np.isfinite(shift_B).all():
                raise ValueError("an observation has no finite log-probability under any component, or NaN")
            yield Block(
                np.exp(logprob_BK - shift_B[:, None]),
                shift_B,
                np.asarray(self.bytes_N[rows], np.float64),
                edges[first:last] - rows.start,
                slice(int(first), int(last)),
            )


@dataclass(frozen=True)
class Step:
    """Where the fit stood: mean log-likelihood of an observation (nats), and how much better the optimum can be."""

    objective: float
    gap: float


@dataclass(frozen=True)
class Fit:
    """`share_K` sums to 1; `steps`: from equal shares to the end. `hessian_KK`: -f's second derivative there.

    `gradient_K`: 1 where the share is above 0, at most 1 elsewhere, both to within the last step's gap.
    """

    share_K: Floats
    gradient_K: Floats
    hessian_KK: Floats
    steps: tuple[Step, ...]

    @property
    def has_converged(self) -> bool:
        return self.steps[-1].gap <= GAP


@dataclass(frozen=True)
class _Point:
    """Shares, and what one pass over the observations says of them; `value`: f less the mean shift."""

    share_K: Floats
    value: float
    gradient_K: Floats
    hessian_KK: Floats

    @cached_property
    def gap(self) -> float:
        return max(0.0, float(self.gradient_K.max()) - 1)

    def is_better_than(self, other: _Point) -> bool:
        """Near the optimum f moves less than its own rounding; the gap still tells points apart."""
        rounding = 1e-13 * (1 + abs(other.value))
        return self.value > other.value + rounding or (self.value >= other.value - rounding and self.gap < other.gap)


def fit_shares(observations: Observations, *, max_steps: int = MAX_STEPS) -> Fit:
    """The likeliest shares; a pass or a few over the observations each step, some ten steps in all.

    The reference: `scipy.optimize.minimize(lambda pi: -np.log(np.exp(logprob_NK) @ pi).mean(), ...)` on the simplex.
    Where optima are many (`unresolved`), one of them.

    Raises:
        ValueError: no observations or components, or as `Observations.blocks`.
    """
    if not len(observations) or not observations.n_components:
        raise ValueError("no observations, or no components")
    size = observations.n_components
    here = _look(observations, np.full(size, 1 / size))
    shift = sum(float(block.shift_B.sum()) for block in observations.blocks()) / len(observations)
    steps = [Step(here.value + shift, here.gap)]
    while here.gap > GAP and len(steps) <= max_steps:
        there = _advance(observations, here, is_early=len(steps) <= _EM_STEPS)
        if there is None:
            break
        here = there
        steps.append(Step(here.value + shift, here.gap))
    return Fit(here.share_K, here.gradient_K, here.hessian_KK, tuple(steps))


def _look(observations: Observations, share_K: Floats) -> _Point:
    size = observations.n_components
    value, gradient_K, hessian_KK = 0.0, np.zeros(size), np.zeros((size, size))
    for block in observations.blocks():
        mixed_B = block.likelihood_BK @ share_K
        if not mixed_B.min() > 0:
            return _Point(share_K, -np.inf, np.full(size, np.inf), np.eye(size))
        value += float(np.log(mixed_B).sum())
        ratio_BK = block.likelihood_BK / mixed_B[:, None]
        gradient_K += ratio_BK.sum(axis=0)
        hessian_KK += ratio_BK.T @ ratio_BK
    n = len(observations)
    return _Point(share_K, value / n, gradient_K / n, hessian_KK / n)


def _advance(observations: Observations, here: _Point, *, is_early: bool) -> _Point | None:
    """A better point; None where rounding leaves none to be found."""
    aims = [] if is_early else [newton_aim(here.share_K, here.gradient_K, here.hessian_KK)]
    if here.share_K[best := int(here.gradient_K.argmax())] == 0:  # EM never comes back from 0
        aims.append(np.eye(len(here.share_K))[best])
    for aim_K in aims:
        for length in _LENGTHS:
            there = _look(observations, here.share_K + length * (aim_K - here.share_K))
            if there.is_better_than(here):
                return there
    there = _look(observations, (moved := here.share_K * here.gradient_K) / moved.sum())
    return there if there.is_better_than(here) else None


def newton_aim(share_K: Floats, gradient_K: Floats, hessian_KK: Floats) -> Floats:
    """Where the parabola through a point has its maximum among shares; the constraint that they sum to 1 needs no
    equation, since f - sum has its maximum where they do."""
    parabola = Parabola.of(hessian_KK, share_K, _RIDGE)
    aim_K = parabola.maximum(hessian_KK @ share_K + gradient_K - 1)
    return aim_K / aim_K.sum() if aim_K.sum() > 0 else share_K


@dataclass(frozen=True)
class Parabola:
    """slope.y - y'H y / 2 - ridge |y - near|^2 / 2 over y >= 0: the ridge makes one maximum of many.

    `upper_KK`: the Cholesky factor of H + ridge; `pull_K`: ridge times near.
    """

    upper_KK: Floats
    pull_K: Floats

    @classmethod
    def of(cls, hessian_KK: Floats, near_K: Floats, ridge: float) -> Parabola:
        """`ridge` is given as a share of H's mean diagonal."""
        width = ridge * float(np.trace(hessian_KK)) / len(near_K)
        lower_KK = np.linalg.cholesky(hessian_KK + width * np.eye(len(near_K)))
        return cls(np.asarray(lower_KK.T, np.float64), width * near_K)

    def maximum(self, slope_K: Floats) -> Floats:
        """Where it is highest, as non-negative least squares."""
        found_K, _ = nnls(self.upper_KK, np.linalg.solve(self.upper_KK.T, slope_K + self.pull_K))
        return np.asarray(found_K, np.float64)
