"""Tonight against the nights before: verdicts over many numbers, after changes, in weeks, and with few nights."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from operators.nights.estimate import share_level
from operators.nights.judge import FEWEST, Judged, Nights, Verdict, Watch, judge
from schemas.nights import ARCSINE, HISTORY, IDENTITY, LIKE, STEP, TONIGHT, TOO_FEW, TREND, UNLIKE

FIRST = date(2026, 1, 5)  # a Monday
WATCH = Watch(alpha=0.02, draws=499)


def nights(values: object, *, error: float = 0.05, scale: str = IDENTITY) -> Nights:
    levels = np.asarray(values, np.float64)
    days = [FIRST + timedelta(days=t) for t in range(levels.size)]
    return Nights(days, levels, np.full(levels.size, error), scale, "share" if scale == ARCSINE else "nats")


def judged(*numbers: Nights, watch: Watch = WATCH) -> Judged:
    return judge({("m", "all", str(i)): each for i, each in enumerate(numbers)}, watch)


def tonight(found: Judged, place: int = 0) -> Verdict:
    return next(v for v in found.verdicts if v.test == TONIGHT and v.key[2] == str(place))


def history(found: Judged, place: int = 0) -> list[Verdict]:
    return [v for v in found.verdicts if v.test == HISTORY and v.key[2] == str(place)]


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, size)


def test_a_night_far_off_is_found_and_the_others_are_not() -> None:
    off = noise(20, 1)
    off[-1] = 1.0
    found = judged(nights(off), nights(noise(20, 2)), nights(noise(20, 3)))
    verdict = tonight(found)
    assert verdict.verdict == UNLIKE
    assert verdict.expected is not None
    assert verdict.interval is not None
    assert verdict.expected[1] < 1.0
    assert verdict.interval[0] < (verdict.difference or 0) < verdict.interval[1]
    assert verdict.p_value is not None
    assert verdict.p_adjusted == pytest.approx(3 * verdict.p_value)
    assert [tonight(found, i).verdict for i in (1, 2)] == [LIKE, LIKE]
    assert not history(found)


def test_nights_with_long_tails_are_expected_to_have_them() -> None:
    """A night six spreads off is unlike normal ones; where other numbers' nights go as far, it is not."""

    def alike(seed: int, draw: str) -> list[Nights]:
        rng = np.random.default_rng(seed)
        values = rng.standard_t(3, (20, 30)) / np.sqrt(3) if draw == "long" else rng.standard_normal((20, 30))
        values[:, -1] = 0.0
        values[0] = rng.standard_normal(30)
        values[0, -1] = values[0, :-1].mean() + 6 * values[0, :-1].std()
        return [nights(0.1 * each, error=0.001) for each in values]

    watch = Watch(alpha=0.01, draws=399)
    assert tonight(judged(*alike(0, "normal"), watch=watch)).verdict == UNLIKE
    assert tonight(judged(*alike(0, "long"), watch=watch)).verdict == LIKE


def test_numbers_that_never_vary_do_not_hide_a_night_that_is_far_off() -> None:
    """Rejects that are always 0, or errors that are larger than the scatter, are no long tails of the others."""
    rng = np.random.default_rng(12)
    varied = [np.r_[0.1 * rng.standard_normal(20), 0.0] for _ in range(10)]
    varied[0][-1] = 1.0
    still = [nights(np.full(21, 0.2) + tiny * rng.standard_normal(21)) for tiny in [0.0] * 5 + [0.01] * 5]
    found = judged(*(nights(each) for each in varied), *still)
    assert tonight(found).verdict == UNLIKE
    assert found.reach is not None
    assert found.reach < 3
    assert found.dependent == ()


def test_scatter_between_nights_is_no_change_however_small_errors_within_them_are() -> None:
    values = noise(30, 4)
    found = judged(nights(values, error=1e-4))
    assert tonight(found).verdict == LIKE


@pytest.mark.parametrize(("size", "verdict"), [(1, TOO_FEW), (FEWEST, TOO_FEW), (FEWEST + 1, LIKE)])
def test_few_nights_have_no_verdict(size: int, verdict: str) -> None:
    found = tonight(judged(nights(noise(size))))
    assert (found.verdict, found.n_nights) == (verdict, size)
    assert (found.p_value is None) == (verdict == TOO_FEW)


def test_after_a_change_tonight_is_compared_with_the_nights_since() -> None:
    values = noise(24, 5) + np.repeat([0.0, 2.0], [14, 10])
    found = judged(nights(values))
    (change,) = history(found)
    assert (change.verdict, change.since) == (STEP, FIRST + timedelta(days=14))
    assert change.since_low == change.since_high == change.since
    assert change.interval is not None
    assert change.interval[0] < 2.0 < change.interval[1]
    assert change.after == pytest.approx(2.0, abs=0.1)
    assert (tonight(found).verdict, tonight(found).n_nights) == (LIKE, 10)
    back = judged(nights(np.r_[values[:-1], 0.0]))
    assert tonight(back).verdict == UNLIKE


