"""Levels of nights, changes of level, their dates and sizes, against closed forms and worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from operators.nights.changes import MIN_NIGHTS, Series, explained, find_changes, surprises
from operators.nights.dates import size_of
from operators.nights.levels import between, expect, level_of, weights_of
from operators.nights.scale import natural, natural_difference, share_level
from operators.nights.weekdays import FEWEST, week_of
from schemas.nights import ARCSINE, IDENTITY


def series(values: object, error: float = 0.1) -> Series:
    array = np.asarray(values, np.float64)
    return Series(np.arange(array.size), array, np.full(array.size, error))


def test_equal_errors_give_the_textbook_prediction_interval() -> None:
    values = np.random.default_rng(0).normal(3, 1, 12)
    level = level_of(values, np.zeros(12))
    found = expect(level, 0.0, 5.5, 0.95)
    spread = values.std(ddof=1) * np.sqrt(1 + 1 / 12)
    reach = stats.t.ppf(0.975, 11) * spread
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-6)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(5.5 - values.mean()) / spread, 11), rel=1e-5)


def test_paule_mandel_solves_its_equation_and_is_zero_where_errors_explain_all() -> None:
    rng = np.random.default_rng(1)
    values, errors = rng.normal(0, 2, 15), rng.uniform(0.2, 1, 15)
    tau2 = between(values, errors)
    weights = 1 / (errors**2 + tau2)
    mean = np.average(values, weights=weights)
    assert (weights * (values - mean) ** 2).sum() == pytest.approx(14, rel=1e-9)
    assert between(values, np.full(15, 50.0)) == 0.0
    groups = (np.arange(15) >= 7).astype(np.intp)
    assert between(values + 100.0 * groups, errors, groups) == pytest.approx(between(values, errors, groups), rel=1e-6)


def test_a_sure_night_after_unsure_ones_is_not_expected_as_surely() -> None:
    """Their errors hide how far nights scatter: by the nights' count alone such a night is unlike them too often."""
    rng = np.random.default_rng(3)
    errors = np.r_[np.ones(12), 0.1]
    p_values, plain = [], []
    for _ in range(400):
        values = rng.normal(0, 1, 13) + errors * rng.standard_normal(13)
        level = level_of(values[:-1], errors[:-1])
        found = expect(level, 0.1, float(values[-1]), 0.95)
        p_values.append(found.p_value)
        plain.append(2 * stats.t.sf(abs(values[-1] - level.mean) / found.spread, 11))
    assert np.mean(np.array(p_values) <= 0.01) <= 0.02
    assert np.mean(np.array(plain) <= 0.01) > 0.04


def test_nights_that_never_varied_call_rounding_alike_and_anything_else_not() -> None:
    level = level_of(np.full(8, 0.25), np.zeros(8))
    assert expect(level, 0.0, 0.25 + 1e-15, 0.95).p_value > 0.99
    assert expect(level, 0.0, 0.26, 0.95).p_value < 1e-9
    with pytest.raises(ValueError, match="1 nights say nothing"):
        level_of(np.ones(1), np.ones(1))


def test_what_two_levels_explain_is_the_loss_of_squares() -> None:
    rng = np.random.default_rng(2)
    values, weights = rng.normal(0, 1, 9), rng.uniform(0.5, 2, 9)
    found, squares = explained(values, weights)

    def around_mean(part: slice) -> float:
        mean = np.average(values[part], weights=weights[part])
        return float((weights[part] * (values[part] - mean) ** 2).sum())

    assert float(squares) == pytest.approx(around_mean(slice(None)))
    for place, gain in enumerate(found):
        k = place + MIN_NIGHTS
        assert gain == pytest.approx(around_mean(slice(None)) - around_mean(slice(k)) - around_mean(slice(k, None)))
    f = stats.f_oneway(values[:4], values[4:])
    plain = explained(values, np.ones(9))
    assert surprises(*plain, 9)[4 - MIN_NIGHTS] == pytest.approx(-np.log(f.pvalue))


def test_two_changes_are_found_where_they_are_and_none_elsewhere() -> None:
    rng = np.random.default_rng(3)
    levels = np.repeat([1.0, 1.5, 0.8], [14, 16, 12])
    numbers = {"moved": series(levels + rng.normal(0, 0.08, 42)), "still": series(rng.normal(1, 0.08, 42))}
    found = find_changes(numbers, alpha=0.01, draws=499, n_places=42)
    assert {(c.key, c.split) for c in found} == {("moved", 14), ("moved", 30)}
    assert not any(c.is_trend for c in found)
    assert all(c.p_value <= c.p_adjusted <= 0.01 for c in found)


def test_orders_that_are_as_surprising_count_whatever_the_unit_is() -> None:
    """Two of nine nights are high, the last two: so it is in a 36th of all orders, and the first two in as many."""
    values = np.repeat([0.0, 1.0], [7, 2])
    found = [
        find_changes({"a": series(scale * values + shift, 0.0)}, alpha=0.5, draws=1999, n_places=9)[0].p_value
        for scale, shift in ((1.0, 0.0), (0.3, 0.1), (7.7, -123.4), (-1e-3, 5e3))
    ]
    assert found == [pytest.approx(2 / 36, abs=0.012)] * 4
    assert len(set(found)) == 1


def test_rounding_is_no_change_of_level() -> None:
    values = np.repeat([0.1, np.nextafter(0.1, 1)], 10)
    assert find_changes({"a": series(values, 0.0)}, alpha=0.05, draws=199, n_places=20) == []


