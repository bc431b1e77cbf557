"""Evaluation against scikit-learn, brute force and theory, and the coverage of its intervals on simulated nulls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import roc_auc_score, roc_curve

from operators.evaluate import (
    FPR_LEVELS,
    Interval,
    auroc,
    auroc_interval,
    delong_error,
    evaluate,
    fpr_at_tpr,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]


def random_case(seed: int) -> tuple[Floats, Floats]:
    """Scores and labels of 4 to 200 documents with both classes, rounded so that many tie."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 200))
    labels = rng.integers(0, 2, size)
    labels[:4] = [0, 1, 0, 1]
    return np.round(rng.normal(labels * rng.uniform(-1, 2), 1), int(rng.integers(0, 3))), labels.astype(np.float64)


# AUROC


@pytest.mark.parametrize("seed", range(20))
def test_auroc_equals_sklearn(seed: int) -> None:
    scores, labels = random_case(seed)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def delong_by_pairs(scores: Floats, labels: Floats) -> float:
    """DeLong's standard error from the n1 x n0 matrix of comparisons, in the notation of the paper."""
    x, y = scores[labels == 1], scores[labels == 0]
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    v10, v01, theta = psi.mean(axis=1), psi.mean(axis=0), psi.mean()
    s10 = ((v10 - theta) ** 2).sum() / (len(x) - 1)
    s01 = ((v01 - theta) ** 2).sum() / (len(y) - 1)
    return math.sqrt(s10 / len(x) + s01 / len(y))


@pytest.mark.parametrize("seed", range(20))
def test_delong_equals_pairs(seed: int) -> None:
    scores, labels = random_case(seed)
    assert delong_error(scores, labels) == pytest.approx(delong_by_pairs(scores, labels), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_bootstrap_agrees_with_delong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], 300)
    scores = np.round(rng.normal(labels, 1), 1)
    drawn = auroc_interval(scores, labels, method="bootstrap")
    normal = auroc_interval(scores, labels)
    assert (drawn.low, drawn.high) == pytest.approx((normal.low, normal.high), abs=0.006)


def test_infinities_are_orders_and_undefined_is_left_out() -> None:
    scores = [math.inf, 1.0, None, math.nan, -math.inf, 0.0]
    labels = [1, 0, 1, 0, 0, 1]
    assert auroc(scores, labels) == 3 / 4
    assert tpr_at_fpr(scores, labels, 0.0) == 1 / 2


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_separated_classes_have_an_exact_bound(method: Any) -> None:
    """10 disjoint pairs, all in order: A^10 = 0.025 at the end, as in Clopper and Pearson's interval for 10 of 10."""
    scores, labels = np.arange(30.0), np.repeat([0, 1], [10, 20])
    bound = float(beta.ppf(0.025, 10, 1))
    interval = auroc_interval(scores, labels, method=method)
    assert (interval.low, interval.high) == (pytest.approx(bound), 1.0)
    interval = auroc_interval(-scores, labels, method=method)
    assert (interval.low, interval.high) == (0.0, pytest.approx(1 - bound))


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_data_without_spread_claims_little(method: Any) -> None:
    assert auroc_interval([1.0, 1.0], [0, 1], method=method) == Interval(0.0, 1.0)
    constant = auroc_interval(np.zeros(200), np.repeat([0, 1], 100), method=method)
    assert constant.low == pytest.approx(0.5 - math.sqrt(math.log(40) / 200))
    assert 0.5 in constant


# TPR at FPR, FPR at TPR


