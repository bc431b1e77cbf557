"""Perplexity correlations: equal to plain loops and to SciPy, ties as stated, weights found again, doubt admitted."""

from __future__ import annotations

import itertools
import math
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import stats

from operators.mixtures.correlations import ESTIMATORS, Estimator, Floats, Models, correlations, weighted
from operators.mixtures.correlations_estimates import CorrelationOptions, Matrix, correlate
from operators.mixtures.correlations_uncertainty import jackknife_interval, permutation_p

# metrics.md x_signcdf, over (model, domain, bpb, err)
SIGN_CDF_SQL = """
WITH r AS (SELECT model, domain, err, row_number() OVER (PARTITION BY domain ORDER BY bpb)
             / count(*) OVER (PARTITION BY domain) AS cdf FROM model_domain)
SELECT a.domain, 2.0 * sum(sign(b.err - a.err) * (b.cdf - a.cdf)) / (any_value(m.n) * (any_value(m.n) - 1)) AS w
FROM r a JOIN r b ON a.domain = b.domain AND a.model < b.model
CROSS JOIN (SELECT count(DISTINCT model) AS n FROM model_domain) m GROUP BY a.domain ORDER BY a.domain
"""


def single_index(rng: np.random.Generator, n: int, weights_D: Floats, *, noise: float = 0.0) -> Models:
    """Models with independent normal bits per byte and errors between 0 and 1. `noise`: against <w, x> of spread 1."""
    x_ND = rng.normal(size=(n, weights_D.size))
    index_N = x_ND @ (weights_D / np.linalg.norm(weights_D)) + noise * rng.normal(size=n)
    return Models(1 + 0.1 * x_ND, 1 / (1 + np.exp(-index_N)))


def drawn(n: int, d: int, *, tied: bool, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, d)), rng.random(n)
    return (np.round(4 * x) / 4, np.round(5 * y) / 5) if tied else (x, y)


def places(values: Floats) -> list[int]:
    """Ranks from 1, equal values as they stand."""
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    return [order.index(i) + 1 for i in range(len(values))]


def mean_places(values: Floats) -> list[float]:
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def by_loops(x: Floats, y: Floats, estimator: Estimator, ties: str) -> float:
    """One domain, written as the formulas are."""
    n, ranks = len(y), places if ties == "position" else mean_places
    if estimator == "product":
        return sum(float(a * b) for a, b in zip(x, y, strict=True)) / n
    if estimator == "spearman":
        rx, ry = ranks(x), ranks(y)
        if ties == "position":
            return 1 - 6 * sum((a - b) ** 2 for a, b in zip(rx, ry, strict=True)) / (n * (n**2 - 1))
        return float(np.corrcoef(rx, ry)[0, 1])
    g = {"sign": list(x), "sign_sign": list(x), "sign_cdf": [r / n for r in ranks(x)]}[estimator]
    total = 0.0
    for i, j in itertools.combinations(range(n), 2):
        difference = g[j] - g[i]
        total += np.sign(y[j] - y[i]) * (np.sign(difference) if estimator == "sign_sign" else difference)
    return 2 * float(total) / (n * (n - 1))


