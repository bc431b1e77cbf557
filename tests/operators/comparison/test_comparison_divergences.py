"""Divergences of n-gram counts: equal to brute force at any split, bounded, symmetric where they should be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from operators.comparison.divergences import DIVERGENCES, statistic
from operators.comparison.grams import LONGEST, SMOOTHING, GramCounter, Grams, TooManyError
from operators.comparison.resampling import split
from operators.overlap.words import running

NAMES = [*DIVERGENCES, "-kl"]


def documents(count: int, seed: int, *, words: int = 30) -> list[list[int]]:
    """Some of no words at all."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, words + 1)
    sizes = rng.integers(0, 12, count)
    return [rng.choice(words, size, p=chances / chances.sum()).tolist() for size in sizes]


def counted(made: list[list[int]], n: int, *, block: int = 4) -> Grams:
    counter = GramCounter([n], len(made))
    for start in range(0, len(made), block):
        some = made[start : start + block]
        words = np.array([word for document in some for word in document], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        counter.add(np.arange(start, start + len(some)), words, running(np.array([len(d) for d in some])))
    return counter.counted(n)


def grams_of(document: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(document[i : i + n]) for i in range(len(document) - n + 1))


def brute(made: list[list[int]], n: int, a: Any, b: Any) -> dict[str, float]:
    """From the formulas, with every n-gram that any document has; nothing shared with the code under test."""
    known = sorted(set().union(*(grams_of(document, n) for document in made)))
    sides = []
    for mask in (a, b):
        total: Counter[tuple[int, ...]] = Counter()
        for document, is_in in zip(made, mask, strict=True):
            if is_in:
                total += grams_of(document, n)
        sides.append(np.array([total[gram] for gram in known], np.float64))
    x, y = sides
    p, q = x / x.sum(), y / y.sum()

    def kl(first: Any, second: Any) -> float:
        there = first > 0
        return float((first[there] * np.log2(first[there] / second[there])).sum())

    js = (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2
    smooth_p, smooth_q = ((z + SMOOTHING) / (z.sum() + SMOOTHING * len(known)) for z in sides)
    return {
        "js": js, "js_distance": js**0.5, "kl": kl(smooth_p, smooth_q), "-kl": kl(smooth_q, smooth_p),
        "tv": abs(p - q).sum() / 2, "hellinger": float(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2)),
        "jaccard": ((x > 0) & (y > 0)).sum() / ((x > 0) | (y > 0)).sum(),
    }  # fmt: skip


@pytest.mark.parametrize("n", range(1, LONGEST + 1))
def test_all_equal_brute_force_at_any_split(n: int) -> None:
    made = documents(40, n)
    rng = np.random.default_rng(n)
    sides = rng.integers(0, 3, (40, 6))  # of a, of b, of neither
    found = statistic(counted(made, n), NAMES)(sides == 0, sides == 1)
    for column in range(6):
        expected = brute(made, n, sides[:, column] == 0, sides[:, column] == 1)
        assert dict(zip(NAMES, found[:, column], strict=True)) == pytest.approx(expected, abs=1e-12)


def test_blocks_of_ngrams_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = documents(60, 1)
    grams, (a, b) = counted(made, 2), split(25, 35)
    whole = statistic(grams, NAMES)(a, b)
    monkeypatch.setattr("operators.comparison.divergences._CELLS", 3)
    assert statistic(grams, NAMES)(a, b) == pytest.approx(whole, rel=1e-12)


def test_some_documents_are_as_if_the_others_were_not_there() -> None:
    made = documents(30, 2)
    places = np.array([3, 7, 1, 20, 22, 28, 15])
    alone = counted([made[i] for i in places], 1)
    some = counted(made, 1).of(places)
    masks = split(3, 4)
    assert statistic(some, NAMES)(*masks) == pytest.approx(statistic(alone, NAMES)(*masks), rel=1e-12)


def test_equal_corpora_and_corpora_without_a_word_in_common() -> None:
    same = statistic(counted([[1, 2, 2], [3], [2, 1, 2], [3]], 1), NAMES)(*split(2, 2))[:, 0]
    assert same == pytest.approx([0, 0, 0, 0, 0, 1, 0], abs=1e-7)
    apart = dict(zip(NAMES, statistic(counted([[1, 2], [3]], 1), NAMES)(*split(1, 1))[:, 0], strict=True))
    assert [apart[name] for name in ("js", "js_distance", "tv", "hellinger", "jaccard")] == [1, 1, 1, 1, 0]


def test_a_corpus_without_ngrams_has_no_divergence() -> None:
    found = statistic(counted([[1], [2], [1, 2, 3], [2, 3]], 2), NAMES)(*split(2, 2))
    assert np.isnan(found).all()
    assert np.isnan(statistic(counted([[], []], 1), NAMES)(*split(1, 1))).all()


def test_ngrams_do_not_cross_documents() -> None:
    assert counted([[1, 2], [3, 4]], 2).total_D.tolist() == [1, 1]
    assert counted([[1], [2], [3]], 2).total_D.tolist() == [0, 0, 0]


def test_more_than_can_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.comparison.grams.MOST_CELLS", 20)
    with pytest.raises(TooManyError, match="--max-documents"):
        counted(documents(40, 3), 2)


@pytest.mark.parametrize("lengths", [[], [0], [LONGEST + 1]])
def test_lengths_out_of_range_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        GramCounter(lengths, 1)