def test_a_steady_drift_is_a_trend_and_is_not_cut() -> None:
    values = 0.05 * np.arange(40) + np.random.default_rng(4).normal(0, 0.1, 40)
    (found,) = find_changes({"drifting": series(values)}, alpha=0.01, draws=499, n_places=40)
    assert found.is_trend


def test_numbers_that_move_together_are_no_harder_to_find_than_one() -> None:
    """Max-T over copies of one number gives its own p-value; a correction by their count would not."""
    values = np.repeat([0.0, 0.35], 12) + np.random.default_rng(5).normal(0, 0.2, 24)
    (alone,) = find_changes({"a": series(values)}, alpha=0.05, draws=999, n_places=24)
    copies = find_changes({str(i): series(values) for i in range(30)}, alpha=0.05, draws=999, n_places=24)
    assert {c.p_adjusted for c in copies} == {alone.p_adjusted}


def test_gaps_and_broken_numbers() -> None:
    gappy = Series(np.array([0, 3, 4, 9, 10, 11, 12]), np.zeros(7), np.zeros(7))
    assert find_changes({"a": gappy}, alpha=0.05, draws=199, n_places=13) == []
    assert find_changes({"a": series([1.0, 2.0])}, alpha=0.05, draws=199, n_places=2) == []
    assert find_changes({}, alpha=0.05, draws=199, n_places=0) == []
    with pytest.raises(ValueError, match="finite"):
        find_changes({"a": series([1.0, np.nan, 2.0])}, alpha=0.05, draws=199, n_places=3)
    with pytest.raises(ValueError, match="ascending"):
        find_changes({"a": series([1.0, 2.0])}, alpha=0.05, draws=199, n_places=1)


def test_a_clear_change_has_one_date_and_a_faint_one_many() -> None:
    noise = np.random.default_rng(6).normal(0, 0.2, 40)
    clear = size_of(series(noise + np.repeat([0.0, 3.0], 20)), 20, confidence=0.95)
    assert (clear.first, clear.last) == (20, 20)
    assert clear.low <= 3.0 <= clear.high
    assert clear.high - clear.low == pytest.approx(2 * stats.t.ppf(0.975, 38) * 0.2 * np.sqrt(1 / 10), rel=0.3)
    faint = size_of(series(noise + np.repeat([0.0, 0.25], 20)), 20, confidence=0.95)
    assert faint.last - faint.first >= 5
    with pytest.raises(ValueError, match="needed on either side"):
        size_of(series(noise), 1, confidence=0.95)


def test_a_size_that_was_barely_found_may_be_smaller_than_it_looks() -> None:
    noise = np.random.default_rng(8).normal(0, 1, 30)
    values = series(noise + np.repeat([0.0, 1.2], 15))
    (found,) = find_changes({"a": values}, alpha=0.05, draws=499, n_places=30)
    explained_K, squares = explained(values.values_T - values.values_T.mean(), np.ones(30))
    assert 0 < found.least <= explained_K.max() / squares
    share = float(explained_K[found.split - MIN_NIGHTS] / squares)
    plain, barely = (size_of(values, found.split, confidence=0.95, least=least) for least in (0.0, 0.999 * share))
    assert 0 <= barely.low < plain.low
    assert (barely.high, barely.first, barely.last) == (plain.high, plain.first, plain.last)
    clear = series(noise + np.repeat([0.0, 9.0], 15))
    ends = [size_of(clear, 15, confidence=0.95, least=least).low for least in (0.0, found.least)]
    assert ends[0] == pytest.approx(ends[1])


def test_shares_are_compared_on_a_scale_that_gives_zero_an_error() -> None:
    level, error = share_level(0.0, 400)
    assert 0 < level < 3 * error
    assert error == pytest.approx(0.5 / np.sqrt(400.5))
    for share in (0.01, 0.5, 0.99):
        assert natural(share_level(share, 1e6)[0], ARCSINE) == pytest.approx(share, abs=1e-5)
    before, after = share_level(0.2, 1e9)[0], share_level(0.3, 1e9)[0]
    assert natural_difference(before, after, after - before, ARCSINE) == pytest.approx(0.1, abs=1e-6)
    assert natural_difference(1.0, 3.0, 2.0, IDENTITY) == 2.0
    assert natural(-0.2, ARCSINE) == 0.0
    assert natural(2.0, ARCSINE) == 1.0


def test_a_weekly_cycle_is_taken_out_where_it_shows_and_nowhere_else() -> None:
    rng = np.random.default_rng(7)
    weekdays = np.arange(70) % 7
    cycle = np.where(weekdays >= 5, 1.0, 0.0)
    noise, errors = rng.normal(0, 0.2, 70), np.full(70, 0.05)
    week = week_of(weekdays, cycle + noise, errors)
    assert week.is_seen
    assert week.effects[5:].mean() - week.effects[:5].mean() == pytest.approx(1.0, abs=0.15)
    assert not week_of(weekdays, noise, errors).is_seen
    assert not week_of(weekdays[: FEWEST - 1], (cycle + noise)[: FEWEST - 1], errors[: FEWEST - 1]).is_seen


def test_weights_of_nights_that_agree_exactly_are_finite() -> None:
    assert np.isfinite(weights_of(np.full(5, 2.0), np.zeros(5), 0.0)).all()
