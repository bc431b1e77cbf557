"""Counts every pair of a corpus at every step of a tokenizer's merges, and keeps where a count changes.

    replay.py events -> (pair, step, change) -> sorted once, summed along each pair -> change points

The count of a pair at step `i` is that before merge `i` is applied. Places that overlap (`aaa` holds `a a` twice) all
count, as trainers count them. A pair's count holds from one change point to the next.

A corpus of a million distinct words and 30,000 merges has some ten million change points: 16 bytes each kept, and about
five times that while they are sorted.
Letters: `P` pairs, `C` change points, `S` steps, `Q` queries, `G` groups of documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.merges.bpe import Bpe, Integers
from operators.merges.replay import Events, Places, Replay
from operators.merges.words import GROUPS, WordCounts

MAX_MERGES = 30_000

_EVENTS = 100_000  # at once, with the counts of their words in all groups: 25 MB


@dataclass(frozen=True)
class PairHistory:
    """The counts of a corpus' pairs while merging.

    Attributes:
        code: [P] pairs as codes (`Bpe.codes`), ascending.
        start: [P + 1] where the change points of a pair begin.
        step, count: [C] from this step on the pair has this count; ascending in each pair.
        chosen: [S] count of the pair that was merged, at its step.
        chosen_code, chosen_step: the pairs behind `chosen`, more than one a step in converted files.
        n_pairs: all pairs at the beginning. n_bytes: of the corpus, UTF-8.
    """

    code: Integers
    start: Integers
    step: Places
    count: Integers
    chosen: Integers
    chosen_code: Integers
    chosen_step: Integers
    n_pairs: int
    n_bytes: int

    @property
    def n_steps(self) -> int:
        return len(self.chosen)

    def at(self, codes: Integers, steps: Integers) -> Integers:
        """The counts of pairs at steps, 0 for pairs the corpus never holds."""
        if not len(self.code):
            return np.zeros(len(codes), np.int64)
        place = np.minimum(np.searchsorted(self.code, codes), len(self.code) - 1)
        width = self.n_steps + 2
        keys = np.repeat(np.arange(len(self.code)), np.diff(self.start)) * width + self.step
        found = np.searchsorted(keys, place * width + steps, side="right") - 1
        known = (self.code[place] == codes) & (found >= self.start[place])
        return np.where(known, self.count[np.maximum(found, 0)], 0)


def pair_history(bpe: Bpe, words: WordCounts, *, max_merges: int = MAX_MERGES) -> PairHistory:
    """Follow the first `max_merges` steps of the tokenizer over the words of a corpus."""
    distinct, counts_WG = words.matrix()
    weight = counts_WG.sum(axis=1)
    replay = Replay(bpe, distinct, max_merges)
    codes, steps, changes = _changes(replay, weight)
    n_pairs = int(changes[steps == 0].sum()) if len(steps) else 0
    code, start, step, count = _change_points(codes, steps, changes)
    n_steps = min(bpe.n_steps, max_merges)
    merges = slice(0, replay.n_merges)
    bare = PairHistory(
        code=code,
        start=start,
        step=step,
        count=count,
        chosen=np.zeros(n_steps, np.int64),
        chosen_code=bpe.codes[merges],
        chosen_step=bpe.step[merges],
        n_pairs=n_pairs,
        n_bytes=int(words.n_bytes.sum()),
    )
    np.add.at(bare.chosen, bare.chosen_step, bare.at(bare.chosen_code, bare.chosen_step))
    return bare


def _changes(replay: Replay, weight: Integers) -> tuple[Integers, Places, Integers]:
    """(code, step, change) in order of steps; a code may come more than once a step."""
    codes, sums, steps = [], [], []
    for events in replay.run():
        for sign, code, word in (
            (1, events.created, events.created_word),
            (-1, events.destroyed, events.destroyed_word),
        ):
            if not len(code):
                continue
            distinct, total = sum_by(code, weight[word])
            codes.append(distinct)
            sums.append(sign * total)
            steps.append(np.full(len(distinct), events.step + 1, np.int32))
    if not codes:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    return np.concatenate(codes), np.concatenate(steps), np.concatenate(sums)


def sum_by(code: Integers, values: npt.NDArray[np.int64]) -> tuple[Integers, Integers]:
    """The distinct codes, ascending, and the sum of the values (rows) of each."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return ordered[first], np.add.reduceat(values[order], first, axis=0)


