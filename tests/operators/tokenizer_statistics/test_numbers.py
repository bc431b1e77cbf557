"""Patterns of numbers: every one of them, from which end it is cut, and numbers too long for a pattern."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.tokenizer_statistics.cuts import Tokens
from operators.tokenizer_statistics.numbers import (
    EVEN,
    LEFT,
    LONG,
    MAX_DIGITS,
    N_PATTERNS,
    NEITHER,
    PATTERNS,
    RIGHT,
    WHOLE,
    NumberCuts,
    number_cuts,
)
from operators.tokenizer_statistics.text_facts import TextFacts


def cuts_of(pieces: list[list[str]]) -> NumberCuts:
    """Documents given as the texts of their tokens."""
    facts = TextFacts.of(pa.array(["".join(each) for each in pieces], pa.large_string()))
    sizes = np.array([len(piece.encode()) for each in pieces for piece in each], np.int64)
    bounds = np.cumsum([0, *(len(each) for each in pieces)])
    starts = np.cumsum(sizes) - sizes
    return number_cuts(Tokens(np.zeros(len(sizes), np.int32), bounds, starts, sizes.astype(np.int16)), facts)


WAYS = [
    ("123", WHOLE),
    ("12|34|5", LEFT),
    ("123|4", LEFT),
    ("1|23|45", RIGHT),
    ("1|234", RIGHT),
    ("12|34", EVEN),
    ("1|2|3", EVEN),
    ("1|23|4", NEITHER),
    ("1|2|34", NEITHER),
    ("12|3|4", NEITHER),
]


@pytest.mark.parametrize(("split", "way"), WAYS)
def test_from_which_end(split: str, way: int) -> None:
    pieces = split.split("|")
    found = cuts_of([["x", *pieces, " "]])
    assert found.document.tolist() == [0]
    (index,) = found.index.tolist()
    digits = sum(map(len, pieces))
    assert (PATTERNS.digits[index], PATTERNS.pieces[index], PATTERNS.direction[index]) == (digits, len(pieces), way)


@pytest.mark.parametrize(
    ("split", "way"),
    [
        ("123456789", "long_whole"),
        ("123|456|789|0", "long_left"),
        ("1|234|567|890", "long_right"),
        ("123|456|789", "long_even"),
        ("1|23|456|7890", "long_neither"),
    ],
)
def test_numbers_too_long_for_a_pattern(split: str, way: str) -> None:
    pieces = split.split("|")
    found = cuts_of([["7"], ["-", *pieces, ".", "5"]])
    assert found.index.tolist()[1] == -1
    expected = dict.fromkeys(LONG, 0) | {"long_numbers": 1, "long_tokens": len(pieces), way: 1}
    assert found.long.tolist() == [[0] * len(LONG), [*expected.values()]]


def test_a_number_ends_with_its_document_and_tokens_may_reach_beyond_it() -> None:
    found = cuts_of([["a1", "2b"], ["3", "4 5"]])
    assert found.document.tolist() == [0, 1, 1]
    assert PATTERNS.digits[found.index].tolist() == [2, 2, 1]
    assert PATTERNS.pieces[found.index].tolist() == [2, 2, 1]


def test_there_is_a_pattern_for_every_way_to_cut() -> None:
    assert len(PATTERNS.digits) == N_PATTERNS == 255
    assert [(PATTERNS.digits == n).sum() for n in range(1, MAX_DIGITS + 1)] == [2 ** (n - 1) for n in range(1, 9)]
    assert PATTERNS.pieces[PATTERNS.digits == 8].sum() == 128 + 7 * 64
    assert PATTERNS.direction[0] == WHOLE


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=5))
def test_pieces_of_any_numbers_add_up(numbers: list[list[int]]) -> None:
    documents = [["9" * size for size in sizes] for sizes in numbers]
    found = cuts_of(documents)
    short = found.index[found.index >= 0]
    pieces = PATTERNS.pieces[short].sum() + found.long[:, 1].sum()
    assert pieces == sum(map(len, numbers))
    assert found.document.tolist() == [*range(len(numbers))]
