"""Adjusted p-values and conformal selection: against SciPy, written-out definitions, and simulated error rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest

from operators.evaluation import benjamini_hochberg, bh_adjusted, conformal_p_values, holm_adjusted

# Many p-values


@pytest.mark.parametrize("seed", range(10))
def test_bh_equals_scipy(seed: int) -> None:
    p = np.round(np.random.default_rng(seed).random(30) ** 3, 3)
    assert bh_adjusted(p) == pytest.approx(false_discovery_control(p))
    assert np.array_equal(benjamini_hochberg(p, 0.1), false_discovery_control(p) <= 0.1)


def test_holm_by_hand() -> None:
    """The smallest by 4, the next by 3, 2, 1; never below one before it, never above 1."""
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.6, 0.7]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("adjust", [holm_adjusted, bh_adjusted])
def test_missing_p_values_are_no_tests(adjust: Any) -> None:
    with_missing = adjust([0.01, math.nan, 0.2])
    assert with_missing[[0, 2]] == pytest.approx(adjust([0.01, 0.2]))
    assert math.isnan(with_missing[1])
    assert adjust([]).size == 0
    assert not benjamini_hochberg([math.nan, 0.9], 0.1).any()
    assert benjamini_hochberg([], 0.1).size == 0


def test_selection_keeps_p_values_that_are_just_on_the_line() -> None:
    """Multiples of 1 / (n + 1): 3 / 30 <= 0.1 * 1, whatever floating point makes of it."""
    assert benjamini_hochberg(np.full(3, 3 / 30), 0.1).all()
    assert benjamini_hochberg([0.1 + 0.2], 0.3).all()
    assert not benjamini_hochberg([0.3001], 0.3).any()


@pytest.mark.parametrize("p_values", [[-0.1], [1.1], [[0.1]]])
def test_no_p_value_is_refused(p_values: Any) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm_adjusted(p_values)


@pytest.mark.parametrize("fdr", [0.0, 1.0, -1.0, math.nan])
def test_no_share_is_refused(fdr: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        benjamini_hochberg([0.5], fdr)


# Conformal p-values


def test_conformal_by_the_definition() -> None:
    rng = np.random.default_rng(1)
    calibration, test = np.round(rng.normal(size=40), 1), np.round(rng.normal(size=30), 1)
    calibration[:3] = [np.inf, -np.inf, np.nan]
    test[:3] = [np.inf, -np.inf, np.nan]
    known = calibration[~np.isnan(calibration)]
    expected = [math.nan if math.isnan(s) else (1 + sum(c >= s for c in known)) / 40 for s in test]
    assert conformal_p_values(calibration, test) == pytest.approx(expected, nan_ok=True)
    assert conformal_p_values([1.0, None], [2.0, None, 0.0]) == pytest.approx([0.5, math.nan, 1.0], nan_ok=True)


def test_smoothed_is_never_larger_and_never_zero() -> None:
    calibration, test = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0, 2.0], 200)
    plain, smoothed = conformal_p_values(calibration, test), conformal_p_values(calibration, test, seed=3)
    assert (smoothed <= plain).all()
    assert (smoothed > 0).all()
    assert np.array_equal(smoothed, conformal_p_values(calibration, test, seed=3))
    assert np.unique(smoothed).size > 500


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(ValueError, match="no held-out document has a defined score"):
        conformal_p_values([math.nan, None], [1.0])


@pytest.mark.parametrize("tied", [False, True])
def test_p_values_of_exchangeable_documents(tied: bool) -> None:
    """One test document a sample: smoothed p-values are uniform, plain ones at most as often small as they say."""
    rng = np.random.default_rng(2)
    plain, smoothed = [], []
    for i in range(2000):
        scores = rng.normal(size=20)
        scores = np.round(scores) if tied else scores
        plain.append(conformal_p_values(scores[1:], scores[:1])[0])
        smoothed.append(conformal_p_values(scores[1:], scores[:1], seed=i)[0])
    assert kstest(smoothed, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(plain) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 2000)


@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_selection_keeps_its_false_discovery_rate(fdr: float) -> None:
    """80 non-members and 20 members against 200 held-out documents; p-values share the held-out ones."""
    rng = np.random.default_rng(4)
    shares, found = [], []
    for _ in range(400):
        test = np.r_[rng.normal(size=80), rng.normal(4, 1, 20)]
        selected = benjamini_hochberg(conformal_p_values(rng.normal(size=200), test), fdr)
        shares.append(selected[:80].sum() / max(1, selected.sum()))
        found.append(selected[80:].sum())
    assert np.mean(shares) <= fdr + 2 * np.std(shares) / 20
    assert np.mean(found) > 10
