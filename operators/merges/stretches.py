"""Lays the pair counts of several corpora side by side, and finds the constraints that a mixture violates most.

A pair's counts are constant over a stretch of steps `[begin, end)`, in every corpus at once. In a stretch the pair has
rivals only in the merges chosen there, and the worst of them is the one of the lowest mixed count: a range minimum. So
one pass over the stretches, with a sparse table over steps, looks at every constraint of the linear program.

    violation(c, i) = sum_l a_l c_l(i, c) / D_l - u_c - (sum_l a_l c_l(i, m_i) / D_l + v_i)

Stretches in which the pair is nowhere, in any corpus, above the lowest merge of that corpus can be violated by no
mixture; they are dropped at once. Memory: 20 bytes and 8 a corpus for a stretch that is kept, twice that while they
are made.

Letters: `L` corpora, `S` steps, `R` stretches, `P` pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.merges.bpe import Integers
from operators.merges.history import PairHistory

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stretches:
    """Stretches of constant counts, and the counts of the merges themselves.

    Attributes:
        code: [P] pairs that have a stretch.
        pair: [R] index into `code`. begin, end: [R] steps.
        share: [L][R] counts as shares of the corpus' pairs at the beginning (0 in a corpus without pairs).
        chosen: [L, S] the same of the merges.
    """

    code: Integers
    pair: Integers
    begin: Integers
    end: Integers
    share: tuple[Floats, ...]
    chosen: Floats


def lay_out(histories: Sequence[PairHistory]) -> Stretches:
    """The stretches of all pairs of all corpora that some mixture can violate."""
    n_steps = max((history.n_steps for history in histories), default=0)
    code, keys_by_corpus = _keys(histories, n_steps + 2)
    keys = np.unique(np.concatenate(keys_by_corpus)) if keys_by_corpus else np.empty(0, np.int64)
    pair, begin = np.divmod(keys, n_steps + 2)
    end = np.append(begin[1:], n_steps)
    end[np.append(pair[1:] != pair[:-1], True)[: len(end)]] = n_steps
    chosen = np.stack([history.chosen / max(1, history.n_pairs) for history in histories])
    shares, can_win = [], np.zeros(len(keys), np.bool_)
    alive = begin < end
    for history, own, merged in zip(histories, keys_by_corpus, chosen, strict=True):
        share = _filled(history, own, keys, pair, n_steps + 2) / max(1, history.n_pairs)
        shares.append(share)
        lowest = RangeMinimum(merged)
        can_win[alive] |= share[alive] > merged[lowest.argmin(begin[alive], end[alive])]
    kept_codes, pair = np.unique(pair[can_win], return_inverse=True)
    return Stretches(
        code[kept_codes], pair, begin[can_win], end[can_win], tuple(share[can_win] for share in shares), chosen
    )


def _keys(histories: Sequence[PairHistory], width: int) -> tuple[Integers, list[Integers]]:
    """All pairs, and of each corpus its change points as pair * width + step, ascending."""
    code = np.unique(np.concatenate([history.code for history in histories]))
    return code, [
        np.repeat(np.searchsorted(code, history.code), np.diff(history.start)) * width + history.step
        for history in histories
    ]


def _filled(history: PairHistory, own: Integers, keys: Integers, pair: Integers, width: int) -> Integers:
    """[R] the counts of one corpus at the change points of all."""
    if not len(own):
        return np.zeros(len(keys), np.int64)
    place = np.searchsorted(own, keys, side="right") - 1
    known = (place >= 0) & (own[np.maximum(place, 0)] // width == pair)
    return np.where(known, history.count[np.maximum(place, 0)], 0)


class RangeMinimum:
    """Where the least of values [S] lies in any range: a sparse table, S log S integers."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.levels = [np.arange(len(values))]
        while (1 << len(self.levels)) <= len(values):
            half = 1 << (len(self.levels) - 1)
            level = self.levels[-1]
            self.levels.append(self._lower(level[:-half], level[half:]))
        self.table = np.zeros((len(self.levels), len(values)), np.int64)
        for row, level in zip(self.table, self.levels, strict=True):
            row[: len(level)] = level

    def argmin(self, begin: Integers, end: Integers) -> Integers:
        """The first place of the least value in each `[begin, end)`, none of them empty."""
        level = np.frexp((end - begin).astype(np.float64))[1] - 1
        return self._lower(self.table[level, begin], self.table[level, end - (1 << level)])

    def _lower(self, first: Integers, second: Integers) -> Integers:
        return np.where(self.values[second] < self.values[first], second, first)


@dataclass(frozen=True)
class Violated:
    """Constraints, worst first: the pair (index into `Stretches.code`), the step, the stretch; how far from holding."""

    pair: Integers
    step: Integers
    stretch: Integers
    by: Floats

    @property
    def worst(self) -> float:
        return float(self.by[0]) if len(self.by) else 0.0


def violated(
    stretches: Stretches, mixture: Floats, slack_step: Floats, slack_pair: Floats, above: float, a_step: int, most: int
) -> Violated:
    """The constraints that a mixture and its slacks violate by more than `above`.

    Of each stretch its worst; of each step at most `a_step`, and `most` of all. None is returned only where none is.

    Args:
        mixture: [L] shares of pairs. slack_step: [S]. slack_pair: [P].
    """
    floor = mixture @ stretches.chosen + slack_step
    mixed = np.zeros(len(stretches.pair))
    for share, weight in zip(stretches.share, mixture, strict=True):
        if weight:
            mixed += weight * share
    mixed -= slack_pair[stretches.pair]
    candidates = np.flatnonzero(mixed > above)
    table = RangeMinimum(floor)
    step = table.argmin(stretches.begin[candidates], stretches.end[candidates])
    by = mixed[candidates] - floor[step]
    found = np.flatnonzero(by > above)
    found = found[np.argsort(-by[found], kind="stable")]
    found = found[_rank_in(step[found]) < a_step][:most]
    stretch = candidates[found]
    return Violated(stretches.pair[stretch], step[found], stretch, by[found])


def _rank_in(keys: Integers) -> Integers:
    """How many places before a place have its key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - np.repeat(first, np.diff(np.append(first, len(keys))))
    return rank
