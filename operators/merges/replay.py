"""Applies the merges of a tokenizer to the words of a corpus, step by step, and tells which pairs came and went.

    words -> symbols in one array, linked to their neighbours -> merge after merge: places of the pair -> events

A merge touches only the places where its pair stands: they were noted when the pair came to be, so the whole replay
costs the number of symbols merged, not merges times text. Places are taken left to right, and in `aaa` the pair `a a`
is merged at the first place, as the encoder does. Symbols that the vocabulary does not hold take part in no pair.
Memory: 16 bytes a symbol of the distinct words and 4 bytes a place; a million words of eight symbols take 250 MB.

Letters: `N` symbols of all distinct words, `K` places of one merge, `E` events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.merges.bpe import Bpe, Integers

Places = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Events:
    """What one merge (or, with step -1, the beginning) did: pairs as codes, and the word each stands in, [E] each."""

    step: int
    created: Integers
    created_word: Places
    destroyed: Integers
    destroyed_word: Places


class Replay:
    """The symbols of a list of words, while merges are applied. `bpe`: whose merges. `words`: [W] distinct."""

    def __init__(self, bpe: Bpe, words: pa.Array, max_steps: int) -> None:
        self.bpe = bpe
        self.symbol, self.word = _symbols(bpe, words)
        n = len(self.symbol)
        self.next, self.previous = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
        joined = np.flatnonzero(
            (self.word[1:] == self.word[:-1]) & (self.symbol[1:] >= 0) & (self.symbol[:-1] >= 0)
        ).astype(np.int32)
        self.next[joined], self.previous[joined + 1] = joined + 1, joined
        self.n_merges = int(np.searchsorted(bpe.step, max_steps))
        codes = bpe.codes[: self.n_merges]
        self.sorted_codes, first = np.unique(codes[::-1], return_index=True)  # a pair merged twice: the later place
        self.merge_of = self.n_merges - 1 - first
        self.earlier = _earlier(codes)
        self.places: dict[int, list[Places]] = {}
        self.initial = joined

    def run(self) -> Iterator[Events]:
        """The beginning, then every merge that stands anywhere, in order."""
        nothing, nowhere = np.empty(0, np.int64), np.empty(0, np.int32)
        codes = self._codes(self.initial)
        self._note(-1, codes, self.initial)
        yield Events(-1, codes, self.word[self.initial], nothing, nowhere)
        for merge in range(self.n_merges):
            chunks = self.places.pop(merge, None)
            if chunks is None:
                continue
            places = self._alive(merge, np.unique(np.concatenate(chunks)))
            if len(places):
                yield self._apply(merge, places)

    def _codes(self, places: Places) -> Integers:
        left = self.symbol[places].astype(np.int64)
        return np.asarray(left * self.bpe.width + self.symbol[self.next[places]], np.int64)

    def _alive(self, merge: int, places: Places) -> Places:
        """Of noted places those where the pair still stands; of overlapping ones every other."""
        left, right = self.bpe.left[merge], self.bpe.right[merge]
        places = places[(self.symbol[places] == left) & (self.next[places] >= 0)]
        places = places[self.symbol[self.next[places]] == right]
        if left != right or len(places) < 2:
            return places
        starts = np.ones(len(places), np.bool_)
        starts[1:] = self.next[places[:-1]] != places[1:]
        run = np.flatnonzero(starts)
        within = np.arange(len(places)) - np.repeat(run, np.diff(np.append(run, len(places))))
        return np.asarray(places[within % 2 == 0], np.int32)

    def _apply(self, merge: int, places_K: Places) -> Events:
        """Merge at `places_K`, ascending and apart; old pairs go, new ones come."""
        second_K = self.next[places_K]
        before_K, after_K = self.previous[places_K], self.next[second_K]
        follows_K = np.zeros(len(places_K), np.bool_)  # the pair before this one is merged too: `abab`
        follows_K[1:] = before_K[1:] == second_K[:-1]
        has_before = before_K >= 0
        has_after = after_K >= 0
        has_after[:-1] &= ~follows_K[1:]  # told by the pair that follows
        own_codes = self._codes(places_K)
        gone = np.concatenate([own_codes, self._codes(before_K[has_before]), self._codes(second_K[has_after])])
        word_K = self.word[places_K]
        gone_word = np.concatenate([word_K, word_K[has_before], word_K[has_after]])

        self.symbol[places_K] = self.bpe.result[merge]
        self.symbol[second_K] = -1
        self.next[second_K] = -1
        self.next[places_K] = after_K
        linked = after_K >= 0
        self.previous[after_K[linked]] = places_K[linked]

        before_new = self.previous[places_K[has_before]]
        come_at = np.concatenate([before_new, places_K[has_after]])
        come = self._codes(come_at)
        self._note(merge, come, come_at)
        return Events(int(self.bpe.step[merge]), come, self.word[come_at], gone, gone_word)

    def _note(self, merge: int, codes: Integers, places: Places) -> None:
        """Keep the places of pairs that a later merge is of."""
        found = np.searchsorted(self.sorted_codes, codes)
        found[found == len(self.sorted_codes)] = 0
        known = self.sorted_codes[found] == codes if len(self.sorted_codes) else np.zeros(len(codes), np.bool_)
        wanted = self.merge_of[found[known]]
        order = np.argsort(wanted, kind="stable")
        wanted, places = wanted[order], places[known][order]
        ends = np.flatnonzero(np.append(wanted[1:] != wanted[:-1], True)) + 1 if len(wanted) else np.empty(0, np.int64)
        start = 0
        for end in ends.tolist():
            target = self._target(int(wanted[start]), merge)
            if target is not None:
                self.places.setdefault(target, []).append(places[start:end])
            start = end

    def _target(self, wanted: int, merge: int) -> int | None:
        """The first merge of the same pair that is still to come, None where there is none."""
        target = None
        at: int | None = wanted
        while at is not None and at > merge:
            target, at = at, self.earlier.get(at)
        return target


def _earlier(codes: Integers) -> dict[int, int]:
    """Merges of a pair that was merged before: the place of the merge before. Few files have any."""
    last: dict[int, int] = {}
    earlier = {}
    _, inverse, n = np.unique(codes, return_inverse=True, return_counts=True)
    for place in np.flatnonzero(n[inverse] > 1).tolist() if len(codes) else ():
        code = int(codes[place])
        if code in last:
            earlier[place] = last[code]
        last[code] = place
    return earlier


def _symbols(bpe: Bpe, words: pa.Array) -> tuple[Places, Places]:
    """[N] the id of every character of every word, -1 without one; [N] its word."""
    lengths = pc.utf8_length(words).to_numpy(zero_copy_only=False).astype(np.int64)
    text = "".join(words.to_pylist())
    characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    word = np.repeat(np.arange(len(words), dtype=np.int32), lengths)
    ends = np.cumsum(lengths)[lengths > 0]
    first, last = np.zeros(len(characters), np.bool_), np.zeros(len(characters), np.bool_)
    first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    last[ends - 1] = True
    present = np.unique(characters)
    place = np.searchsorted(present, characters)
    symbol = np.empty(len(characters), np.int32)
    for is_first in (True, False):
        for is_last in (True, False):
            prefix, suffix = "" if is_first else bpe.prefix, bpe.suffix if is_last else ""
            ids = [bpe.vocabulary.get(f"{prefix}{chr(c)}{suffix}", -1) for c in present.tolist()]
            chosen = (first == is_first) & (last == is_last)
            symbol[chosen] = np.asarray(ids, np.int32)[place[chosen]]
    return symbol, word
