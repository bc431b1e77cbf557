"""The calibration of comparisons: promises are kept, and a comparison that is wrong does not keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, comparison_worlds
from jobs.bench.checks import LOW
from jobs.bench.comparison_worlds import EQUAL, NAMES, UNEQUAL, corpora, counted
from operators.comparison.divergences import statistic
from operators.comparison.grams import Grams
from operators.comparison.resampling import Ends, Tail, jackknife, null, permuted, split
from operators.overlap.words import running


def test_promises_are_kept_on_small_corpora() -> None:
    """Of so few samples a coverage is judged with two standard errors to spare."""
    checks = list(calibration._corpora(200, 50, 1))
    spare = {"covers": 2.0, "uniform": 0.0}
    assert [(c.name, c.sample) for c in checks if c.value + spare[c.kind] * c.error < c.low] == []
    assert len(checks) == 32


def test_words_taken_for_the_units_see_differences_where_there_are_none() -> None:
    """The reason for relabelling documents: words of one document go together."""
    rng = np.random.default_rng(0)
    p_values = []
    for grams, _ in corpora(60, 40, 40, 0):
        words, n_a = one_by_one(grams, 40)
        test = statistic(words, ["js"])
        n_b = len(words.total_D) - n_a
        (observed,) = test(*split(n_a, n_b))[:, 0]
        (drawn,) = permuted(test, n_a, n_b, permutations=39, rng=rng)
        p_values.append(null(float(observed), drawn, Tail.high).p_value)
    assert np.mean(np.array(p_values) <= 0.05) > 0.5


def one_by_one(grams: Grams, n_a: int) -> tuple[Grams, int]:
    """Every word of two documents or more as a document of its own, and how many are of the first corpus."""
    cells = grams.shared_DV.tocoo()
    counts = cells.data.astype(np.int64)
    owners, words = np.repeat(cells.row, counts), np.repeat(cells.col, counts)
    order = np.argsort(owners, kind="stable")
    every = counted(words[order].astype(np.int64), running(np.ones(words.size, np.int64)))
    return every, int((owners < n_a).sum())


def test_intervals_that_are_too_short_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def shorter(*arguments: Any, **options: Any) -> list[Ends]:
        found = jackknife(*arguments, **options)
        return [Ends(e.low + (e.high - e.low) / 4, e.high - (e.high - e.low) / 4) for e in found]

    monkeypatch.setattr(comparison_worlds, "jackknife", shorter)
    covered = comparison_worlds.covered(200, 50, EQUAL, 0, apart=0.3)
    assert all(np.mean(covered[name]) < LOW for name in NAMES)


def test_corpora_that_differ_are_noticed() -> None:
    rng = np.random.default_rng(0)
    n_a, n_b = UNEQUAL.of(100)
    p_values = []
    for grams, _ in corpora(20, n_a, n_b, 0, apart=0.6):
        test = statistic(grams, ["js"])
        (observed,) = test(*split(n_a, n_b))[:, 0]
        (drawn,) = permuted(test, n_a, n_b, permutations=99, rng=rng)
        p_values.append(null(float(observed), drawn, Tail.high).p_value)
    assert np.mean(np.array(p_values) == 0.01) > 0.8