@pytest.mark.parametrize("ties", ["average", "position"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_equal_their_formulas(estimator: Estimator, tied: bool, ties: Any) -> None:
    for n in (2, 3, 9, 24):
        x, y = drawn(n, 4, tied=tied, seed=n)
        if estimator == "spearman" and ties == "average":
            x[0], y[0] = x.max(axis=0) + 1, y.max() + 1  # something varies
        wanted = [by_loops(column, y, estimator, ties) for column in x.T]
        assert correlations(Models(x, y, ties), estimator) == pytest.approx(wanted, abs=1e-12)


def test_a_case_by_hand_with_ties() -> None:
    # x = 1 1 2 with y = 0 1 1: pairs (0,1) sign 1, (0,2) sign 1, (1,2) sign 0; ranks 1.5 1.5 3, or 1 2 3 as they stand
    x, y = np.array([[1.0], [1.0], [2.0]]), np.array([0.0, 1.0, 1.0])
    average, position = Models(x, y), Models(x, y, "position")
    assert correlations(average, "sign_cdf") == pytest.approx([2 / 6 * (0 + 1.5 / 3)])
    assert correlations(position, "sign_cdf") == pytest.approx([2 / 6 * (1 / 3 + 2 / 3)])
    assert correlations(average, "sign") == pytest.approx([2 / 6 * 1])
    assert correlations(average, "sign_sign") == pytest.approx([2 / 6 * 1])
    assert correlations(average, "product") == pytest.approx([1.0])
    assert correlations(average, "spearman") == pytest.approx([0.5])
    assert correlations(position, "spearman") == pytest.approx([1.0])


def test_mean_ranks_do_not_depend_on_the_order_of_models_and_positions_do() -> None:
    x, y = drawn(12, 3, tied=True)
    turned = x[::-1], y[::-1]
    for estimator in ESTIMATORS:
        assert correlations(Models(*turned), estimator) == pytest.approx(correlations(Models(x, y), estimator))
    here, there = (correlations(Models(*each, "position"), "sign_cdf") for each in ((x, y), turned))
    assert np.abs(here - there).max() > 0.01


def test_spearman_and_sign_sign_equal_scipy() -> None:
    x, y = drawn(30, 5, tied=True)
    scipy = [stats.spearmanr(column, y).statistic for column in x.T]
    assert correlations(Models(x, y), "spearman") == pytest.approx(scipy)
    x, y = drawn(30, 5, tied=False)
    kendall = [stats.kendalltau(column, y).statistic for column in x.T]
    assert correlations(Models(x, y), "sign_sign") == pytest.approx(kendall)


def test_the_catalogue_of_metrics_says_the_same_in_sql() -> None:
    x, y = drawn(15, 4, tied=False)
    with duckdb.connect() as connection:
        connection.execute("create table model_domain (model integer, domain integer, bpb double, err double)")
        rows = [(i, d, x[i, d], y[i]) for i in range(15) for d in range(4)]
        connection.executemany("insert into model_domain values (?, ?, ?, ?)", rows)
        found = [w for _, w in connection.execute(SIGN_CDF_SQL).fetchall()]
    assert correlations(Models(x, y), "sign_cdf") == pytest.approx(found)


def test_lower_bits_per_byte_with_lower_error_is_higher() -> None:
    quality = np.linspace(0, 1, 10)
    x = np.column_stack([1 - quality, np.full(10, 0.5), quality]) + 1e-3 * np.arange(10)[:, None] % 2
    for estimator in ESTIMATORS:
        helps, _, harms = correlations(Models(x, 1 - quality), estimator)
        assert helps > harms
        assert estimator == "product" or helps > 0 > harms


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_model_of_weight_2_is_two_models_that_are_no_pair(estimator: Estimator) -> None:
    x, y = drawn(7, 3, tied=True)
    weights = np.array([2.0, 1, 1, 0, 1, 1, 3])
    copies = np.repeat(np.arange(7), weights.astype(int))
    (found,) = weighted(Models(x, y), estimator, weights[None, :])
    wanted = correlations(Models(x[copies], y[copies]), estimator)
    if estimator.startswith("sign"):  # a mean over pairs: those of a model and itself are 0 and are left out
        n, own = len(copies), sum(w * (w - 1) for w in weights)
        wanted = wanted * n * (n - 1) / (n * (n - 1) - own)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_weights_of_the_models_of_the_paper_are_found_again() -> None:
    """y = f(<w, x> + noise): product and sign give w up to a factor, the others its order."""
    truth = np.array([0.5, 0.25, 0.15, 0.1, 0.0, 0.0])
    models = single_index(np.random.default_rng(1), 3000, truth, noise=0.3)
    for estimator in ESTIMATORS:
        found = correlations(models, estimator)
        if estimator == "product":  # x and y are not centred: what an average x has with an average y
            found = found - models.bpb_ND.mean(axis=0) * models.error_N.mean()
        assert (np.argsort(-found)[:4] == np.arange(4)).all()
        if estimator in ("sign", "product"):
            assert found / found.sum() == pytest.approx(truth, abs=0.03)


# Uncertainty


def test_p_is_exact_with_few_models() -> None:
    x, y = drawn(5, 3, tied=False)
    for estimator in ESTIMATORS:
        p, least = permutation_p(Models(x, y), estimator, 1000, seed=0)
        centre = x.mean(axis=0) * y.mean() if estimator == "product" else 0.0
        observed = np.abs(correlations(Models(x, y), estimator) - centre)
        every = [
            np.abs(correlations(Models(x, y[list(order)]), estimator) - centre)
            for order in itertools.permutations(range(5))
        ]
        assert p == pytest.approx((np.array(every) >= observed - 1e-12).mean(axis=0))
        assert least == 1 / math.factorial(5)


def test_drawn_orders_agree_with_kendalls_exact_p_and_repeat_by_seed() -> None:
    x, y = drawn(20, 2, tied=False, seed=3)
    p, least = permutation_p(Models(x, y), "sign_sign", 4000, seed=0)
    exact = np.array([stats.kendalltau(column, y, method="exact").pvalue for column in x.T])
    assert np.abs(p - exact).max() < 4 * math.sqrt(0.25 / 4000)
    assert least == 1 / 4001
    assert (permutation_p(Models(x, y), "sign_sign", 4000, seed=0)[0] == p).all()
    assert (permutation_p(Models(x, y), "sign_sign", 4000, seed=1)[0] != p).any()


def test_the_jackknife_of_the_product_is_the_t_interval_of_a_mean() -> None:
    x, y = drawn(12, 3, tied=False)
    low, high = jackknife_interval(Models(x, y), "product", 0.9)
    for d in range(3):
        wanted = stats.ttest_1samp(x[:, d] * y, 0).confidence_interval(0.9)
        assert (low[d], high[d]) == pytest.approx((wanted.low, wanted.high))


def test_intervals_of_ranks_stay_within_what_they_can_be() -> None:
    x = np.sort(drawn(10, 2, tied=False)[0], axis=0)
    x[-2:, 1] = x[-2:, 1][::-1]
    low, high = jackknife_interval(Models(x, np.linspace(0, 1, 10)), "spearman", 0.95)
    assert np.isnan([low[0], high[0]]).all()  # all in order, whoever is left out: no spread is seen
    assert low[1] < correlations(Models(x, np.linspace(0, 1, 10)), "spearman")[1] <= high[1] <= 1


def matrix_of(x: Floats, y: Floats) -> Matrix:
    return Matrix(tuple(f"m{i}" for i in range(len(y))), tuple(f"d{i}" for i in range(x.shape[1])), x, y)


def options(d: int, **more: Any) -> CorrelationOptions:
    return CorrelationOptions(np.full(d, 0.5), permutations=99, resamples=100, **more)


def test_missing_cells_leave_a_model_out_of_that_domain_alone() -> None:
    x, y = drawn(12, 4, tied=False)
    x[[1, 5], 2] = np.nan
    x[:10, 3] = np.nan
    found = correlate(matrix_of(x, y), "sign_cdf", options(4))
    assert found.n_models.tolist() == [12, 12, 10, 2]
    whole = correlate(matrix_of(x[:, :2], y), "sign_cdf", options(2))
    assert found.estimate[:2] == pytest.approx(whole.estimate)
    kept = [i for i in range(12) if i not in (1, 5)]
    assert found.estimate[2] == pytest.approx(correlations(Models(x[kept, 2:3], y[kept]), "sign_cdf")[0])
    shares = found.shares["linear"]
    for numbers in (found.estimate, found.p_value, found.p_adjusted, shares.value, shares.low):
        assert np.isnan(numbers[3])
    assert np.nansum(shares.value) == pytest.approx(1)
    assert (shares.low[:3] <= shares.high[:3]).all()


def test_few_models_have_no_interval_and_caps_of_what_is_left_must_suffice() -> None:
    x, y = drawn(7, 3, tied=False)
    found = correlate(matrix_of(x, y), "sign_cdf", options(3))
    assert np.isnan([found.low, found.high, found.shares["linear"].low]).all()
    assert np.isfinite([found.estimate, found.p_value, found.shares["linear"].value]).all()
    x[:5, 1:] = np.nan
    with pytest.raises(ValueError, match=r"caps sum to 0\.5"):
        correlate(matrix_of(x, y), "sign_cdf", options(3))
    x[:5] = np.nan
    with pytest.raises(ValueError, match="no domain has numbers of 3 models"):
        correlate(matrix_of(x, y), "sign_cdf", options(3))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_domain_on_which_models_do_not_differ_has_no_estimate_and_no_share(estimator: Estimator) -> None:
    x, y = drawn(12, 3, tied=False)
    x[:, 1] = 0.1
    x[:, 0] = 2 - y  # all but the worst that there can be: below the 0 of a domain that says nothing
    x[[2, 5], 0] = x[[5, 2], 0]
    found = correlate(matrix_of(x, y), estimator, options(3))
    for numbers in (found.estimate, found.low, found.p_value, found.p_adjusted, found.shares["linear"].value):
        assert np.isnan(numbers).tolist() == [False, True, False]
    x[:, ::2] = 0.1
    with pytest.raises(ValueError, match="that differ"):
        correlate(matrix_of(x, y), estimator, options(3))


def test_models_must_have_all_their_numbers() -> None:
    with pytest.raises(ValueError, match="finite"):
        Models(np.array([[np.nan]]), np.array([0.5]))
    with pytest.raises(ValueError, match=r"expected \[N, D\]"):
        Models(np.ones((2, 2)), np.ones(3))
