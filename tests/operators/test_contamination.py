"""Verdicts on contamination: one family of tests, a word for each row, and a level that they keep."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jobs.bench import verdicts as simulated
from operators.contamination import verdict as verdict_module
from operators.contamination.evidence import (
    CANNOT_SHOW,
    CONTAMINATED,
    EXCHANGEABILITY,
    INCONCLUSIVE,
    INFERENCE,
    KINDS,
    LOSS_GAP,
    MEMORISED,
    MISSING,
    NO_EVIDENCE,
    NOT_JUDGED,
    OVERLAP,
    SHOWS,
    Evidence,
    missing,
)
from operators.contamination.verdict import INCOMPLETE, NO_EVIDENCE_FOUND, judge, n_tests
from operators.evaluation.multiplicity import holm_adjusted


def a_test(p_value: float | None, kind: str = LOSS_GAP, **more: object) -> Evidence:
    return replace(Evidence("b", kind, "t", 10, estimate=0.1, p_value=p_value), **more)  # type: ignore[arg-type]


def test_all_p_values_of_all_benchmarks_are_one_family() -> None:
    evidence = {"a": [a_test(0.02), a_test(None)], "b": [a_test(0.03), a_test(0.012, doubt="x")], "c": [a_test(0.9)]}
    judged = judge(evidence)
    adjusted = [row.p_adjusted for each in judged for row in each.evidence]
    expected = holm_adjusted([0.02, np.nan, 0.03, 0.012, 0.9]).tolist()
    assert [math.nan if p is None else p for p in adjusted] == pytest.approx(expected, nan_ok=True)
    assert n_tests(evidence) == 4
    assert {each.outcome for each in judged} == {NO_EVIDENCE_FOUND}, "0.02 would do alone"
    assert judge({"a": evidence["a"]})[0].outcome == CONTAMINATED


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (a_test(0.05), CONTAMINATED),
        (a_test(0.051), NO_EVIDENCE),
        (a_test(1e-9, doubt="two kinds of text"), INCONCLUSIVE),
        (a_test(None), NOT_JUDGED),
        (a_test(None, exceeds=True), CONTAMINATED),
        (a_test(None, exceeds=False), NO_EVIDENCE),
        (missing("b", OVERLAP, "none"), MISSING),
    ],
)
def test_the_word_for_a_row(row: Evidence, word: str) -> None:
    assert judge({"b": [row]})[0].evidence[0].verdict == word


def test_what_is_required_has_to_be_judged() -> None:
    rows = [a_test(0.5), a_test(0.6, EXCHANGEABILITY, doubt="sorted"), missing("b", OVERLAP, "none")]
    assert judge({"b": rows})[0].outcome == NO_EVIDENCE_FOUND
    (incomplete,) = judge({"b": rows}, require=[OVERLAP, EXCHANGEABILITY, LOSS_GAP])
    assert incomplete.outcome == INCOMPLETE
    assert incomplete.why == "required and not judged: overlap, exchangeability"
    (found,) = judge({"b": [*rows, a_test(0.001)]}, require=[OVERLAP])
    assert found.outcome == CONTAMINATED, "what is missing does not unsay what was found"


def test_nothing_judged_is_never_a_pass() -> None:
    rows = [missing("b", kind, "none") for kind in KINDS]
    assert judge({"b": rows})[0].outcome == INCOMPLETE
    assert judge({"b": [a_test(None)]})[0].outcome == INCOMPLETE


@pytest.mark.parametrize(("alpha", "require", "said"), [(0.0, [], "alpha"), (1.0, [], "alpha"), (0.05, ["x"], "'x'")])
def test_a_policy_that_is_none(alpha: float, require: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        judge({}, alpha=alpha, require=require)


def test_every_kind_says_what_it_is_worth() -> None:
    assert set(SHOWS) == set(CANNOT_SHOW) == set(KINDS) == {OVERLAP, MEMORISED, EXCHANGEABILITY, INFERENCE, LOSS_GAP}
    assert all(text.startswith("Shows") and text.endswith(".") for text in SHOWS.values())
    assert all(text.startswith("Cannot show") and text.endswith(".") for text in CANNOT_SHOW.values())


def test_unseen_benchmarks_are_condemned_at_most_as_often_as_alpha_says(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = 120
    alarms = sum(simulated.false_alarms(draws, 50, seed=1))
    assert stats.binom.sf(alarms - 1, draws, simulated.ALPHA) > 0.01
    monkeypatch.setattr(verdict_module, "holm_adjusted", np.asarray)
    uncorrected = sum(simulated.false_alarms(30, 50, seed=1))
    assert stats.binom.sf(uncorrected - 1, 30, simulated.ALPHA) < 1e-4, "without the correction this fails"
