"""Loss gaps of contamination: p-values by counting every draw and against SciPy, and the level they keep."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from operators.contamination.evidence import INCONCLUSIVE
from operators.contamination.loss_gap import DRAWS, Gaps, drawn_p_value, loss_gap_evidence
from operators.contamination.verdict import judge


def gaps(values: list[float]) -> Gaps:
    return Gaps(np.arange(len(values)), np.array(values, dtype=float))


def test_a_gap_alone_has_no_p_value() -> None:
    found = loss_gap_evidence("b", "perturb", gaps([0.1, 0.3, 0.2]))
    assert (found.estimate, found.p_value) == (pytest.approx(0.2), None)
    assert found.interval is not None
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.2 - half, 0.2 + half))


def within(p_value: float | None, truth: float, draws: int = DRAWS) -> bool:
    """Whether a p-value of so many draws is the true one, to four standard errors."""
    return p_value is not None and abs(p_value - truth) < 4 * math.sqrt(truth * (1 - truth) / draws) + 1 / draws


def test_gaps_are_compared_with_those_of_a_clean_set() -> None:
    """No other four of the seven values are as large: one of 35."""
    first, second = [0.5, 0.9, 0.4, 0.8], [0.1, 0.3, 0.2]
    found = loss_gap_evidence("b", "perturb", gaps(first), gaps(second))
    assert within(found.p_value, 1 / 35)
    assert found.resolution == 1 / 10_000
    assert found.estimate == pytest.approx(0.65 - 0.2)
    assert found.interval is not None
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("first", "second", "doubt"),
    [([0.1], [0.1, 0.2], "1 items have a gap"), ([0.2] * 3, [0.1] * 7, "the gaps do not vary")],
)
def test_gaps_that_cannot_be_compared(first: list[float], second: list[float], doubt: str) -> None:
    found = loss_gap_evidence("b", "perturb", gaps(first), gaps(second))
    assert found.p_value is None
    assert doubt in found.doubt
    assert judge({"b": [found]})[0].evidence[0].verdict == INCONCLUSIVE


@pytest.mark.parametrize(("size", "base_size"), [(3, 7), (7, 3), (8, 8)])
def test_a_drawn_p_value_is_that_of_every_draw(size: int, base_size: int) -> None:
    values = np.random.default_rng(3).integers(0, 4, size + base_size).astype(float)  # many ties
    first, second = values[:size], values[size:]
    sums = [sum(some) for some in itertools.combinations(values.tolist(), size)]
    truth = sum(total >= first.sum() for total in sums) / len(sums)
    assert within(drawn_p_value(first, second), truth)


def test_few_of_many_gaps_are_drawn_alike() -> None:
    """Of 1,200 values the 5 largest: drawing one after another; the chance of a sum as large is next to none."""
    values = np.arange(1200.0)
    assert drawn_p_value(values[-5:], values[:-5], draws=999) == 1 / 1000
    assert drawn_p_value(values[:-5], values[-5:], draws=999) == 1
    assert within(drawn_p_value(values[598:603], np.delete(values, slice(598, 603)), draws=999), 0.5, 999)


def test_gaps_of_a_long_tail_are_told_apart_no_oftener_than_the_level_says() -> None:
    """Sets drawn alike, one small and one large, where Welch's t errs."""
    rng, drawn, welch = np.random.default_rng(5), 0, 0
    for _ in range(300):
        values = -np.exp(0.5 * rng.normal(size=210)) * rng.gamma(2.0, size=210)
        drawn += drawn_p_value(values[:10], values[10:], draws=199) <= 0.05
        welch += stats.ttest_ind(values[:10], values[10:], equal_var=False, alternative="greater").pvalue <= 0.05
    assert stats.binom.sf(drawn - 1, 300, 0.05) > 0.01
    assert stats.binom.sf(welch - 1, 300, 0.05) < 1e-4


def test_large_sets_are_compared_by_welch() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.gamma(2.0, size=1000) + 0.1, rng.gamma(2.0, size=1100)
    found = loss_gap_evidence("b", "x", Gaps(np.arange(1000), first), Gaps(np.arange(1100), second))
    expected = stats.ttest_ind(first, second, equal_var=False, alternative="greater").pvalue
    assert (found.p_value, found.resolution) == (pytest.approx(expected), None)
    assert drawn_p_value(first, second) == pytest.approx(expected, abs=0.01)


def test_items_without_a_gap_are_counted() -> None:
    some = Gaps(np.arange(3), np.array([0.1, 0.2, 0.4])).among(np.array([0, 1, 7, 8]))
    found = loss_gap_evidence("b", "x", some)
    assert (found.n, some.n_without) == (2, 2)
    assert "over 2 items (2 without a copy or a finite gap)" in found.detail


def test_one_set_that_does_not_vary_is_compared_all_the_same() -> None:
    found = loss_gap_evidence("b", "x", gaps([0.25] * 3), gaps([0.1, 0.15, 0.12]))
    assert within(found.p_value, 1 / 20)
