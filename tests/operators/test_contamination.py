"""Evidence of contamination: shares, gaps and their tests against SciPy and by hand; verdicts keep their level."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jobs.bench import verdicts as simulated
from operators.blind import BlindResult
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
from operators.contamination.inference import blind_doubt, exchangeability_evidence, inference_evidence
from operators.contamination.loss_gap import DRAWS, Gaps, drawn_p_value, loss_gap_evidence
from operators.contamination.memorised import Ends, Windows, memorised_evidence
from operators.contamination.overlap import ItemOverlaps, Rule, overlap_evidence, parse_rule
from operators.contamination.rates import difference_interval, higher_rate_p_value, share_interval
from operators.contamination.verdict import INCOMPLETE, NO_EVIDENCE_FOUND, judge, n_tests
from operators.evaluation.blind_order import BlindOrder
from operators.evaluation.classes import Interval
from operators.evaluation.dataset_inference import DatasetInference, FalsePositives, Feature
from operators.evaluation.exchangeability import exchangeability
from operators.evaluation.multiplicity import holm_adjusted

# Shares


@pytest.mark.parametrize(
    ("hits", "n", "base_hits", "base_n"), [(3, 10, 1, 12), (0, 5, 0, 9), (5, 5, 9, 9), (7, 9, 0, 4)]
)
def test_the_exact_test_is_fishers(hits: int, n: int, base_hits: int, base_n: int) -> None:
    table = [[hits, n - hits], [base_hits, base_n - base_hits]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert higher_rate_p_value(hits, n, base_hits, base_n) == pytest.approx(expected, rel=1e-9)


def test_the_exact_test_by_counting() -> None:
    """Of 3 + 4 items two are hit, both of the three: of the 21 pairs, three are."""
    pairs = list(itertools.combinations(range(7), 2))
    assert higher_rate_p_value(2, 3, 0, 4) == pytest.approx(sum(max(pair) < 3 for pair in pairs) / len(pairs))


@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 0.9])
def test_the_exact_test_keeps_its_level(share: float) -> None:
    """Summed over every outcome of 12 and 9 items: p at most 0.05 in at most 5 %."""
    n, base_n = 12, 9
    below = sum(
        stats.binom.pmf(a, n, share) * stats.binom.pmf(b, base_n, share)
        for a in range(n + 1)
        for b in range(base_n + 1)
        if higher_rate_p_value(a, n, b, base_n) <= 0.05
    )
    assert below <= 0.05


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10 and 10/10 - 0/10."""
    for counts, low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ):
        found = difference_interval(*counts)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_share_is_exact() -> None:
    found = share_interval(0, 20)
    assert (found.low, found.high) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


# Overlap


def overlaps(seen: list[tuple[int, int]], answers: list[tuple[int, int]] | None = None) -> ItemOverlaps:
    counts = np.array(seen).T
    of_answers = np.array(answers or [(0, 0)] * len(seen)).T
    keys = tuple(f"k{i}" for i in range(len(seen)))
    return ItemOverlaps("web", np.arange(len(seen)), keys, counts[0], counts[1], of_answers[0], of_answers[1], 2, 1)


def test_overlap_by_hand() -> None:
    items = overlaps([(10, 0), (10, 1), (10, 8), (5, 5), (0, 0)], [(2, 0), (2, 0), (2, 1), (0, 0), (0, 0)])
    any_hit, share, answers = overlap_evidence("b", items, Rule(), 0.0)
    assert (any_hit.n, any_hit.estimate, any_hit.exceeds) == (4, 0.75, True)
    assert (share.n, share.estimate, share.exceeds) == (4, 0.5, None)
    assert (answers.n, answers.estimate) == (3, pytest.approx(1 / 3))
    assert any_hit.p_value is None
    assert any_hit.detail == ("3 of 4 items (1 shorter than an n-gram, 2 not in the overlap, 1 in the overlap alone)")
    assert any_hit.examples == ("k2", "k3", "k1")
    exact = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert any_hit.interval == Interval(exact.low, exact.high)


@pytest.mark.parametrize(
    ("rule", "limit", "exceeds"),
    [
        ("any", 0.74, True),
        ("any", 0.75, False),
        ("share:0.8", 0.25, False),
        ("share:0.1", 0.5, True),
        ("share:1", 0, True),
    ],
)
def test_the_rule_asked_for_is_held_against_the_threshold(rule: str, limit: float, exceeds: bool) -> None:
    items = overlaps([(10, 0), (10, 1), (10, 7), (5, 5)])
    rows = overlap_evidence("b", items, parse_rule(rule), limit)
    assert [row.exceeds for row in rows] == [exceeds, None]
    assert parse_rule(rule).said in rows[0].test


def test_items_that_are_all_too_short_are_not_cleared() -> None:
    first, *_ = overlap_evidence("b", overlaps([(0, 0), (0, 0)]), Rule(), 0.0)
    (judged,) = judge({"b": [first]})
    assert (first.estimate, first.interval) == (None, None)
    assert judged.evidence[0].verdict == INCONCLUSIVE
    assert judged.outcome == INCOMPLETE


def test_a_set_of_items_is_taken_out_of_an_overlap() -> None:
    some = overlaps([(10, 0), (10, 1), (10, 8)]).among(np.array([1, 7]))
    assert (some.keys, some.n_seen.tolist(), some.only_run) == (("k1",), [1], 1)


