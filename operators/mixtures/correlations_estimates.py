"""Perplexity correlations of a whole matrix, cells missing: estimates, intervals, p-values, and shares made of them.

    matrix with gaps --> domains by which models have them --> estimate, jackknife, permutations of each such part
                     --> samples of models --> estimates of every domain --> projected --> percentiles of shares

A model that lacks a domain is left out there and counts elsewhere: `n_models` says how many are behind a number.
Domains with fewer than `FEWEST_MODELS`, or whose models all have one value or one error, have no estimate and no part
in the shares: the formulas say 0 there, which would stand above every domain that is known to harm.
Letters: `N` models, `D` domains, `R` resamples, `K` domains with an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.evaluation.multiplicity import holm_adjusted
from operators.mixtures.correlations import Estimator, Floats, Models, Ties, correlations, weighted
from operators.mixtures.correlations_uncertainty import (
    ENOUGH_MODELS,
    jackknife_interval,
    permutation_p,
    resampled_weights,
)
from operators.mixtures.projection import Projection, project

FEWEST_MODELS = 3
_MOST_LOST = 0.5  # of the resamples, for want of models in them: beyond, shares have no interval

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """`bpb_ND`: bits per byte, NaN where a model lacks a domain. `error_N`: of each model, finite."""

    models: tuple[str, ...]
    domains: tuple[str, ...]
    bpb_ND: Floats
    error_N: Floats

    def parts(self, ties: Ties) -> Iterator[tuple[Mask, Mask, Models]]:
        """Domains [D] that the same models [N] have, and those models' numbers on them."""
        has_ND = ~np.isnan(self.bpb_ND)
        patterns, which = np.unique(has_ND, axis=1, return_inverse=True)
        for k, has_N in enumerate(patterns.T):
            of_pattern = which.ravel() == k
            yield of_pattern, has_N, Models(self.bpb_ND[np.ix_(has_N, of_pattern)], self.error_N[has_N], ties)


@dataclass(frozen=True)
class CorrelationOptions:
    """`caps_D`: most that each domain may be. `permutations`: orders drawn for p. Others as in the modules named."""

    caps_D: Floats
    projections: Sequence[Projection] = ("linear",)
    ties: Ties = "average"
    permutations: int = 10_000
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Shares:
    """Of one projection [D]; NaN where a domain has no estimate, and no interval where models are too few."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Correlation:
    """One estimator's numbers by domain [D], NaN where there is none. `least_p`: the smallest that p could be."""

    estimate: Floats
    low: Floats
    high: Floats
    p_value: Floats
    p_adjusted: Floats
    least_p: float
    n_models: npt.NDArray[np.int64]
    shares: Mapping[Projection, Shares]


def correlate(matrix: Matrix, estimator: Estimator, options: CorrelationOptions) -> Correlation:
    """Estimate every domain of a matrix and project.

    Raises:
        ValueError: no domain has `FEWEST_MODELS` models, or the caps of those that have come to less than 1.
    """
    size = len(matrix.domains)
    estimate, low, high, p_value = (np.full(size, np.nan) for _ in range(4))
    n_models, least_p = np.zeros(size, dtype=np.int64), 0.0
    for of_part, has_N, models in matrix.parts(options.ties):
        n_models[of_part] = has_N.sum()
        if has_N.sum() < FEWEST_MODELS:
            continue
        p, least = permutation_p(models, estimator, options.permutations, options.seed)
        numbers = correlations(models, estimator), *jackknife_interval(models, estimator, options.confidence), p
        for into_D, found in zip((estimate, low, high, p_value), numbers, strict=True):
            into_D[of_part] = np.where(models.differ, found, np.nan)
        least_p = max(least_p, least)
    is_known = np.isfinite(estimate)
    if not is_known.any():
        raise ValueError(f"no domain has numbers of {FEWEST_MODELS} models or more that differ")
    shares = {each: _shares(matrix, estimator, each, estimate, options) for each in options.projections}
    adjusted = holm_adjusted(p_value)
    return Correlation(estimate, low, high, p_value, adjusted, least_p, n_models, shares)


def _shares(
    matrix: Matrix, estimator: Estimator, projection: Projection, estimate_D: Floats, options: CorrelationOptions
) -> Shares:
    is_known = np.isfinite(estimate_D)
    caps_K = options.caps_D[is_known]
    value, low, high = (np.full(estimate_D.size, np.nan) for _ in range(3))
    value[is_known] = project(estimate_D[is_known], caps_K, projection)
    if len(matrix.models) >= ENOUGH_MODELS:
        drawn_RK = _resampled(matrix, estimator, options)[:, is_known]
        drawn_RK = drawn_RK[np.isfinite(drawn_RK).all(axis=1)]
        if len(drawn_RK) > (1 - _MOST_LOST) * options.resamples:
            tails = [(1 - options.confidence) / 2, (1 + options.confidence) / 2]
            low[is_known], high[is_known] = np.quantile(project(drawn_RK, caps_K, projection), tails, axis=0)
    return Shares(value, low, high)


def _resampled(matrix: Matrix, estimator: Estimator, options: CorrelationOptions) -> Floats:
    """Estimates [R, D] of bootstrap samples of models; NaN where a sample has too few of a domain's."""
    weights_RN = resampled_weights(len(matrix.models), options.resamples, options.seed)
    drawn = np.full((options.resamples, len(matrix.domains)), np.nan)
    for of_part, has_N, models in matrix.parts(options.ties):
        if has_N.sum() >= FEWEST_MODELS:
            drawn[:, of_part] = weighted(models, estimator, weights_RN[:, has_N])
    return drawn
