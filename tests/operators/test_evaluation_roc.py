"""Points of the ROC curve against scikit-learn and brute force, and how often their intervals cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import Floats, random_case
from scipy.stats import beta, norm
from sklearn.metrics import roc_curve

from operators.evaluation import (
    FPR_LEVELS,
    auroc,
    auroc_interval,
    fpr_at_tpr,
    fpr_at_tpr_interval,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)


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
    assert tpr_at_fpr(scores, labels, level) in tpr_at_fpr_interval(scores, labels, level)
    if level > 0:
        assert fpr_at_tpr(scores, labels, level) in fpr_at_tpr_interval(scores, labels, level)


def test_a_tie_is_one_threshold() -> None:
    scores, labels = [2, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 1]
    assert tpr_at_fpr(scores, labels, 0.24) == 1 / 4  # the next threshold takes a negative along: 3 / 4 at 1 / 4
    assert tpr_at_fpr(scores, labels, 0.25) == 3 / 4


def test_interval_is_clopper_pearson_where_the_threshold_is_known() -> None:
    """All negatives at one value, far below or above: only the share of positives is unknown."""
    labels = np.repeat([1, 0], [20, 400])
    interval = tpr_at_fpr_interval(np.r_[np.arange(5.0) + 9, np.zeros(15) - 9, np.zeros(400)], labels, 0.05)
    assert interval.low == pytest.approx(float(beta.ppf(0.025, 5, 16)), abs=1e-6)
    assert interval.high == pytest.approx(float(beta.ppf(0.975, 6, 15)), abs=1e-6)


def test_interval_does_not_collapse() -> None:
    """No positive above a negative, or all of them: the ends are those of 0 of 20, and of 20 of 20."""
    labels = np.repeat([1, 0], [20, 5000])
    far = np.linspace(0, 1, 5000)
    none = tpr_at_fpr_interval(np.r_[np.full(20, -1.0), far], labels, 0.01)
    assert (none.low, none.high) == (0.0, pytest.approx(float(beta.ppf(0.975, 1, 20))))
    every = tpr_at_fpr_interval(np.r_[np.full(20, 2.0), far], labels, 0.01)
    assert (every.low, every.high) == (pytest.approx(float(beta.ppf(0.025, 20, 1))), 1.0)


def test_few_negatives_promise_nothing() -> None:
    """10 negatives say nothing of a threshold with an FPR of 0.1 %: it may lie above everything."""
    interval = tpr_at_fpr_interval(np.r_[np.full(50, 2.0), np.arange(10.0) / 10], np.repeat([1, 0], [50, 10]), 0.001)
    assert interval.low == 0.0
    assert interval.high == 1.0


def test_fpr_interval_is_the_mirror_of_the_tpr_interval() -> None:
    scores, labels = random_case(21)
    mirrored = tpr_at_fpr_interval(-scores, 1 - labels, 0.05)
    found = fpr_at_tpr_interval(scores, labels, 0.95)
    assert (found.low, found.high) == (pytest.approx(1 - mirrored.high), pytest.approx(1 - mirrored.low))


SETTINGS = [
    # positives, negatives, level, mean and deviation of the positives' scores (the negatives': 0 and 1)
    (100, 100, 0.01, 1.0, 1.0),
    (300, 300, 0.01, 2.0, 1.0),
    (300, 300, 0.05, 2.0, 1.0),
    (500, 60, 0.05, 0.0, 1.0),
    (60, 1000, 0.001, 2.0, 1.0),
    (60, 1000, 0.01, 2.3, 0.2),  # nearly all positives just below or above the threshold
    (30, 30, 0.05, 6.0, 1.0),
]


@pytest.mark.parametrize(("positives", "negatives", "level", "mean", "deviation"), SETTINGS)
def test_tpr_interval_covers(positives: int, negatives: int, level: float, mean: float, deviation: float) -> None:
    """At least as often as it says, three standard errors of the simulation allowed; each end by itself, too."""
    rng = np.random.default_rng(19)
    truth = float(norm.sf((norm.isf(level) - mean) / deviation))
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    found = [
        tpr_at_fpr_interval(np.r_[rng.normal(mean, deviation, positives), rng.normal(size=negatives)], labels, level)
        for _ in range(400)
    ]
    assert np.mean([truth in interval for interval in found]) >= 0.95 - 3 * 0.011
    assert np.mean([interval.low > truth for interval in found]) <= 0.025 + 3 * 0.008
    assert np.mean([interval.high < truth for interval in found]) <= 0.025 + 3 * 0.008


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_tpr_interval_covers_tied_scores(level: float) -> None:
    """Scores 0 to 9, the population known by its shares: the TPR at the lowest threshold that the level allows."""
    rng = np.random.default_rng(20)
    share_negative, share_positive = (np.exp(slope * np.arange(10)) for slope in (-0.4, -0.1))
    share_negative, share_positive = share_negative / share_negative.sum(), share_positive / share_positive.sum()
    fpr = share_negative[::-1].cumsum()[::-1]
    tpr = share_positive[::-1].cumsum()[::-1]
    truth = float(max(tpr[fpr <= level], default=0.0))
    labels = np.repeat([1.0, 0.0], 200)
    found = [
        tpr_at_fpr_interval(
            np.r_[rng.choice(10, 200, p=share_positive), rng.choice(10, 200, p=share_negative)], labels, level
        )
        for _ in range(300)
    ]
    assert np.mean([truth in interval for interval in found]) >= 0.95 - 3 * 0.0126


def test_fpr_interval_covers() -> None:
    rng = np.random.default_rng(22)
    labels = np.repeat([1.0, 0.0], 200)
    truth = float(norm.sf(1.5 + norm.ppf(0.05)))
    found = [fpr_at_tpr_interval(rng.normal(1.5 * labels, 1), labels, 0.95) for _ in range(400)]
    assert np.mean([truth in interval for interval in found]) >= 0.95 - 3 * 0.011


def test_clustered_interval_covers() -> None:
    """40 + 40 sources of 6 alike documents: an interval that takes them for independent misses too often."""
    rng = np.random.default_rng(23)
    labels, sources = np.repeat([1.0, 0.0], 240), np.repeat(np.arange(80.0), 6)
    truth = float(norm.sf(norm.isf(0.1) - 1))
    covered, plain = [], []
    for _ in range(300):
        shared = rng.normal(0, np.sqrt(0.7), 80)[sources.astype(int)]
        scores = labels + shared + rng.normal(0, np.sqrt(0.3), 480)
        covered.append(truth in tpr_at_fpr_interval(scores, labels, 0.1, clusters=sources))
        plain.append(truth in tpr_at_fpr_interval(scores, labels, 0.1))
    assert np.mean(covered) >= 0.95 - 3 * 0.0126
    assert np.mean(plain) < 0.9
