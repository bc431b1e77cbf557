"""Quantiles and their exact intervals, means under skew, the largest gap with ties, pieces of text."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy import stats

from operators.comparison.pieces import PIECE_BYTES, Pieces
from operators.comparison.profiles import MANY, MEAN, largest_gap, mean_interval, profile, quantile_interval
from operators.comparison.resampling import split


def test_a_profile_worked_out_by_hand() -> None:
    points = profile(
        np.array([3.0, np.nan, 1.0, 2.0, 4.0]), confidence=0.5, draws=200, rng=np.random.default_rng(0)
    )  # fmt: skip
    assert [(p.quantile, p.value, p.n) for p in points] == [
        (MEAN, 2.5, 4), (0.0, 1.0, 4), (0.05, 1.0, 4), (0.25, 1.0, 4), (0.5, 2.0, 4), (0.75, 3.0, 4), (0.95, 4.0, 4),
        (1.0, 4.0, 4),
    ]  # fmt: skip
    assert profile(np.array([np.nan]), confidence=0.5, draws=9, rng=np.random.default_rng(0)) == []


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("n", [10, 59, 500])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_of_quantiles_cover_by_the_binomial_and_are_no_wider_than_needed(
    n: int, share: float, confidence: float
) -> None:
    """Over the values 1 to n, an interval names its order statistics: its chance to cover is a sum of binomials."""
    ends = quantile_interval(np.arange(1.0, n + 1), share, confidence)
    count = stats.binom(n, share)
    beyond = (1 - confidence) / 2
    if np.isnan(ends.low):
        assert count.pmf(0) > beyond or count.pmf(n) > beyond
        return
    low, high = int(ends.low), int(ends.high)
    assert count.cdf(low - 1) <= beyond < count.cdf(low)
    assert count.sf(high - 1) <= beyond < count.sf(high - 2)
    assert count.cdf(high - 1) - count.cdf(low - 1) >= confidence


def test_the_ends_of_a_sample_have_no_interval() -> None:
    for share in (0.0, 1.0):
        ends = quantile_interval(np.arange(50.0), share, 0.95)
        assert np.isnan([ends.low, ends.high]).all()


def test_means_of_skewed_values_are_covered_where_plain_t_misses() -> None:
    rng = np.random.default_rng(3)
    truth, covered, plain = np.exp(0.5), [], []
    for _ in range(2000):
        values = rng.lognormal(0, 1, 50)
        ends = mean_interval(values, 0.95, 300, rng)
        covered.append(ends.low <= truth <= ends.high)
        half = stats.t.ppf(0.975, 49) * values.std(ddof=1) / np.sqrt(50)
        plain.append(abs(values.mean() - truth) <= half)
    assert np.mean(covered) > 0.93
    assert np.mean(covered) > np.mean(plain)


def test_few_equal_and_many_values() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(mean_interval(np.array([1.0, 2.0, 3.0]), 0.95, 99, rng).low)
    same = mean_interval(np.full(9, 2.0), 0.95, 99, rng)
    assert (same.low, same.high) == (2, 2)
    values = rng.normal(size=MANY)
    ends = mean_interval(values, 0.95, 99, rng)
    assert ends.high - ends.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(MANY), rel=1e-3)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_largest_gap_is_that_of_scipy_ties_or_not(digits: int) -> None:
    rng = np.random.default_rng(digits)
    values = np.round(rng.normal(size=60), digits)
    values[[3, 50]] = np.nan
    side = rng.integers(0, 2, (60, 8)).astype(bool)
    found = largest_gap(values)(side, ~side)[0]
    for column in range(8):
        a, b = (values[mask[:, column] & ~np.isnan(values)] for mask in (side, ~side))
        assert found[column] == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_a_gap_with_nothing_on_one_side_is_not_defined() -> None:
    assert np.isnan(largest_gap(np.array([np.nan, 1.0]))(*split(1, 1))).all()
    assert np.isnan(largest_gap(np.array([np.nan, np.nan]))(*split(1, 1))).all()


def test_pieces_are_whole_documents_of_one_size() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(97, 123, size).astype(np.uint8).tobytes() for size in (40_000, 30_000, 200_000, 10)]
    pieces = Pieces()
    pieces.add(texts[:1])
    pieces.add(texts[1:])
    expected = [
        PIECE_BYTES / len(zlib.compress((texts[0] + b"\n" + texts[1])[:PIECE_BYTES], 6)),
        PIECE_BYTES / len(zlib.compress(texts[2][:PIECE_BYTES], 6)),
    ]
    assert pieces.ratios.tolist() == expected
    assert Pieces().ratios.size == 0
