"""Tails of nights: what each is without itself, normal nights that stay normal, long tails that are seen."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy import stats

from operators.nights.levels import expect, level_of
from operators.nights.tails import FEWEST, Tail, left_out, tail_of


def worlds(seed: int, freedom: float, numbers: int = 20, nights: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal if freedom == inf else lambda size: rng.standard_t(freedom, size)
    return [left_out(np.asarray(draw(nights)), np.zeros(nights)) for _ in range(numbers)]


def test_a_night_left_out_is_the_textbook_prediction() -> None:
    values = np.random.default_rng(0).normal(3, 1, 12)
    found = left_out(values, np.zeros(12))
    others = values[:-1]
    expected = (values[-1] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / 11))
    assert found[-1] == pytest.approx(expected, rel=1e-6)
    p = expect(level_of(others, np.zeros(11)), 0.0, float(values[-1]), 0.95).p_value
    assert 2 * stats.t.sf(abs(found[-1]), 10) == pytest.approx(p, rel=1e-5)


def test_nights_whose_errors_explain_their_scatter_say_nothing_of_tails() -> None:
    for values in (np.array([0.0, 0.1, -0.1, 0.05, 0.0]), np.full(5, 0.3)):
        assert left_out(values, np.ones(5)).size == 0


@pytest.fixture(scope="module")
def truth() -> float:
    """How often a night of 40 is five spreads off, where nights are of Student's t with 3 degrees of freedom."""
    return float(np.mean(np.abs(np.concatenate(worlds(99, 3.0, numbers=3000))) > 5))


@pytest.mark.parametrize("seed", range(5))
def test_normal_nights_have_no_tail_and_long_ones_theirs(seed: int, truth: float) -> None:
    assert tail_of(worlds(seed, inf)) == Tail()
    tail = tail_of(worlds(seed, 3.0))
    assert 2.0 <= tail.freedom <= 4.0
    assert tail.far(tail.p_value(7.0)) == pytest.approx(7.0)
    assert 0.7 * truth <= tail.p_value(5) <= 3 * truth
    assert truth > 100 * 2 * stats.t.sf(5, 38)


def test_a_few_nights_nights_that_never_vary_and_none_say_nothing() -> None:
    few = worlds(0, 3.0, numbers=1, nights=FEWEST - 1)
    for nights in ([], few, [np.zeros(300)], [np.zeros(2)] * 300):
        assert tail_of(nights) == Tail()
    assert (Tail().p_value(50.0), Tail().far(1e-9)) == (0.0, 0.0)