def test_a_level_that_moved_three_nights_ago_has_too_few_nights_to_judge_tonight_by() -> None:
    found = judged(nights(noise(23, 6) + np.repeat([0.0, 2.0], [20, 3])))
    (change,) = history(found)
    assert change.since == FIRST + timedelta(days=20)
    assert tonight(found).verdict == TOO_FEW


def test_a_trend_says_where_it_came_from_and_went() -> None:
    found = judged(nights(0.05 * np.arange(40) + noise(40, 7)))
    (change,) = history(found)
    assert (change.verdict, change.since) == (TREND, FIRST)
    assert change.interval is not None
    assert change.interval[0] < 0.05 * 39 < change.interval[1]


def test_every_trend_of_a_number_has_its_own_beginning() -> None:
    found = history(judged(nights(np.r_[0.05 * np.arange(40), 0.05 * np.arange(40) - 4] + noise(80, 10))))
    trends = [verdict for verdict in found if verdict.verdict == TREND]
    assert {trend.since for trend in trends} == {FIRST, FIRST + timedelta(days=40)}
    assert len({(verdict.verdict, verdict.since) for verdict in found}) == len(found), "one row each, by its key"


def test_a_trend_is_no_dependence_on_the_night_before() -> None:
    found = judged(nights(0.05 * np.arange(60) + noise(60, 7)))
    assert [verdict.verdict for verdict in history(found)] == [TREND]
    assert found.dependent == ()


@pytest.mark.parametrize("size", [FEWEST, 30])
def test_how_far_off_a_number_has_to_be_is_said(size: int) -> None:
    """With few nights before, many times as far as the interval that is expected."""

    def off(times: float) -> Judged:
        values = np.r_[noise(size, 11), 0.0]
        expected = tonight(judged(nights(values, error=0.0))).expected or (0, 0)
        values[-1] = np.mean(expected) + times * (expected[1] - expected[0]) / 2
        return judged(nights(values, error=0.0), *(nights(noise(size + 1, seed), error=0.0) for seed in range(9)))

    reach = off(0).reach or 0.0
    assert reach == pytest.approx(stats.t.ppf(1 - WATCH.alpha / 2 / 10 / 2, size - 1) / stats.t.ppf(0.975, size - 1))
    assert [tonight(off(times * reach)).verdict for times in (0.99, 1.01)] == [LIKE, UNLIKE]
    assert judged(nights(noise(FEWEST))).reach is None


def test_a_weekend_is_like_other_weekends_and_a_weekend_level_on_a_workday_is_not() -> None:
    size = 7 * 8 + 6  # ends on a Saturday
    weekend = np.where(np.arange(size) % 7 >= 5, 1.0, 0.0)
    found = judged(nights(weekend + noise(size, 8)))
    assert found.weekly == (("m", "all", "0"),)
    assert tonight(found).verdict == LIKE
    assert tonight(found).before == pytest.approx(1.0, abs=0.15)
    workday = (weekend + noise(size, 8))[:-1]
    workday[-1] = 1.0  # a Friday like a Saturday
    assert tonight(judged(nights(workday))).verdict == UNLIKE


def test_a_share_that_was_always_zero_and_is_not_is_found_in_its_own_unit() -> None:
    levels, errors = zip(*[share_level(0.0, 1000)] * 12, share_level(0.05, 1000), strict=True)
    days = [FIRST + timedelta(days=t) for t in range(13)]
    found = tonight(judged(Nights(days, np.array(levels), np.array(errors), ARCSINE, "share")))
    assert found.verdict == UNLIKE
    assert found.expected is not None
    assert 0 <= found.expected[0] < found.expected[1] < 0.01
    assert found.after == pytest.approx(0.05, abs=1e-3)


def test_dependence_on_the_night_before_is_said() -> None:
    rng = np.random.default_rng(9)
    walk = [0.0]
    for step in rng.normal(0, 1, 199):
        walk.append(0.6 * walk[-1] + step)
    watch = Watch(alpha=0.001, draws=1999)
    ((key, lag),) = judged(nights(walk), nights(rng.normal(0, 1, 200)), watch=watch).dependent
    assert key == ("m", "all", "0")
    assert lag == pytest.approx(0.6, abs=0.15)


def test_an_alpha_that_the_draws_cannot_reach_and_mixed_nights_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 / alpha"):
        Watch(alpha=0.001, draws=199)
    other = nights(noise(9))
    with pytest.raises(ValueError, match="different nights"):
        judged(nights(noise(8)), other)


def test_the_same_nights_give_the_same_verdicts_and_order_does_not_matter() -> None:
    numbers = [nights(noise(20, seed) + np.repeat([0.0, 0.3 * seed], 10)) for seed in range(4)]
    first = judged(*numbers)
    assert first == judged(*numbers)
    keys = [("m", "all", str(i)) for i in range(4)]
    turned = judge({key: numbers[int(key[2])] for key in reversed(keys)}, WATCH)
    assert {v.key: v for v in turned.verdicts if v.test == HISTORY} == {
        v.key: v for v in first.verdicts if v.test == HISTORY
    }
