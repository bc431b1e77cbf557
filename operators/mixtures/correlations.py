"""Perplexity correlations: how a model's fit of a domain goes with its errors on a benchmark, over many models.

    x[n, d]  bits per byte of model n on domain d        y[n]  its error, 1 - accuracy

    product    mean of x y
    sign       mean over pairs of models i < j of sign(y_j - y_i) (x_j - x_i)
    sign_cdf   the same of F_d(x) = rank / N, the paper's choice: bears outliers in x and y
    sign_sign  the same of sign(x_j - x_i): Kendall's tau a
    spearman   Pearson's correlation of the ranks; without ties 1 - 6 sum (difference of ranks)^2 / (N (N^2 - 1))

    higher = models with fewer bits per byte on this domain make fewer errors, so more of it is worth training on

Under y = f(<w, x> + noise), f increasing and x normal, product and sign estimate w up to a factor, the others a
monotone function of each of its weights: their order. Correlation over models that others trained is no experiment.

Every estimator is written with a weight for each model, so that samples of models (`correlations_uncertainty`) need no
copies: a pair of a model and itself, drawn twice, is no pair and is left out of the mean.

Ties: `average`, ours, gives models with one value their mean rank; `position`, the authors' code, ranks them as they
stand in the matrix, so that order without meaning moves the estimate. Signs of a difference are 0 in both.
Letters: `N` models, `D` domains, `R` weightings.
Sources: Thrush et al. 2024, arXiv 2409.05816; product: Plan et al. 2016, arXiv 1404.3749; sign: Chen & Banerjee 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Estimator = Literal["sign_cdf", "product", "sign", "sign_sign", "spearman"]
Ties = Literal["average", "position"]

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
TIES: tuple[Ties, ...] = get_args(Ties)
ORDER_ONLY: tuple[Estimator, ...] = ("sign_cdf", "sign_sign", "spearman")  # say the order of weights, not their sizes

_CELLS = 4_000_000  # of an array [R, N, D]: 32 MB


@dataclass(frozen=True)
class Models:
    """Models with all their numbers: `bpb_ND` and `error_N`, finite."""

    bpb_ND: Floats
    error_N: Floats
    ties: Ties = "average"

    def __post_init__(self) -> None:
        if self.bpb_ND.ndim != 2 or self.error_N.shape != self.bpb_ND.shape[:1]:
            raise ValueError(f"bits per byte {self.bpb_ND.shape} and errors {self.error_N.shape}: expected [N, D], [N]")
        if not (np.isfinite(self.bpb_ND).all() and np.isfinite(self.error_N).all()):
            raise ValueError("models: bits per byte and errors must be finite")

    @property
    def differ(self) -> npt.NDArray[np.bool_]:
        """Domains [D] on which there is something to correlate: neither bits per byte nor errors are all one number."""
        return np.asarray((np.ptp(self.bpb_ND, axis=0) > 0) & bool(np.ptp(self.error_N) > 0))

    @cached_property
    def error_signs(self) -> Floats:
        """`[i, j]`: sign of y_j - y_i."""
        return np.asarray(np.sign(self.error_N[None, :] - self.error_N[:, None]))

    @cached_property
    def bpb_ranks(self) -> Ranks:
        return Ranks(self.bpb_ND.T, self.ties)

    @cached_property
    def error_ranks(self) -> Ranks:
        return Ranks(self.error_N[None, :], self.ties)

    def pair_signs(self, domain: int) -> Floats:
        """`[i, j]`: sign of x_j - x_i on one domain."""
        x = self.bpb_ND[:, domain]
        return np.asarray(np.sign(x[None, :] - x[:, None]))


class Ranks:
    """Ranks, from 1, in each row of values `[K, N]` whose members have weights: one of weight 2 counts as two alike."""

    def __init__(self, values_KN: Floats, ties: Ties) -> None:
        self.order_KN = np.argsort(values_KN, axis=1, kind="stable")
        ordered = np.take_along_axis(values_KN, self.order_KN, axis=1)
        if ties == "position":
            self.first_KN = self.last_KN = np.broadcast_to(np.arange(values_KN.shape[1]), values_KN.shape)
        else:
            self.first_KN, self.last_KN = runs_of_equals(ordered)

    def __call__(self, weights_RN: Floats) -> Floats:
        """Ranks [R, K, N]: the mean of the places that a value takes."""
        weights_RKN = weights_RN[:, self.order_KN]
        upto_RKN = np.cumsum(weights_RKN, axis=2)
        first, last = (np.broadcast_to(each, upto_RKN.shape) for each in (self.first_KN, self.last_KN))
        end = np.take_along_axis(upto_RKN, last, axis=2)
        start = np.take_along_axis(upto_RKN - weights_RKN, first, axis=2)
        ranks = np.empty_like(upto_RKN)
        np.put_along_axis(ranks, np.broadcast_to(self.order_KN, ranks.shape), (start + end) / 2 + 0.5, axis=2)
        return ranks


def runs_of_equals(ordered: Floats) -> tuple[Places, Places]:
    """Of each value of sorted rows the place of the first and of the last that equal it."""
    places = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*ordered.shape[:-1], 1), dtype=bool)
    is_first, is_last = np.concatenate([edge, differs], axis=-1), np.concatenate([differs, edge], axis=-1)
    first = np.maximum.accumulate(np.where(is_first, places, 0), axis=-1)
    backwards = np.where(is_last, places, ordered.shape[-1])[..., ::-1]
    return np.asarray(first), np.asarray(np.minimum.accumulate(backwards, axis=-1)[..., ::-1])


def correlations(models: Models, estimator: Estimator) -> Floats:
    """The estimate [D] of every domain; NaN with fewer than two models, and of spearman where nothing varies."""
    (estimate_D,) = weighted(models, estimator, np.ones((1, models.error_N.size)))
    return np.asarray(estimate_D)


def weighted(models: Models, estimator: Estimator, weights_RN: Floats) -> Floats:
    """Estimates [R, D] where models have weights, 0 or more. NaN where a weighting leaves fewer than two models.

    Raises:
        ValueError: no such estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator {estimator!r}: expected one of {', '.join(ESTIMATORS)}")
    rows = max(1, _CELLS // max(1, models.bpb_ND.size))
    chunks = (weights_RN[start : start + rows] for start in range(0, len(weights_RN), rows))
    estimates = np.concatenate([_weighted(models, estimator, chunk) for chunk in chunks])
    estimates[(weights_RN > 0).sum(axis=1) < 2] = np.nan
    return estimates


def _weighted(models: Models, estimator: Estimator, weights_RN: Floats) -> Floats:
    total_R1 = weights_RN.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 of weightings that leave one model or none
        if estimator == "product":
            return np.asarray((weights_RN * models.error_N) @ models.bpb_ND / total_R1)
        if estimator == "spearman":
            return _spearman(models, weights_RN)
        # sum over pairs of w_i w_j s_ij (g_j - g_i) = sum over j of w_j g_j (sum over i of w_i s_ij)
        pairs_R1 = (total_R1**2 - (weights_RN**2).sum(axis=1, keepdims=True)) / 2
        if estimator == "sign_sign":
            both_RD = np.empty((len(weights_RN), models.bpb_ND.shape[1]))
            for d in range(models.bpb_ND.shape[1]):
                alike_NN = models.error_signs * models.pair_signs(d)
                both_RD[:, d] = ((weights_RN @ alike_NN) * weights_RN).sum(axis=1)
            return np.asarray(both_RD / 2 / pairs_R1)
        pull_RN = weights_RN * (weights_RN @ models.error_signs)
        if estimator == "sign":
            return np.asarray(pull_RN @ models.bpb_ND / pairs_R1)
        cdf_RDN = models.bpb_ranks(weights_RN) / total_R1[:, :, None]
        return np.asarray(np.einsum("rn,rdn->rd", pull_RN, cdf_RDN) / pairs_R1)


def _spearman(models: Models, weights_RN: Floats) -> Floats:
    """Pearson's correlation of weighted ranks [R, D]."""
    x_RDN, y_R1N = (_centred(ranks(weights_RN), weights_RN) for ranks in (models.bpb_ranks, models.error_ranks))
    covariance = np.einsum("rn,rdn,rn->rd", weights_RN, x_RDN, y_R1N[:, 0])
    spread_x, spread_y = (np.einsum("rn,rkn->rk", weights_RN, each**2) for each in (x_RDN, y_R1N))
    return np.asarray(covariance / np.sqrt(spread_x * spread_y))


def _centred(ranks_RKN: Floats, weights_RN: Floats) -> Floats:
    mean_RK = np.einsum("rn,rkn->rk", weights_RN, ranks_RKN) / weights_RN.sum(axis=1, keepdims=True)
    return np.asarray(ranks_RKN - mean_RK[:, :, None])
