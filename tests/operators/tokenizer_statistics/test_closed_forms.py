"""Formulas against numbers known beforehand: uniform ids, published values, quantiles of Student's t."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from operators.tokenizer_statistics import formulas
from operators.tokenizer_statistics.jackknife import Spread, interval, jackknife, spread, student_t, together, wilson
from operators.tokenizer_statistics.keyed import KeyedCounts
from operators.tokenizer_statistics.registry import STATISTICS
from operators.tokenizer_statistics.views import Grouped, is_seen, n_log_n


def grouped(counts: list[int], groups: int = 1) -> Grouped:
    """All of these counts in group 0."""
    index = np.arange(len(counts))
    return Grouped.of(np.zeros(len(counts), np.int64), index, np.array(counts), groups)


# tests of zouharvi/tokenization-scorer: "pick @@ed pick @@l @@ed pick @@les" and a text of counts 3, 3, 2, 2, 1
@pytest.mark.parametrize(
    ("counts", "renyi", "shannon", "shannon_bits", "middle"),
    [
        ([3, 2, 1, 1], 0.8265064834225245, 0.9211854965885544, 1.8423709931771088, 0.857142857142857),
        ([3, 3, 2, 2, 1], 0.9204840242168808, 0.9609557933859342, 2.2312702546075758, 0.9090909090909092),
    ],
)
def test_published_values(counts: list[int], renyi: float, shannon: float, shannon_bits: float, middle: float) -> None:
    ids = grouped(counts)
    types = math.log2(len(counts))
    assert formulas.renyi_entropy(ids, 2.5)[0] / types == pytest.approx(renyi, abs=1e-12)
    assert formulas.entropy(ids)[0] / types == pytest.approx(shannon, abs=1e-12)
    assert formulas.entropy(ids)[0] == pytest.approx(shannon_bits, abs=1e-12)
    assert formulas._middle(np.array(sorted(counts, reverse=True), float)) == pytest.approx(middle, abs=1e-12)


@pytest.mark.parametrize("size", [2, 64, 1000])
@pytest.mark.parametrize("each", [1, 7])
def test_uniform_ids_are_fully_efficient(size: int, each: int) -> None:
    ids = grouped([each] * size)
    for order in (2.5, 3.0):
        assert formulas.renyi_entropy(ids, order)[0] == pytest.approx(math.log2(size), rel=1e-12)
    assert formulas.entropy(ids)[0] == pytest.approx(math.log2(size), rel=1e-12)
    assert formulas.miller_madow(ids)[0] == pytest.approx((size - 1) / (2 * size * each * math.log(2)))


@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=8, max_size=8))
def test_sums_without_a_group_are_those_of_the_others(table: list[list[int]]) -> None:
    counts = np.array(table)
    group, index = np.nonzero(np.ones_like(counts))
    found = Grouped.of(group, index, counts[group, index], 8)
    for phi in (n_log_n, is_seen, np.square):
        expected = [phi(counts.sum(axis=0).astype(float)).sum()]
        expected += [phi(np.delete(counts, g, axis=0).sum(axis=0).astype(float)).sum() for g in range(8)]
        assert found.summed(phi) == pytest.approx(np.array(expected), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 31, 100, 255])
def test_quantiles_of_t(confidence: float, df: int) -> None:
    assert student_t(confidence, df) == pytest.approx(stats.t.ppf((1 + confidence) / 2, df), rel=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (7, 7), (3, 20), (400, 1000)])
def test_intervals_of_shares(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0, 0.95) is None


@pytest.mark.parametrize("trials", [7, 53, 400_352])
def test_shares_of_none_and_of_all_end_there(trials: int) -> None:
    assert (wilson(0, trials, 0.95) or (9, 9))[0] == 0
    assert (wilson(trials, trials, 0.95) or (9, 9))[1] == 1


def test_the_jackknife_of_a_mean_is_its_textbook_variance() -> None:
    sample = np.sqrt(np.arange(20) + 0.5)
    means = np.array([sample.mean(), *((sample.sum() - each) / 19 for each in sample)])
    occupied = np.ones(20, np.bool_)
    found = spread(means, occupied)
    assert found is not None
    assert (found.variance, found.df) == (pytest.approx(sample.var(ddof=1) / 20), 19)
    low, high = interval(float(means[0]), found, 0.95) or (0, 0)
    expected = stats.t.interval(0.95, 19, sample.mean(), sample.std(ddof=1) / math.sqrt(20))
    assert (low, high) == pytest.approx(expected)
    assert jackknife(means, occupied, 0.95) == (low, high)


def test_too_few_groups_or_an_undefined_value_give_no_interval() -> None:
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 0.8])
    assert spread(values, np.array([True] * 5)) is not None
    assert spread(values, np.array([True] * 4 + [False])) is None
    assert spread(np.array([1.0, np.nan, 0.9, 1.0, 1.2, 0.8]), np.array([True] * 5)) is None
    assert interval(1.0, None, 0.95) is None


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0, 1e-9])
def test_groups_that_agree_say_nothing_of_how_sure_a_value_is(value: float) -> None:
    values = np.full(9, value)
    values[3:5] *= 1 + 1e-15  # as sums give
    assert spread(values, np.ones(8, np.bool_)) is None
    assert jackknife(values, np.ones(8, np.bool_), 0.95, 0.0, 1.0) is None


def test_few_groups_that_hold_the_variance_leave_few_degrees_of_freedom() -> None:
    one = np.zeros(33)
    one[7] = 1.0
    found = spread(one, np.ones(32, np.bool_))
    assert found is not None
    assert found.df == 2
    both = together(found, Spread(found.variance, 30))
    assert both.variance == 2 * found.variance
    assert both.df == 7  # 4 / (1 / 2 + 1 / 30)


def test_intervals_end_within_the_range() -> None:
    values = np.array([0.96, 0.99, 0.9, 0.97, 0.98, 0.95, 0.97])
    occupied = np.ones(6, np.bool_)
    low, high = jackknife(values, occupied, 0.95, 0.0, 1.0) or (0, 0)
    assert 0 < low < 0.96 < high < 1
    mirrored = jackknife(1 - values, occupied, 0.95, 0.0, 1.0)
    assert mirrored == pytest.approx((1 - high, 1 - low))
    above = jackknife(1 + values / 100, occupied, 0.95, 1.0) or (0, 0)
    assert 1 < above[0] < 1.0096 < above[1]
    values[3] = 1.0  # no logit: as they are
    assert jackknife(values, occupied, 0.95, 0.0, 1.0) == jackknife(values, occupied, 0.95)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=40), st.integers(0, 40))
def test_counts_by_key_are_those_of_a_dictionary(added: list[tuple[int, int]], cut: int) -> None:
    counts, expected = KeyedCounts(), dict[int, int]()
    for key, n in added:
        expected[key] = expected.get(key, 0) + n
    for part in (added[:cut], added[cut:]):
        counts.add(np.repeat([k for k, _ in part], [n for _, n in part]).astype(np.int64))
        other = KeyedCounts()
        other.add_counts(*counts.counts())
        counts = other
    keys, n = counts.counts()
    assert dict(zip(keys.tolist(), n.tolist(), strict=True)) == expected
    assert keys.tolist() == sorted(expected)


def test_a_definition_says_why_it_has_no_interval() -> None:
    for each in STATISTICS.values():
        assert each.interval != bool(each.why_no_interval), each.name
        assert each.unit, each.name
        assert each.formula, each.name
        assert each.unit not in ("share",) or each.maximum == 1, each.name
