"""Evidence item by item: shares of items, those in a corpus and those by heart, against SciPy and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from operators.contamination.evidence import INCONCLUSIVE
from operators.contamination.memorised import Ends, Windows, memorised_evidence
from operators.contamination.overlap import ItemOverlaps, Rule, overlap_evidence, parse_rule
from operators.contamination.rates import difference_interval, higher_rate_p_value, share_interval
from operators.contamination.verdict import INCOMPLETE, judge
from operators.evaluation.classes import Interval

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
