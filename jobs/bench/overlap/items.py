"""A made-up benchmark of questions with answers, and stretches of its items as a corpus may hold them.

An item is a row of plain words (letters or digits, some accented); what stands between them is kept beside them, so
that the bytes of any stretch are known. A plant is a stretch as it is put into a document, in one of these kinds:

    found       exact, case, punctuation, white space, decomposed (NFD), at the beginning or the end of a document,
                a whole item
    not found   a word changed in the middle, a number changed, one word too few, split over two documents,
                a whole item that is shorter than an n-gram

A match of `n` words or more through normalisation is to be found, and nothing else. A reserved word, which no item
holds, stands before and after each plant, so a match can neither be longer than what was planted nor join another one.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.bench.overlap.text import ACCENTED, COMPOUND, NAME, NOUN, NUMBER, Vocabulary, slots

LEAST_N = 10  # with fewer words, stretches of common words recur by chance in 1 GB

WHOLE, SPLIT, SHORT_ITEM = "whole item", "split over two documents", "item shorter than an n-gram"
AT_BEGIN, AT_END, MIDDLE = "at the beginning", "at the end", "in the middle"  # of the document: also places
EXACT, CASE, PUNCTUATION, SPACE, DECOMPOSED = "exact", "case", "punctuation", "white space", "decomposed"
CHANGED, NUMBER_CHANGED, ONE_SHORT = "a word changed", "a number changed", "one word too few"
FOUND = (EXACT, CASE, PUNCTUATION, SPACE, DECOMPOSED, AT_BEGIN, AT_END, WHOLE)
NOT_FOUND = (CHANGED, NUMBER_CHANGED, ONE_SHORT, SPLIT, SHORT_ITEM)

_SHORT_SHARE, _ACCENT_SHARE = 0.05, 0.4  # of the items; of their names
_JOINT = "\n"  # between input and answer where a document has both
_MARKS = (", ", "; ", ": ", " - ", "-", "/", " (", ") ", "... ", " “", "” ", " — ", "*", "_", " | ")
_SPACES = ("  ", "\n", "\t", "\r\n", " \n\n ", "\u00a0", "\u2003")
_TRIES = 10_000


@dataclass(frozen=True)
class Item:
    """`gaps[i]` stands between words `i` and `i + 1`; the first `n_input` words are the input."""

    words: tuple[str, ...]
    gaps: tuple[str, ...]
    n_input: int

    @property
    def input(self) -> str:
        return self.text(0, self.n_input) + "?"

    @property
    def answer(self) -> str:
        return self.text(self.n_input, len(self.words)) + "."

    def text(self, first: int, end: int) -> str:
        """The words `first` to `end - 1` with what is between them."""
        return join(self.words[first:end], self.gaps[first : end - 1])


def join(words: tuple[str, ...], gaps: tuple[str, ...]) -> str:
    return "".join(part for pair in zip(words, (*gaps, ""), strict=True) for part in pair)


class Benchmark:
    """`n_items` items; the first half of them may be planted, the second half stays clean.

    Inputs have n + 7 to 4n + 8 words, answers 1 to 2n, so that n-grams lie in either and across; one item in twenty has
    fewer than n words.
    """

    def __init__(self, vocabulary: Vocabulary, n_items: int, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, 2])
        self.vocabulary, self.n_items, self.n = vocabulary, n_items, n
        self.n_input = rng.integers(n + 7, 4 * n + 9, n_items)
        n_answer = rng.integers(1, 2 * n + 1, n_items)
        is_short = rng.random(n_items) < _SHORT_SHARE
        is_short[0] = True
        self.n_input[is_short] = rng.integers(1, n - 2, int(is_short.sum()))
        n_answer[is_short] = 1
        self.ends = np.cumsum(self.n_input + n_answer)
        n_words = int(self.ends[-1])
        classes = slots(vocabulary, rng, n_words // 4 + 1)[0][:n_words]  # a sentence has four words at least
        classes[classes == COMPOUND] = NOUN
        classes[(classes == NAME) & (rng.random(n_words, dtype=np.float32) < _ACCENT_SHARE)] = ACCENTED
        self.drawn = vocabulary.draw(rng, classes)
        self.commas = rng.random(n_words, dtype=np.float32) < 0.08

    def __getitem__(self, index: int) -> Item:
        start, end = self._bounds(index)
        words = [self.vocabulary.words[w] for w in self.drawn[start:end].tolist()]
        n_input = int(self.n_input[index])
        for first in (0, n_input):
            words[first] = words[first][:1].upper() + words[first][1:]
        gaps = [", " if comma else " " for comma in self.commas[start : end - 1].tolist()]
        gaps[n_input - 1] = _JOINT
        return Item(tuple(words), tuple(gaps), n_input)

    def key(self, index: int) -> str:
        return f"item-{index}"

    def write(self, path: Path) -> None:
        """As JSON lines with `id`, `input` and `answer`."""
        with path.open("w", encoding="utf-8") as file:
            for index in range(self.n_items):
                item = self[index]
                record = {"id": self.key(index), "input": item.input, "answer": item.answer}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def n_grams(self, index: int) -> dict[str, int]:
        """n-grams of an item by part; those that touch both input and answer are `across`."""
        start, end = self._bounds(index)
        n_input, total = int(self.n_input[index]), end - start
        whole, in_input, in_answer = (max(0, words - self.n + 1) for words in (total, n_input, total - n_input))
        return {"input": in_input, "answer": in_answer, "across": whole - in_input - in_answer, "all": whole}

    def places_of(self, index: int, word_class: int) -> list[int]:
        """Which words of an item are of a class."""
        start, end = self._bounds(index)
        found = self.vocabulary.is_of(word_class, self.drawn[start:end]).nonzero()[0]
        return [int(place) for place in found]

    def _bounds(self, index: int) -> tuple[int, int]:
        """Where the words of an item lie in those of all."""
        return (int(self.ends[index - 1]) if index else 0), int(self.ends[index])


@dataclass(frozen=True)
class Plant:
    """Words `first` to `first + n_words - 1` of an item: `before`, then `text` of them, then `after`."""

    kind: str
    item: int
    first: int
    n_words: int
    before: str
    text: str
    after: str
    place: str = MIDDLE


class Planter:
    """Makes plants, each kind in turn."""

    def __init__(self, benchmark: Benchmark, seed: int = 0) -> None:
        self.benchmark, self.n, self.dice = benchmark, benchmark.n, random.Random(seed)
        self.plantable = max(1, benchmark.n_items // 2)

    def plants(self) -> Iterator[tuple[Plant, ...]]:
        """Without end; two of one that is split: the end of one document and the beginning of the next.

        Raises:
            ValueError: no item that can be planted is of the form that a kind needs.
        """
        while True:
            for kind in (*FOUND, *NOT_FOUND):
                yield self._split() if kind == SPLIT else (self._plant(kind),)

    def _plant(self, kind: str) -> Plant:
        if kind in (WHOLE, SHORT_ITEM):
            index, item = self._item(lambda i: (len(i.words) < self.n) == (kind == SHORT_ITEM))
            return self._guarded(kind, index, 0, item.text(0, len(item.words)), len(item.words))
        if kind in (DECOMPOSED, NUMBER_CHANGED):
            return self._around(kind, ACCENTED if kind == DECOMPOSED else NUMBER)
        index, item = self._item()
        first, end = self._stretch(kind, len(item.words))
        words, gaps = item.words[first:end], item.gaps[first : end - 1]
        if kind == CHANGED:
            words = self._replaced(words, len(words) // 2, self._reserved())
        return self._guarded(kind, index, first, self._written(kind, words, gaps), end - first)

    def _stretch(self, kind: str, n_words: int) -> tuple[int, int]:
        """Which words: n - 1 of them, less than 2n where the middle one changes, else at least n, in half of them n."""
        if kind == ONE_SHORT:
            length = self.n - 1
        elif kind == CHANGED:
            length = self.dice.randint(self.n, min(2 * self.n - 1, n_words))
        else:
            length = self.n if self.dice.random() < 0.5 else self.dice.randint(self.n, n_words)
        first = self.dice.randint(0, n_words - length)
        return first, first + length

    def _written(self, kind: str, words: tuple[str, ...], gaps: tuple[str, ...]) -> str:
        """The stretch as the kind writes it, the same words to a normalisation."""
        if kind == CASE:
            change: Callable[[str], str] = self.dice.choice((str.upper, str.lower, str.title, str.swapcase))
            return change(join(words, gaps))
        if kind in (PUNCTUATION, SPACE):
            others = _MARKS if kind == PUNCTUATION else _SPACES
            gaps = tuple(self.dice.choice(others) for _ in gaps)
        return join(words, gaps)

    def _around(self, kind: str, word_class: int) -> Plant:
        """n words with one of a class among them: decomposed, or another number."""
        benchmark = self.benchmark

        def has_it(index: int, item: Item) -> bool:
            return len(item.words) >= self.n and bool(benchmark.places_of(index, word_class))

        index, item = self._item_where(has_it)
        place = self.dice.choice(benchmark.places_of(index, word_class))
        first = self.dice.randint(max(0, place - self.n + 1), min(place, len(item.words) - self.n))
        words, gaps = item.words[first : first + self.n], item.gaps[first : first + self.n - 1]
        if kind == NUMBER_CHANGED:  # numbers of items are below 10,000
            text = join(self._replaced(words, place - first, str(self.dice.randint(10_000, 99_999))), gaps)
        else:
            text = unicodedata.normalize("NFD", join(words, gaps))
        return self._guarded(kind, index, first, text, self.n)

    def _split(self) -> tuple[Plant, Plant]:
        """n words or more that cross the border of two documents, fewer than n in either."""
        index, item = self._item()
        length = self.dice.randint(self.n, min(2 * self.n - 2, len(item.words)))
        first = self.dice.randint(0, len(item.words) - length)
        cut = first + self.dice.randint(max(1, length - self.n + 1), min(length - 1, self.n - 1))
        end = first + length
        return (
            Plant(SPLIT, index, first, cut - first, self._reserved() + " ", item.text(first, cut), "", AT_END),
            Plant(SPLIT, index, cut, end - cut, "", item.text(cut, end), f" {self._reserved()}. ", AT_BEGIN),
        )

    def _guarded(self, kind: str, index: int, first: int, text: str, n_words: int) -> Plant:
        before, after = self._reserved().capitalize() + " ", f" {self._reserved()}. "
        place = kind if kind in (AT_BEGIN, AT_END) else MIDDLE
        if place == AT_BEGIN:
            before = ""
        elif place == AT_END:
            after = self.dice.choice(("", ".", "?\n"))
        return Plant(kind, index, first, n_words, before, text, after, place)

    def _item(self, fits: Callable[[Item], bool] | None = None) -> tuple[int, Item]:
        wanted = fits or (lambda item: len(item.words) >= self.n)
        return self._item_where(lambda _, item: wanted(item))

    def _item_where(self, fits: Callable[[int, Item], bool]) -> tuple[int, Item]:
        for _ in range(_TRIES):
            index = self.dice.randrange(self.plantable)
            item = self.benchmark[index]
            if fits(index, item):
                return index, item
        raise ValueError(f"none of {self.plantable:,} items can be planted in every way; more are needed")

    def _reserved(self) -> str:
        return self.dice.choice(self.benchmark.vocabulary.reserved)

    @staticmethod
    def _replaced(words: tuple[str, ...], at: int, word: str) -> tuple[str, ...]:
        return (*words[:at], word, *words[at + 1 :])