def _change_points(codes: Integers, steps: Places, changes: Integers) -> tuple[Integers, Integers, Places, Integers]:
    """Changes in order of steps -> pairs, where each begins, and steps and counts where a count differs."""
    order = np.argsort(codes, kind="stable")
    codes, steps = codes[order], steps[order]
    count = np.cumsum(changes[order])
    last = np.append((codes[1:] != codes[:-1]) | (steps[1:] != steps[:-1]), True)[: len(codes)]
    codes, steps, count = codes[last], steps[last], count[last]
    first = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
    # All pairs end where they began, at the count that is left; the running sum is taken back to 0 at each pair.
    base = np.concatenate([np.zeros(1, np.int64), count])[:-1][first]
    count = count - np.repeat(base, np.diff(np.append(np.flatnonzero(first), len(codes))))
    before = np.concatenate([np.zeros(1, np.int64), count])[:-1]
    before[first] = 0
    kept = count != before
    codes, steps, count = codes[kept], steps[kept], count[kept]
    pairs, start = np.unique(codes, return_index=True)
    return pairs, np.append(start, len(codes)).astype(np.int64), steps, count


@dataclass(frozen=True)
class GroupCounts:
    """Counts apart for each group of documents.

    Attributes:
        count: [Q, G] of a pair at a step, as it was asked for.
        n_pairs, n_bytes, n_documents: [G].
    """

    count: Integers
    n_pairs: Integers
    n_bytes: Integers
    n_documents: Integers


@dataclass(frozen=True)
class Queries:
    """[Q] pairs and steps of which counts are wanted by group."""

    code: Integers
    step: Integers


def group_counts(bpe: Bpe, words: WordCounts, queries: Queries) -> GroupCounts:
    """Follow the merges again, and count what is asked for in every group of documents."""
    distinct, counts_WG = words.matrix()
    order = np.argsort(queries.step, kind="stable")
    asked = np.unique(queries.code)
    counting = _Counting(asked, counts_WG)
    answers = np.zeros((len(order), GROUPS), np.int64)
    rows = np.searchsorted(asked, queries.code[order])
    steps = queries.step[order]
    done, n_pairs = 0, np.zeros(GROUPS, np.int64)
    for events in _by_step(Replay(bpe, distinct, int(steps[-1]) + 1 if len(steps) else 0), steps):
        if isinstance(events, int):
            answers[done:events] = counting.now[rows[done:events]]
            done = events
            continue
        if events.step < 0:
            n_pairs = np.bincount(events.created_word, minlength=len(counts_WG)) @ counts_WG
        counting.add(1, events.created, events.created_word)
        counting.add(-1, events.destroyed, events.destroyed_word)
    restored = np.empty_like(answers)
    restored[order] = answers
    return GroupCounts(restored, n_pairs, words.n_bytes, words.n_documents)


def _by_step(replay: Replay, steps: Integers) -> Iterator[Events | int]:
    """Events, and between them how many queries (by ascending step) are to be answered before the next."""
    done, current = 0, -1
    for events in replay.run():
        if events.step > current:
            current = events.step
            answered = int(np.searchsorted(steps, current, side="right"))
            if answered > done:
                done = answered
                yield done
        yield events
    yield len(steps)


class _Counting:
    """The counts of the pairs that are asked for, in every group, as they stand."""

    def __init__(self, asked: Integers, counts_WG: Integers) -> None:
        self.asked, self.counts_WG = asked, counts_WG
        self.now = np.zeros((len(asked), GROUPS), np.int64)

    def add(self, sign: int, codes: Integers, words: Places) -> None:
        if not len(codes) or not len(self.asked):
            return
        place = np.minimum(np.searchsorted(self.asked, codes), len(self.asked) - 1)
        known = self.asked[place] == codes
        if not known.any():
            return
        place, words = place[known], words[known]
        for begin in range(0, len(place), _EVENTS):
            part = slice(begin, begin + _EVENTS)
            rows, total = sum_by(place[part], self.counts_WG[words[part]])
            self.now[rows] += sign * total
