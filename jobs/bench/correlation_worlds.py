"""Made-up models whose errors are known to come from their fit of domains, or to have nothing to do with it.

    single index   y = f(<w, x> + noise), f increasing, x normal: what perplexity correlations assume
    null           y drawn anew, x as models have it: all domains together better or worse, rounded so that some tie

Of every sample one domain is tested, for domains of one sample share their errors. Without ties p-values are moved to a
random place within the step that they stand for, and are then uniform.

Letters: `R` samples, `N` models, `D` domains.
Source: Thrush et al. 2024, arXiv 2409.05816.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jobs.bench.worlds import numbers
from operators.mixtures.correlations import Estimator, Models
from operators.mixtures.correlations_uncertainty import permutation_p

JUDGED: tuple[Estimator, ...] = ("sign_cdf", "product", "spearman")  # the others are sums of the same kind
MODELS = (12, 50)
DOMAINS = 3
PERMUTATIONS = 199
_SPREAD, _LEVEL = 0.1, 1.0  # bits per byte


def unrelated(draws: int, n: int, seed: int, *, tied: bool) -> Iterator[Models]:
    """Models whose errors say nothing of their fit. `tied`: to a grid on which some of either are equal."""
    rng = numbers(f"correlation, tied {tied}", n, seed)
    for _ in range(draws):
        quality_N1 = rng.normal(size=(n, 1))
        x_ND = _LEVEL + _SPREAD * (quality_N1 + 0.3 * rng.normal(size=(n, DOMAINS)))
        y_N = rng.beta(2, 2, size=n)
        yield Models(np.round(x_ND, 1), np.round(y_N, 1)) if tied else Models(x_ND, y_N)


def p_values(draws: int, n: int, seed: int, estimator: Estimator, *, tied: bool) -> list[float]:
    """A p-value for each of `draws` samples of `n` models with nothing to find, smoothed where they do not tie."""
    within = numbers(f"correlation, {estimator}", n, seed).random(draws)
    found = []
    for draw, models in enumerate(unrelated(draws, n, seed, tied=tied)):
        p_D, step = permutation_p(models, estimator, PERMUTATIONS, seed=draw)
        p = float(p_D[draw % DOMAINS])
        found.append(p if tied else p - float(within[draw]) * step)
    return [p for p in found if np.isfinite(p)]