def roc_points(scores: Floats, labels: Floats) -> list[tuple[float, float]]:
    """(FPR, TPR) of every threshold, one at a time."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    return [(float((negative >= c).mean()), float((positive >= c).mean())) for c in [*np.unique(scores), math.inf]]


@pytest.mark.parametrize("seed", range(20))
def test_operating_points_equal_brute_force_and_sklearn(seed: int) -> None:
    scores, labels = random_case(seed)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for level in (0.0, *FPR_LEVELS, 0.1, 0.25, 1 / 3, 0.5, 1.0):
        found = tpr_at_fpr(scores, labels, level)
        assert found == max(t for f, t in roc_points(scores, labels) if f <= level)
        assert found == pytest.approx(tpr[fpr <= level].max())
        if level > 0:
            found = fpr_at_tpr(scores, labels, level)
            assert found == min(f for f, t in roc_points(scores, labels) if t >= level)
            assert found == pytest.approx(fpr[tpr >= level].min())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({label for _, label in rows}) == 2
    ),
    st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0]),
)
def test_laws(rows: list[tuple[int, bool]], level: float) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    labels = np.array([label for _, label in rows], dtype=np.float64)
    area = auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - area)
    assert auroc(scores, 1 - labels) == pytest.approx(1 - area)
    assert auroc(np.exp(scores), labels) == area  # only the order counts
    assert tpr_at_fpr(np.exp(scores), labels, level) == tpr_at_fpr(scores, labels, level)
    assert tpr_at_fpr(scores, labels, 1.0) == 1.0
    assert area in auroc_interval(scores, labels)
    assert tpr_at_fpr(scores, labels, level) in tpr_at_fpr_interval(scores, labels, level, draws=20)


def test_a_tie_is_one_threshold() -> None:
    scores, labels = [2, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 1]
    assert tpr_at_fpr(scores, labels, 0.24) == 1 / 4  # the next threshold takes a negative along: 3 / 4 at 1 / 4
    assert tpr_at_fpr(scores, labels, 0.25) == 3 / 4


def test_tpr_interval_is_at_least_clopper_pearson() -> None:
    """No positive above the best negative: the bootstrap alone would say [0, 0]."""
    scores, labels = np.r_[np.zeros(20), np.ones(20)], np.repeat([1, 0], 20)
    interval = tpr_at_fpr_interval(scores, labels, 0.01)
    assert (interval.low, interval.high) == (0.0, pytest.approx(float(beta.ppf(0.975, 1, 20))))


# Coverage: 95 % intervals of scores that mean nothing contain what they should in 93 to 97 % of the draws.

NULL_LABELS = np.repeat([1.0, 0.0], 50)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_covers_the_null(ties: bool) -> None:
    rng = np.random.default_rng(11)
    draws = rng.normal(size=(1000, 100))
    draws = np.round(draws) if ties else draws
    covered = np.mean([0.5 in auroc_interval(scores, NULL_LABELS) for scores in draws])
    assert 0.93 <= covered <= 0.97


def test_bootstrap_covers_the_null() -> None:
    rng = np.random.default_rng(12)
    intervals = [
        auroc_interval(scores, NULL_LABELS, method="bootstrap", draws=1000, seed=i)
        for i, scores in enumerate(rng.normal(size=(1000, 100)))
    ]
    assert 0.93 <= np.mean([0.5 in interval for interval in intervals]) <= 0.97


def test_delong_covers_a_real_difference() -> None:
    """Normal scores one standard deviation apart: AUROC = Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(13)
    truth = 0.5 * (1 + math.erf(0.5))
    covered = np.mean([truth in auroc_interval(s + NULL_LABELS, NULL_LABELS) for s in rng.normal(size=(1000, 100))])
    assert 0.93 <= covered <= 0.97


def test_tpr_interval_covers_the_null() -> None:
    """At least as often as it says: it is the wider of two intervals."""
    rng = np.random.default_rng(14)
    labels = np.repeat([1.0, 0.0], 300)
    covered = [0.1 in tpr_at_fpr_interval(s, labels, 0.1, draws=300) for s in rng.normal(size=(200, 600))]
    assert np.mean(covered) >= 0.93


# The whole report


def test_evaluate_counts_what_is_undefined_per_class() -> None:
    labels = [1, 1, 1, 0, 0, 0, None]
    scores = {"a": [3, 2, None, 1, 0, math.nan, 9], "b": [None, None, math.nan, 1, 0, 2, 9]}
    first, second = evaluate(scores, labels, draws=50)
    assert (first.name, first.n_positive, first.n_negative) == ("a", 2, 2)
    assert (first.undefined_positive, first.undefined_negative) == (1, 1)
    assert (first.auroc, first.fpr_at_tpr) == (1.0, 0.0)
    assert [point.level for point in first.tpr_at_fpr] == list(FPR_LEVELS)
    assert not any(point.resolvable for point in first.tpr_at_fpr)
    assert (second.n_positive, second.undefined_positive) == (0, 3)
    assert math.isnan(second.auroc)
    assert math.isnan(second.tpr_at_fpr[0].tpr)


def test_evaluate_is_seeded_and_in_pieces() -> None:
    """The seed decides the draws; every number equals that of its own function."""
    scores, labels = random_case(3)
    (once,) = evaluate({"x": scores}, labels, seed=4)
    assert evaluate({"x": scores}, labels, seed=4) == [once]
    assert once.auroc == auroc(scores, labels)
    assert once.auroc_interval == auroc_interval(scores, labels)
    for point in once.tpr_at_fpr:
        assert point.tpr == tpr_at_fpr(scores, labels, point.level)
        assert point.interval == tpr_at_fpr_interval(scores, labels, point.level, seed=4)


def test_many_documents_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = random_case(5)
    monkeypatch.setattr("operators.evaluate._CELLS", 7 * len(scores))
    interval = auroc_interval(scores, labels, method="bootstrap", draws=400)
    assert auroc(scores, labels) in interval
    assert 0 < interval.low < interval.high < 1


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1], "one length"),
        ([1.0, 2.0], [1, 2], "0, 1 or missing"),
        ([1.0, 2.0], [1, 1], "need both"),
        ([1.0, math.nan], [1, 0], "need both"),
        ([], [], "need both"),
    ],
)
def test_bad_input_is_named(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(scores, labels)
