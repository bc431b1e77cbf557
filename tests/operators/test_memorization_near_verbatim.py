"""Near-verbatim spans against their definition, tried on every stretch of short sequences."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from operators.memorization.near_verbatim import FOUND, STOPS, near_verbatim
from operators.memorization.search import Search

Flags = npt.NDArray[np.bool_]


def defined(hits: Flags, misses: Fraction) -> list[tuple[int, int]]:
    """Ruzzo and Tompa's definition: stretches that score more than any inside, and lie in no other such stretch."""
    total = [Fraction(0)]
    for hit in hits:
        total.append(total[-1] + (misses if hit else misses - 1))
    places = range(len(total))
    good = set()
    for i in places:
        for j in places[i + 1 :]:
            score = total[j] - total[i]
            within = (total[b] - total[a] for a in range(i, j) for b in range(a + 1, j + 1) if (a, b) != (i, j))
            if score > 0 and all(each < score for each in within):
                good.add((i, j))
    return sorted(s for s in good if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in good))


def spans(hits: Flags, misses: Fraction) -> list[tuple[int, int, int]]:
    """Position, tokens and misses of every span of one document."""
    found = near_verbatim(table([(7, np.flatnonzero(~hits).tolist(), [-1, len(hits)])]), misses, 1)
    return list(zip(*(found[name].to_pylist() for name in FOUND.names[1:]), strict=True))


def table(rows: list[tuple[int, list[int], list[int]]]) -> pa.Table:
    """doc_id, soft stops, hard stops."""
    stops = [sorted([2 * s for s in soft] + [2 * h + 1 for h in hard]) for _, soft, hard in rows]
    return pa.table([[doc_id for doc_id, _, _ in rows], stops], schema=STOPS)


SHARES = tuple(map(Fraction, ("0.1", "0.25", "1/3", "0.5", "0.6")))


@pytest.mark.parametrize("seed", range(5))
def test_spans_are_the_maximal_scoring_stretches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(120):
        hits = rng.random(rng.integers(1, 14)) < rng.choice([0.3, 0.6, 0.9])
        misses = SHARES[rng.integers(len(SHARES))]
        found = spans(hits, misses)
        assert [(position, position + size) for position, size, _ in found] == defined(hits, misses)
        count += len(found)
        for position, size, missed in found:
            inside = hits[position : position + size]
            assert missed == (~inside).sum() < misses * size
            assert inside[0]
            assert inside[-1]
    assert count > 100


def test_every_sequence_of_ten() -> None:
    for number in range(1 << 10):
        hits = np.array([number >> bit & 1 for bit in range(10)], np.bool_)
        found = spans(hits, Fraction(3, 10))
        assert [(position, position + size) for position, size, _ in found] == defined(hits, Fraction(3, 10))


def test_without_a_share_for_misses_spans_are_runs() -> None:
    hits = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], np.bool_)
    assert spans(hits, Fraction(0)) == [(0, 2, 0), (3, 3, 0), (8, 1, 0)]
    assert spans(np.zeros(3, np.bool_), Fraction(0)) == spans(np.zeros(3, np.bool_), Fraction(1, 2)) == []


def test_a_miss_is_bridged_where_the_hits_beyond_it_pay() -> None:
    """At a tenth a miss costs nine hits: 9 + 1 + 10 are not joined, for the nine alone are worth as much; 10 are."""
    tied = np.array([1] * 9 + [0] + [1] * 10, np.bool_)
    assert spans(tied, Fraction(1, 10)) == [(0, 9, 0), (10, 10, 0)]
    paid = np.array([1] * 10 + [0] + [1] * 10, np.bool_)
    assert spans(paid, Fraction(1, 10)) == [(0, 21, 1)]
    # What is missed beside a verbatim run is not swallowed, though the share would allow for it.
    beside = np.array([0, 1, 0, 1, 0] + [1] * 60 + [0, 1, 0, 0, 1], np.bool_)
    assert (5, 60, 0) in spans(beside, Fraction(1, 10))


@pytest.mark.parametrize("seed", range(4))
def test_documents_keep_their_spans_of_enough_tokens(seed: int) -> None:
    """Passing over parts that hold no span long enough loses none; nothing is bridged over a hard stop."""
    rng = np.random.default_rng(seed)
    misses, least = SHARES[seed], (1, 2, 5, 9)[seed]
    rows, expected = [], []
    for doc_id in rng.choice(1 << 40, 150, replace=False).tolist():
        size, first = int(rng.integers(1, 40)), int(rng.integers(0, 3))
        hits = rng.random(size) < rng.choice([0.2, 0.6, 0.9])
        hard = rng.random(size) < 0.08
        soft = ~hits & ~hard
        rows.append((doc_id, (first + np.flatnonzero(soft)).tolist(),
                     [first - 1, *(first + np.flatnonzero(hard)).tolist(), first + size]))  # fmt: skip
        bounds = [-1, *np.flatnonzero(hard).tolist(), size]
        for start, end in pairwise(bounds):
            for a, b in defined(hits[start + 1 : end], misses):
                if b - a >= least:
                    place = start + 1 + a
                    missed = int((~hits[place : place + b - a]).sum())
                    expected.append(
                        {"doc_id": doc_id, "position": first + place, "n_tokens": b - a, "n_misses": missed}
                    )
    found = near_verbatim(table(rows), misses, least)
    assert found.schema == FOUND
    assert found.to_pylist() == expected
    assert len(expected) > 20
    chunked = pa.concat_tables([table(rows[:70]), table(rows[70:])])
    assert near_verbatim(chunked, misses, least).equals(found)


def test_a_share_of_many_digits_is_no_other() -> None:
    """Scores are whole numbers of 64 bits: with a share of sixteen digits they would not fit."""
    rng = np.random.default_rng(0)
    hits = rng.random(20_000) < 0.8
    third = spans(hits, Search(misses=1 / 3).most_misses)
    assert third == spans(hits, Fraction(1, 3))
    for position, size, missed in spans(hits, Search(misses=0.2000000123456789).most_misses):
        assert missed == (~hits[position : position + size]).sum() < 0.2000000123456789 * size


def test_no_documents_and_nothing_that_makes_sense() -> None:
    assert near_verbatim(STOPS.empty_table(), Fraction(1, 10), 5).num_rows == 0
    assert near_verbatim(table([(1, [0], [-1, 1])]), Fraction(1, 10), 1).num_rows == 0
    for misses, least in ((Fraction(1), 5), (Fraction(-1), 5), (Fraction(1, 10), 0)):
        with pytest.raises(ValueError, match="expected a share below 1"):
            near_verbatim(STOPS.empty_table(), misses, least)


def test_a_long_document_that_is_half_known() -> None:
    """A million tokens, hits and misses by turns of every length: time is linear in the runs."""
    rng = np.random.default_rng(0)
    hits = np.repeat(np.arange(200_000) % 2 == 0, rng.integers(1, 10, 200_000))
    doc = table([(1, np.flatnonzero(~hits).tolist(), [-1, len(hits)])])
    found = near_verbatim(doc, Fraction(1, 2), 20)
    ends = found["position"].to_numpy() + found["n_tokens"].to_numpy()
    assert (found["position"].to_numpy()[1:] >= ends[:-1]).all()
    assert (2 * found["n_misses"].to_numpy() < found["n_tokens"].to_numpy()).all()
    assert len(found) > 10
