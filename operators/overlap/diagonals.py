"""From n-grams that a text and a benchmark share, the longest stretches of words that they share.

    pairs (word w of the texts, place p in the benchmark) -> runs along a diagonal p - w -> joined and extended -> spans

A diagonal holds what matches when the benchmark is laid over the texts at one shift. Pairs in a row on it are a run;
a run is extended word by word, through n-grams that start no pair of their own, until words differ or the text or the
item ends. Each diagonal is walked once: a run reaches to the next at most, and only the first looks back.
Shapes: `R` runs or spans, `A` those still extended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.overlap.words import Flags, Ids, ranges, running

PAIRS_AT_ONCE = 1 << 20
_LOOKS_AT_ONCE = 1 << 20
_FIRST_LOOK = 8

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Spans:
    """Stretches of words: `[w, w_end)` of the texts is the benchmark from place `p` on. `(R,)` each."""

    w: Ids
    w_end: Ids
    p: Ids

    def __len__(self) -> int:
        return len(self.w)

    def chosen(self, which: Ids | Flags) -> Spans:
        return Spans(self.w[which], self.w_end[which], self.p[which])


@dataclass(frozen=True)
class Sequence:
    """Numbers of words, one text or item after the other; `bounds`: where each starts, and the end."""

    number: Numbers
    bounds: Ids

    def part_of(self, places: Ids) -> Ids:
        return np.searchsorted(self.bounds, places, side="right") - 1


@dataclass(frozen=True)
class Places:
    """Of n-grams: `postings[first[i] : first[i] + count[i]]`."""

    postings: npt.NDArray[np.integer]
    first: Ids
    count: Ids


def differs(one: Numbers, at: Ids, other: Numbers, other_at: Ids, n: int) -> Flags:
    """Whether the n words from one place are not those from the other. `(A,)`"""
    differ: Flags = np.zeros(len(at), np.bool_)
    left = np.arange(len(at))
    for step in range(n):
        if not len(left):
            break
        same = one[at[left] + step] == other[other_at[left] + step]
        differ[left[~same]] = True
        left = left[same]
    return differ


def runs(seed_w: Ids, places: Places, n: int, texts: Sequence, items: Sequence) -> Spans:
    """The runs of all pairs of `seed_w[i]` (ascending) with its places in the benchmark, some pairs at a time."""
    first, count = places.first, places.count
    parts = []
    ends = np.cumsum(count)
    start = 0
    while start < len(seed_w):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        w = np.repeat(seed_w[start:stop], count[start:stop])
        p = places.postings[ranges(first[start:stop], count[start:stop])].astype(np.int64)
        parts.append(_runs(w, p, n, texts, items))
        start = stop
    none = np.empty(0, np.int64)
    columns = [[none, *(getattr(part, name) for part in parts)] for name in ("w", "w_end", "p")]
    return Spans(*(np.concatenate(column) for column in columns))


def _runs(w: Ids, p: Ids, n: int, texts: Sequence, items: Sequence) -> Spans:
    order = np.lexsort((w, p - w))
    w, p = w[order], p[order]
    starts = np.ones(len(w), np.bool_)
    starts[1:] = (p[1:] - w[1:] != p[:-1] - w[:-1]) | (w[1:] != w[:-1] + 1)
    if n == 1:  # the last word of an item or text and the first of the next: a longer n-gram never starts at the last
        for places, sequence in ((p, items), (w, texts)):
            owner = sequence.part_of(places)
            starts[1:] |= owner[1:] != owner[:-1]
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(w)) - 1
    return Spans(w[first], w[last] + n, p[first])


def spans(found: Spans, texts: Sequence, items: Sequence) -> Spans:
    """The maximal matches that hold one of these runs, each once."""
    text, item = texts.part_of(found.w), items.part_of(found.p)
    order = np.lexsort((found.w, text, item, found.p - found.w))
    found, text, item = found.chosen(order), text[order], item[order]
    if not len(found):
        return found
    shift = found.p - found.w
    follows = np.zeros(len(found), np.bool_)  # on the diagonal of the run before, in the same text and item
    follows[1:] = (shift[1:] == shift[:-1]) & (text[1:] == text[:-1]) & (item[1:] == item[:-1])
    room = np.minimum(texts.bounds[text + 1] - found.w_end, items.bounds[item + 1] - shift - found.w_end)
    to_next = np.append(found.w[1:] - found.w_end[:-1], 0)
    has_next = np.append(follows[1:], False)
    room = np.where(has_next, np.minimum(room, np.maximum(to_next, 0)), room)
    reach = _same_words(texts, found.w_end, items, found.w_end + shift, room, 1)
    joins_next = has_next & (reach >= to_next)
    first = np.flatnonzero(~np.concatenate([np.zeros(1, np.bool_), joins_next[:-1]]))
    last = np.append(first[1:], len(found)) - 1
    w, w_end = found.w[first], (found.w_end + reach)[last]
    text, item, shift = text[first], item[first], shift[first]
    room = np.minimum(w - texts.bounds[text], w + shift - items.bounds[item])
    back = _same_words(texts, w - 1, items, w + shift - 1, room, -1)
    return Spans(w - back, w_end, w - back + shift)


def _same_words(one: Sequence, at: Ids, other: Sequence, other_at: Ids, room: Ids, step: int) -> Ids:
    """How many words are the same from two places on, in the direction of `step`, `room` at most. `(R,)`

    It looks at few words of each first, and at more and more of those that go on.
    """
    same = np.zeros(len(at), np.int64)
    left = np.flatnonzero(room > 0)
    look = _FIRST_LOOK
    while len(left):
        width = max(1, min(look, _LOOKS_AT_ONCE // len(left)))
        looks = np.minimum(room[left] - same[left], width)
        # Every look as one row of a ragged table: its words, and where the first of them differs.
        bounds = running(looks)
        steps = ranges(np.zeros(len(left), np.int64), looks)
        done = np.repeat(same[left], looks) + steps
        here = one.number[np.repeat(at[left], looks) + step * done]
        there = other.number[np.repeat(other_at[left], looks) + step * done]
        # A word that the benchmark lacks has no number, and is like none.
        until = np.where(here == there, np.iinfo(np.int64).max, steps)
        equal = np.minimum(np.minimum.reduceat(until, bounds[:-1]), looks)
        same[left] += equal
        left = left[(equal == looks) & (same[left] < room[left])]
        look *= 4
    return same
