"""How sure a perplexity correlation is: models are the units, for the documents behind a number are many, models few.

    estimate   +- Student's t x jackknife error over models (leave one out), of ranks on Fisher's scale
    share      percentiles over bootstrap samples of models, each projected anew: a share near a cap jumps
    p-value    errors are dealt to the models anew: every order where there are few, else orders drawn; two-sided

The p-value asks whether errors have anything to do with the domain's fit. Models that are better at everything answer
yes for every domain; which domain matters more is in the estimates and their intervals.

How often intervals of level 0.95 held their number, models simulated by y = f(<w, x> + noise): estimates of ranks 0.96
to 0.99 with 8 models, 0.95 to 0.97 with 20 and 50; product and sign 0.93 to 0.98 with 8 to 50. Shares of sign_cdf: by
l2 0.93 to 0.97, by linear 0.98 to 1, for they jump between 0 and the cap and their intervals are wide.
Letters: `N` models, `D` domains, `R` resamples, `P` orders.
Sources: Efron & Tibshirani 1993; (1 + count) / (1 + P): Phipson & Smyth 2010.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from operators.mixtures.correlations import Estimator, Floats, Models, Places, correlations, weighted

ENOUGH_MODELS = 8  # fewer give no interval: neither the jackknife nor a bootstrap can tell their spread

# The most that an estimator of ranks can be, with n models. Its interval is made on Fisher's scale, where estimates
# near the most spread as others do.
_MOST: dict[Estimator, Callable[[int], float]] = {
    "sign_cdf": lambda n: (n + 1) / (3 * n),
    "sign_sign": lambda n: 1.0,
    "spearman": lambda n: 1.0,
}
_ALMOST = 0.999
_CELLS = 4_000_000
_SAME = 1e-9  # of two orders that give one number but for rounding


def jackknife_interval(models: Models, estimator: Estimator, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper ends [D], within what the estimator can be.

    NaN with fewer than `ENOUGH_MODELS` models, and where leaving one out changes nothing, so that no spread is seen.
    """
    n = models.error_N.size
    if n < ENOUGH_MODELS:
        nothing = np.full(models.bpb_ND.shape[1], np.nan)
        return nothing, nothing
    without_ND = weighted(models, estimator, 1 - np.eye(n))
    estimate_D = correlations(models, estimator)
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    if estimator not in _MOST:
        error_D = _jackknife_error(without_ND)
        return estimate_D - reach * error_D, estimate_D + reach * error_D
    most = _MOST[estimator](n)
    z_D, z_ND = _stretched(estimate_D / most), _stretched(without_ND / _MOST[estimator](n - 1))
    error_D = _jackknife_error(z_ND)
    low_D, high_D = most * np.tanh(z_D - reach * error_D), most * np.tanh(z_D + reach * error_D)
    return np.minimum(low_D, estimate_D), np.maximum(high_D, estimate_D)


def _jackknife_error(without_NX: Floats) -> Floats:
    """NaN where there is none."""
    n = len(without_NX)
    error_X = np.sqrt((n - 1) / n * ((without_NX - without_NX.mean(axis=0)) ** 2).sum(axis=0))
    return np.where(np.ptp(without_NX, axis=0) > _SAME, error_X, np.nan)


def _stretched(shares: Floats) -> Floats:
    """Fisher's transform of a correlation; one of 1 is taken for a little less, which has an interval."""
    return np.arctanh(np.clip(shares, -_ALMOST, _ALMOST))


def resampled_weights(n_models: int, resamples: int, seed: int) -> Floats:
    """How often each model is in each bootstrap sample: [R, N]."""
    even = np.full(n_models, 1 / n_models)
    return np.random.default_rng(seed).multinomial(n_models, even, size=resamples).astype(np.float64)


def permutation_p(models: Models, estimator: Estimator, permutations: int, seed: int) -> tuple[Floats, float]:
    """Two-sided p-values [D], and the smallest that they could be.

    `permutations`: how many orders to draw; where there are no more orders than that, all are taken and p is exact.
    """
    n = models.error_N.size
    is_exact = math.factorial(min(n, 20)) <= permutations
    statistic = _Statistic(models, estimator)
    observed_D = np.abs(statistic(np.arange(n)[None, :])[0]) - _SAME * statistic.scale_D
    counts_D, total = np.zeros(observed_D.size), 0
    for orders_PN in _orders(n, None if is_exact else permutations, seed, max(1, _CELLS // (n * n))):
        counts_D += (np.abs(statistic(orders_PN)) >= observed_D).sum(axis=0)
        total += len(orders_PN)
    known = 0 if is_exact else 1  # the order that was observed is one of them all, or is added to those drawn
    p_D = np.where(statistic.scale_D > 0, (counts_D + known) / (total + known), np.nan)
    return p_D, 1 / (total + known)


class _Statistic:
    """What an estimator is, but for a factor, when errors are dealt anew; 0 on average over all orders.

    All but sign_sign are sums over models of something of the error times something of the domain.
    """

    def __init__(self, models: Models, estimator: Estimator) -> None:
        self._models, self._estimator = models, estimator
        ones = np.ones((1, models.error_N.size))
        signs_N = models.error_signs.sum(axis=0)
        ranks_ND, error_ranks_N = models.bpb_ranks(ones)[0].T, models.error_ranks(ones)[0, 0]
        of_error, of_domain = {
            "product": (models.error_N, models.bpb_ND),
            "sign": (signs_N, models.bpb_ND),
            "sign_cdf": (signs_N, ranks_ND),
            "sign_sign": (signs_N, ranks_ND),
            "spearman": (error_ranks_N, ranks_ND),
        }[estimator]
        self._of_error_N, self._of_domain_ND = of_error - of_error.mean(), of_domain - of_domain.mean(axis=0)
        self.scale_D = np.abs(self._of_error_N) @ np.abs(self._of_domain_ND)

    def __call__(self, orders_PN: Places) -> Floats:
        """[P, D] with errors in these orders."""
        if self._estimator != "sign_sign":
            return np.asarray(self._of_error_N[orders_PN] @ self._of_domain_ND)
        errors_PM = self._models.error_signs[orders_PN[:, :, None], orders_PN[:, None, :]].reshape(len(orders_PN), -1)
        columns = [errors_PM @ self._models.pair_signs(d).ravel() for d in range(self._models.bpb_ND.shape[1])]
        return np.stack(columns, axis=1)


def _orders(n: int, drawn: int | None, seed: int, rows: int) -> Iterator[Places]:
    """Orders of n models, chunk by chunk: all of them, or so many that are drawn."""
    if drawn is None:
        every = itertools.permutations(range(n))
        while chunk := list(itertools.islice(every, rows)):
            yield np.array(chunk, dtype=np.intp)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, drawn, rows):
        yield generator.permuted(np.tile(np.arange(n), (min(rows, drawn - start), 1)), axis=1)
