"""Permutation p-values against every split that there is, and the jackknife against the interval of a mean."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from operators.comparison import resampling
from operators.comparison.resampling import Mask, Tail, jackknife, null, only, permuted, split


def difference(values_N: Any) -> resampling.Statistic:
    """Mean of a less mean of b."""

    def statistic(a_NB: Mask, b_NB: Mask) -> Any:
        return (values_N @ a_NB / a_NB.sum(axis=0) - values_N @ b_NB / b_NB.sum(axis=0))[None]

    return statistic


def test_p_values_are_those_of_all_splits() -> None:
    values = np.random.default_rng(0).normal(size=9)
    test = difference(values)
    observed = float(test(*split(4, 5))[0, 0])
    every = []
    for chosen in combinations(range(9), 4):
        a = np.isin(np.arange(9), chosen)
        every.append(values[a].mean() - values[~a].mean())
    (drawn,) = permuted(test, 4, 5, permutations=20_000, rng=np.random.default_rng(1))
    assert set(np.round(drawn, 9)) == set(np.round(every, 9))
    for tail, exact in (
        (Tail.high, np.mean(np.array(every) >= observed - 1e-12)),
        (Tail.low, np.mean(np.array(every) <= observed + 1e-12)),
    ):
        assert null(observed, drawn, tail).p_value == pytest.approx(exact, abs=0.01)
    both = 2 * min(null(observed, drawn, Tail.high).p_value, null(observed, drawn, Tail.low).p_value)
    assert null(observed, drawn, Tail.both).p_value == min(1.0, both)
    assert null(observed, drawn, Tail.high).mean == pytest.approx(np.mean(every), abs=0.02)


def test_a_p_value_is_never_0_and_ties_count() -> None:
    drawn = np.array([1.0, 2.0, 3.0])
    assert null(9.0, drawn, Tail.high).p_value == 1 / 4
    assert null(3.0, drawn, Tail.high).p_value == 2 / 4
    assert null(3.0 + 1e-12, drawn, Tail.high).p_value == 2 / 4
    assert null(0.0, drawn, Tail.high).p_value == 1.0
    assert null(0.0, drawn, Tail.both).p_value == 2 / 4
    assert null(2.0, drawn, Tail.both).p_value == 1.0


def test_what_is_not_defined_is_no_difference_and_no_evidence() -> None:
    found = null(np.nan, np.array([1.0]), Tail.high)
    assert np.isnan([found.p_value, found.mean]).all()
    assert null(5.0, np.array([np.nan, 1.0, 2.0]), Tail.high).p_value == 2 / 4


@pytest.mark.parametrize(("n_a", "n_b"), [(12, 30), (4, 4), (50, 50)])
def test_the_jackknife_of_a_difference_of_means_is_welch(n_a: int, n_b: int) -> None:
    """Where no group has two documents, its variance is that of the mean, exactly."""
    values = np.random.default_rng(n_a).exponential(size=n_a + n_b)
    test = difference(values)
    observed = test(*split(n_a, n_b))[:, 0]
    (ends,) = jackknife(test, n_a, n_b, observed, confidence=0.9, rng=np.random.default_rng(0))
    welch = stats.ttest_ind(values[:n_a], values[n_a:], equal_var=False).confidence_interval(0.9)
    assert [ends.low, ends.high] == pytest.approx([welch.low, welch.high], rel=1e-9)


def test_groups_of_several_documents_and_of_unequal_size() -> None:
    """Over many groupings the mean variance is that of single documents."""
    values = np.random.default_rng(5).exponential(size=240)
    test = difference(values)
    observed = test(*split(130, 110))[:, 0]
    welch = stats.ttest_ind(values[:130], values[130:], equal_var=False).confidence_interval(0.95)
    halves = []
    for seed in range(60):
        (ends,) = jackknife(test, 130, 110, observed, confidence=0.95, rng=np.random.default_rng(seed))
        assert (ends.low + ends.high) / 2 == pytest.approx(observed[0], abs=1e-12)
        halves.append((ends.high - ends.low) / 2)
    assert np.mean(halves) == pytest.approx((welch.high - welch.low) / 2, rel=0.04)


def test_few_documents_have_no_interval() -> None:
    test = difference(np.arange(8.0))
    (ends,) = jackknife(test, 3, 5, test(*split(3, 5))[:, 0], confidence=0.95, rng=np.random.default_rng(0))
    assert np.isnan([ends.low, ends.high]).all()


def test_a_statistic_that_never_moves_has_an_interval_of_no_width() -> None:
    test = difference(np.ones(20))
    (ends,) = jackknife(test, 10, 10, test(*split(10, 10))[:, 0], confidence=0.95, rng=np.random.default_rng(0))
    assert (ends.low, ends.high) == (0, 0)


def test_a_statistic_of_some_documents_sees_those_alone() -> None:
    values = np.arange(6.0)
    some = only(difference(values[[0, 4]]), np.array([0, 4]))
    assert some(*split(3, 3))[0, 0] == -4
