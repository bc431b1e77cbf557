"""Adds up what all units of a corpus hold of a benchmark: for each item and part, what was seen and what is longest.

Order of units does not matter, none counts twice, and totals of some units may be merged with those of others. Held in
memory: a bit for each distinct n-gram, and 64 bytes an item; so some 80 MB for a million items of 100 words. `overlaps`
takes a bit more for each word, and the words of some items at a time.

What a part's numbers are: `n_seen` counts places, so an n-gram that an item has twice counts twice. The longest match
of `input` and of `answer` is the longest piece of a match that lies in it: a match has n words or more, its piece may
have fewer. `across` has the matches that touch both, whole. Of equally long matches the first in the item is given. An
n-gram that was seen, but too common to start a span (`match`), is a match of n words in a document at least.
Shapes: `I` items, `R` spans of a unit, `N` words of all items, `J` items of a table, `P` its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.overlap.bits import get_bits, set_bits
from operators.overlap.index import BenchmarkIndex
from operators.overlap.item_rows import PARTS, item_rows
from operators.overlap.match_rows import ACROSS, ALL, ANSWER, INPUT
from operators.overlap.matches import MatchCounts, Matches
from operators.overlap.words import Bytes, Flags, Ids, ranges
from operators.tokenize import DocumentTokenizer

_GRAMS_AT_ONCE = 1 << 20
_WORDS_AT_ONCE = 1 << 22


@dataclass
class PartTotals:
    """Of one part of every item, `(I,)` each. `longest`: words; `first`: of the item's words the match's first."""

    longest: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    documents: npt.NDArray[np.int32]

    @classmethod
    def none(cls, items: int) -> PartTotals:
        return cls(*(np.zeros(items, np.int32) for _ in range(3)))

    def add(self, item: Ids, first: Ids, length: Ids, doc_id: Ids) -> None:
        """Matches, whose documents were not added before."""
        self.lengthen(item, first, length)
        order = np.lexsort((doc_id, item))
        own = order[_opens(item[order]) | _opens(doc_id[order])]
        self.documents += np.bincount(item[own], minlength=len(self.documents)).astype(np.int32)

    def lengthen(self, item: Ids, first: Ids, length: Ids) -> None:
        """Matches, of whichever documents: the longest of each item counts."""
        order = np.lexsort((first, -length, item))
        own = order[_opens(item[order])]
        self._take_longer(item[own], first[own], length[own])

    def merge(self, other: PartTotals) -> None:
        held = np.flatnonzero(other.longest)
        self._take_longer(held, other.first[held], other.longest[held])
        self.documents += other.documents

    def _take_longer(self, item: Ids, first: npt.NDArray[np.integer], length: npt.NDArray[np.integer]) -> None:
        """One match of each of these items."""
        held, held_first = self.longest[item], self.first[item]
        better = (length > held) | ((length == held) & (first < held_first))
        self.longest[item[better]], self.first[item[better]] = length[better], first[better]


def _opens(values: Ids) -> Flags:
    """Where a value is not the one before it."""
    opens: Flags = np.ones(len(values), np.bool_)
    opens[1:] = values[1:] != values[:-1]
    return opens


@dataclass
class Totals:
    """Of a benchmark and the units added so far. `tokenizer`: where words are its ids."""

    index: BenchmarkIndex
    tokenizer: DocumentTokenizer | None = None
    counts: MatchCounts = field(default_factory=MatchCounts)
    _units: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.parts = {part: PartTotals.none(self.index.n_items) for part in PARTS}
        self._seen: Bytes = np.zeros(self.index.n_grams // 8 + 1, np.uint8)
        self._by_id = np.argsort(self.index.item_ids_I, kind="stable")
        self._sorted_ids = np.asarray(self.index.item_ids_I)[self._by_id]

    @property
    def units(self) -> frozenset[int]:
        return frozenset(self._units)

    def add(self, unit: int, matches: Matches) -> bool:
        """Add what a unit's documents hold; False where that unit was added before, and nothing is changed.

        Raises:
            ValueError: they are of another benchmark.
        """
        if unit in self._units:
            return False
        self._add_spans(matches.spans)
        if len(matches.seen) and not 0 <= matches.seen[0] <= matches.seen[-1] < self.index.n_grams:
            raise ValueError(f"unit {unit} saw n-grams that the benchmark does not have")
        set_bits(self._seen, matches.seen)
        self.counts += matches.counts
        self._units.add(unit)
        return True

    def merge(self, other: Totals) -> None:
        """Add the totals of other units.

        Raises:
            ValueError: a unit is in both, or they are of another benchmark.
        """
        both = self._units & other._units
        if both or self.index.digest != other.index.digest:
            raise ValueError(f"totals of other items, or of the same units: {sorted(both)[:5]}")
        for part, totals in self.parts.items():
            totals.merge(other.parts[part])
        self._seen |= other._seen
        self.counts += other.counts
        self._units |= other._units

    def _add_spans(self, found: pa.Table) -> None:
        if not len(found):
            return
        ids = found["item_id"].to_numpy()
        place = np.minimum(np.searchsorted(self._sorted_ids, ids), self.index.n_items - 1)
        if (self._sorted_ids[place] != ids).any():
            raise ValueError("spans of items that the benchmark does not have")
        item, doc_id = self._by_id[place], found["doc_id"].to_numpy()
        first = found["item_word"].to_numpy()
        last = first + found["n_words"].to_numpy()
        for part, (start, end) in self._pieces(item, first, last).items():
            held = end > start
            self.parts[part].add(item[held], start[held], (end - start)[held], doc_id[held])

    def _pieces(self, item: Ids, first: Ids, last: Ids) -> dict[str, tuple[Ids, Ids]]:
        """By part what of words `[first, last)` of items lies in it; nothing where the end is not behind the start."""
        border = np.asarray(self.index.inputs_I)[item].astype(np.int64)
        is_across = (first < border) & (border < last)
        return {
            INPUT: (first, np.minimum(last, border)),
            ANSWER: (np.maximum(first, border), last),
            ACROSS: (first, np.where(is_across, last, first)),
            ALL: (first, last),
        }

    def overlaps(self, rows: int = 1 << 16) -> Iterator[pa.Table]:
        """`overlap_items` in tables of at most `rows` rows, sorted over all of them; four rows an item at most."""
        seen_N = self._seen_places()
        sizes = np.diff(self.index.bounds)
        first = 0
        while first < self.index.n_items:
            last = min(first + max(1, rows // len(PARTS)), self.index.n_items)
            n_words = np.cumsum(sizes[self._by_id[first:last]])
            last = first + max(1, int(np.searchsorted(n_words, _WORDS_AT_ONCE, side="right")))
            last = min(last, first + len(n_words))
            items = self._by_id[first:last]
            owner, word = self._seen_in(items, seen_N)
            self._lengthen(items[owner], word)
            yield item_rows(self.index, items, self._n_seen(items, owner, word), self.parts, self.tokenizer)
            first = last

    def _seen_places(self) -> Bytes:
        """A bit for each word of the benchmark: set where an n-gram starts that was seen. `(N / 8,)`"""
        index = self.index
        seen_N: Bytes = np.zeros(index.n_words // 8 + 1, np.uint8)
        for first in range(0, index.n_grams, _GRAMS_AT_ONCE):
            last = min(first + _GRAMS_AT_ONCE, index.n_grams)
            gram = first + np.flatnonzero(get_bits(self._seen, np.arange(first, last)))
            places = index.postings[ranges(index.firsts[gram], index.firsts[gram + 1] - index.firsts[gram])]
            set_bits(seen_N, np.sort(places.astype(np.int64)))
        return seen_N

    def _seen_in(self, items: Ids, seen_N: Bytes) -> tuple[Ids, Ids]:
        """The n-grams of some items that were seen: which of the items (0 to J - 1), and their first words in it."""
        first = np.asarray(self.index.bounds[items])
        sizes = np.asarray(self.index.bounds[items + 1]) - first
        place = ranges(first, sizes)
        owner = np.repeat(np.arange(len(items)), sizes)[seen := get_bits(seen_N, place)]
        return owner, place[seen] - first[owner]

    def _lengthen(self, item: Ids, word: Ids) -> None:
        """An n-gram that was seen is a match of n words, also where it was too common to start a span."""
        for part, (start, end) in self._pieces(item, word, word + self.index.n).items():
            held = (end > start) & (end - start >= self.parts[part].longest[item])
            self.parts[part].lengthen(item[held], start[held], (end - start)[held])

    def _n_seen(self, items: Ids, owner: Ids, word: Ids) -> dict[str, Ids]:
        """By part, how many n-grams of each item were seen. `(J,)`"""
        border = self.index.inputs_I[items].astype(np.int64)[owner]
        is_input, is_answer = word + self.index.n <= border, word >= border
        chosen = {INPUT: is_input, ANSWER: is_answer, ACROSS: ~(is_input | is_answer), ALL: np.ones_like(is_input)}
        return {part: np.bincount(owner[which], minlength=len(items)) for part, which in chosen.items()}
