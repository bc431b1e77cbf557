"""How tokens cut numbers: the pattern of each, and from which end its pieces are counted off.

    number 1 2 3 4 5     tokens "12|345"     cut behind the second digit: bit 1 of the pattern is set

A number of L digits, L up to 8, has one of 2^(L - 1) patterns, and the counts of all 255 say everything about how such
numbers are split. Of longer ones only the sums are kept. Left or right: Singh & Strouse 2024, arXiv 2402.14903.
Shapes: `N` numbers of a block, `D` documents, `P` the 255 patterns, `K` pieces of all numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.tokenizer_statistics.cuts import Tokens
from operators.tokenizer_statistics.text_facts import Places, TextFacts

MAX_DIGITS = 8  # the longest numbers whose patterns are counted one by one
N_PATTERNS = 2**MAX_DIGITS - 1
LONG = ("long_numbers", "long_tokens", "long_whole", "long_left", "long_right", "long_even", "long_neither")

WHOLE, LEFT, RIGHT, EVEN, NEITHER = range(5)


@dataclass(frozen=True)
class NumberCuts:
    """document: of each number, `(N,)`. index: its place among the P patterns, -1 where it is longer.
    long: `(D, 7)`, sums over the longer numbers in the order of `LONG`."""

    document: Places
    index: Places
    long: Places


def number_cuts(tokens: Tokens, facts: TextFacts) -> NumberCuts:
    """How the numbers of a block are cut. Tokens without bytes cut nothing: digits are single bytes."""
    numbers = facts.numbers
    document, digits = numbers.documents(facts.bounds), numbers.end - numbers.start
    places = tokens.start[tokens.n_bytes > 0]
    cut = places[numbers.inside[places]]
    of = np.searchsorted(numbers.start, cut, side="right") - 1
    is_short = digits <= MAX_DIGITS
    bits = np.where(is_short[of], 1 << np.minimum(cut - numbers.start[of] - 1, MAX_DIGITS), 0)
    pattern = np.bincount(of, bits, minlength=len(digits)).astype(np.int64)
    index = np.where(is_short, (1 << np.minimum(digits - 1, MAX_DIGITS)) - 1 + pattern, -1)

    long = np.zeros((len(facts.texts), len(LONG)), np.int64)
    longer = np.flatnonzero(~is_short)
    edges = np.sort(np.concatenate([numbers.start[longer], cut[~is_short[of]]]))
    if len(longer):
        opens = np.searchsorted(edges, numbers.start[longer])
        sizes, ways = directions(edges, opens, numbers.end[longer])
        values = np.zeros((len(longer), len(LONG)), np.int64)
        values[:, 0], values[:, 1] = 1, sizes
        values[np.arange(len(longer)), 2 + ways] = 1
        np.add.at(long, document[longer], values)
    return NumberCuts(document, index, long)


def directions(edges: Places, opens: Places, end: Places) -> tuple[Places, Places]:
    """Pieces of each number, and from which end it is cut, both `(N,)`.

    edges: the first digit of every piece, `(K,)`. opens: which piece is the first of each number. end: of each number.

    WHOLE: one piece. LEFT: every piece but the last is as long as the longest, the last is shorter (12|34|5).
    RIGHT: every piece but the first is, the first is shorter (1|23|45). EVEN: all are equally long, so that both ends
    give the same. NEITHER: anything else.
    """
    closes = np.append(opens[1:], len(edges)) - 1
    length = np.diff(edges, append=0)
    length[closes] = end - edges[closes]
    longest = np.maximum.reduceat(length, opens)
    n_pieces = closes - opens + 1
    n_longest = np.add.reduceat(length == np.repeat(longest, n_pieces), opens, dtype=np.int64)
    all_but_one = n_longest == n_pieces - 1
    ways = np.select(
        [n_pieces == 1, n_longest == n_pieces, all_but_one & (length[closes] < longest),
         all_but_one & (length[opens] < longest)],
        [WHOLE, EVEN, LEFT, RIGHT],
        NEITHER,
    )  # fmt: skip
    return n_pieces, ways


@dataclass(frozen=True)
class PatternFacts:
    """Of each of the P patterns: digits, pieces, and from which end it is cut."""

    digits: Places
    pieces: Places
    direction: Places

    @classmethod
    def make(cls) -> PatternFacts:
        digits = np.repeat(np.arange(1, MAX_DIGITS + 1), 2 ** np.arange(MAX_DIGITS))
        patterns = np.arange(N_PATTERNS) + 1 - 2 ** (digits - 1)
        ends = np.cumsum(digits)
        place = np.arange(ends[-1]) - np.repeat(ends - digits, digits)  # of every digit in its number
        is_cut = (np.repeat(patterns, digits) >> np.maximum(place - 1, 0)) & 1 == 1
        edges = np.flatnonzero((place == 0) | is_cut)
        pieces, ways = directions(edges, np.searchsorted(edges, ends - digits), ends)
        return cls(digits, pieces, ways)


PATTERNS = PatternFacts.make()