@pytest.mark.parametrize("text", ["all", "share:0", "share:1.5", "share:x", "any:1", "share:nan", ""])
def test_a_rule_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected 'any' or 'share:S'"):
        parse_rule(text)


# Memorised items


def ends(written: list[bool], tokens: list[int], windows: Windows | None = None) -> Ends:
    keys = tuple(f"k{i}" for i in range(len(written)))
    return Ends(np.arange(len(written)), keys, np.array(tokens), np.array(written), windows)


def test_short_answers_are_left_out() -> None:
    found = memorised_evidence("b", ends([True, True, False, True], [9, 3, 8, 8]), min_tokens=8)
    assert (found.n, found.estimate, found.p_value) == (3, pytest.approx(2 / 3), None)
    assert found.detail == "2 of 3 items (1 shorter); no clean set to compare with"
    assert found.examples == ("k0", "k3")


def test_memorised_items_against_a_clean_set() -> None:
    base = ends([True, False, False, False, False, True], [9] * 5 + [2])
    found = memorised_evidence("b", ends([True] * 5 + [False], [9] * 6), base, min_tokens=8)
    table = [[5, 1], [1, 4]]
    assert found.p_value == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert found.estimate == pytest.approx(5 / 6 - 1 / 5)
    assert found.interval == difference_interval(5, 6, 1, 5)


def test_windows_are_as_long_as_was_asked_for() -> None:
    kind = Windows("strict", 4, 4)
    found = memorised_evidence("b", ends([True, False], [4, 4], kind), min_tokens=8)
    assert (found.n, found.test) == (2, "last 4 tokens after 4, strict context")


def test_no_end_is_no_evidence_of_anything() -> None:
    alone = memorised_evidence("b", ends([True], [2]), min_tokens=8)
    assert (alone.estimate, alone.doubt) == (None, "no item has such an end")
    without_base = memorised_evidence("b", ends([True], [9]), ends([True], [2]), min_tokens=8)
    assert without_base.p_value is None
    assert "no item of the clean set has such an end" in without_base.detail


# Loss gaps


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


# Dataset inference and orders


def inferred(p_value: float = 1e-4, difference: float = 0.8) -> DatasetInference:
    features = (Feature("loss", 1.0, difference, 0, 0), Feature("zlib", 0.5, difference, 0, 0))
    return DatasetInference(p_value, (p_value,), difference, 40, 40, 20, 20, features)


def blind(low: float) -> BlindResult:
    return BlindResult("words", low + 0.1, Interval(low, low + 0.2), 40, 40, np.zeros(80))


MEMBERSHIP = ("membership", "membership")


def test_dataset_inference_decides_where_its_conditions_hold() -> None:
    halves = FalsePositives(0.05, 100, 6, 0.06, 0.02, 0.13, 20)
    found = inference_evidence("b", inferred(), MEMBERSHIP, halves, [blind(0.4)])
    assert (found.doubt, found.p_value, found.n) == ("", 1e-4, 40)
    assert judge({"b": [found]})[0].outcome == CONTAMINATED
    error = math.sqrt(40 / 400 + 0.64 / 80)
    assert found.interval is not None
    assert found.interval.high == pytest.approx(0.8 + stats.norm.ppf(0.975) * error)


@pytest.mark.parametrize(
    ("halves", "low", "difference", "doubt"),
    [
        (FalsePositives(0.05, 100, 30, 0.3, 0.2, 0.4, 20), 0.4, 0.8, "does not hold its level"),
        (None, 0.6, 0.8, "words (AUROC 0.700) alone tell the items from the clean set"),
        (None, 0.4, -0.8, "2 of 2 membership scores are lower"),
    ],
)
def test_a_condition_that_fails_makes_it_inconclusive(
    halves: FalsePositives | None, low: float, difference: float, doubt: str
) -> None:
    found = inference_evidence("b", inferred(difference=difference), MEMBERSHIP, halves, [blind(low)])
    (judged,) = judge({"b": [found]})
    assert doubt in found.doubt
    assert (judged.evidence[0].verdict, judged.outcome) == (INCONCLUSIVE, INCOMPLETE)
    assert judged.evidence[0].p_adjusted == 1e-4, "it stays among the tests"


def test_the_direction_matters_up_to_the_level_that_is_judged_by() -> None:
    found = inferred(0.08, difference=-0.8)
    assert inference_evidence("b", found, MEMBERSHIP, None, []).doubt == ""
    at_ten = inference_evidence("b", found, MEMBERSHIP, None, [], level=0.1)
    assert judge({"b": [at_ten]}, alpha=0.1)[0].evidence[0].verdict == INCONCLUSIVE


def test_a_blind_baseline_above_chance_is_a_doubt_only_where_it_is_flagged() -> None:
    assert blind_doubt([blind(0.54)]) == ""
    assert "two kinds of text" in blind_doubt([blind(0.54), blind(0.56)])


def test_an_order_that_words_give_away_is_inconclusive() -> None:
    logprob = np.random.default_rng(0).normal(size=(5, 200))
    logprob[:, 0] = 10
    found = exchangeability(logprob, np.full(logprob.shape, 7))
    sound = exchangeability_evidence("b", "orders", 50, found, [BlindOrder("words", 0.4, 0.2)])
    assert (sound.p_value, sound.resolution, sound.doubt) == (1 / 200, 1 / 200, "")
    assert sound.estimate == found.gain
    grouped = exchangeability_evidence("b", "orders", 50, found, [BlindOrder("words", 0.01, 5.0)])
    assert "sorted or grouped" in grouped.doubt


# Verdicts


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
