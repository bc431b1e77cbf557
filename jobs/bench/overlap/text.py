"""English-like text in quantity: sentences from templates, words by Zipf's law out of an invented vocabulary.

    templates (a small Markov chain over word classes) -> a word for every slot -> one gather of bytes -> documents

The share of common words, the lengths of words and documents, numbers, hyphens and apostrophes are near those of
English on the web. Half of the documents are typographic: curly quotes, dashes and accented names, so that readers take
the way for text beyond ASCII as often as they would there. Words are invented.
Letters: `W` words in a row, `P` pieces of text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

FUNCTION, NOUN, VERB, ADJECTIVE, ADVERB, NAME, ACCENTED, NUMBER, COMPOUND, END = range(10)

# What follows a class, and how often. Accented names stand in for names where a document is typographic.
_NEXT: Mapping[int, Mapping[int, float]] = {
    FUNCTION: {FUNCTION: 0.22, NOUN: 0.34, ADJECTIVE: 0.22, VERB: 0.1, NAME: 0.06, NUMBER: 0.03, ADVERB: 0.03},
    NOUN: {FUNCTION: 0.44, VERB: 0.24, NOUN: 0.12, ADVERB: 0.05, END: 0.15},
    VERB: {FUNCTION: 0.6, ADVERB: 0.1, NOUN: 0.12, ADJECTIVE: 0.08, VERB: 0.05, END: 0.05},
    ADJECTIVE: {NOUN: 0.78, ADJECTIVE: 0.08, COMPOUND: 0.06, FUNCTION: 0.08},
    ADVERB: {VERB: 0.4, ADJECTIVE: 0.2, FUNCTION: 0.3, END: 0.1},
    NAME: {VERB: 0.35, NAME: 0.2, FUNCTION: 0.35, END: 0.1},
    NUMBER: {NOUN: 0.8, FUNCTION: 0.2},
    COMPOUND: {NOUN: 0.3, FUNCTION: 0.5, END: 0.2},
}
_FIRST: Mapping[int, float] = {FUNCTION: 0.6, NAME: 0.15, NOUN: 0.1, ADVERB: 0.1, ADJECTIVE: 0.05}
_TEMPLATES, _SHORTEST, _LONGEST = 2048, 4, 45  # sentences that words are put into, and their words

_COMMON = """the of and to a in that is for it was on with as be by at this are from or an have not which but they his
    her you we their has had were been more when who will would can if no there all one so what up out about into than
    them some could other then its only time over also after two how our first may any such these now like"""
_FUNCTION_WORDS = _COMMON.split()
_SIZES = {NOUN: 24_000, VERB: 9_000, ADJECTIVE: 9_000, ADVERB: 3_000, NAME: 8_000, ACCENTED: 2_000}
_ENDINGS = {NOUN: ("", "", "", "s", "er"), VERB: ("", "", "s", "ed", "ing"), ADJECTIVE: ("", "al", "y"),
            ADVERB: ("ly",), NAME: ("", "a", "o"), ACCENTED: ("é", "ñe", "ür", "òs", "çal")}  # fmt: skip
_NUMBERS, _COMPOUNDS, _RESERVED = 3_000, 3_000, 64
_SYLLABLES = (
    "b br c c ch d d f g gr h l l m m n n p p pr r r s s st t t th tr v w|a a a e e e e i i i o o o u u ai ea ou"
)
_ONSETS, _NUCLEI = (sounds.split() for sounds in _SYLLABLES.split("|"))
_CODAS = ["n", "n", "r", "r", "s", "t", "l", "m", "d", "nd", "st", "ng", *[""] * 14]

# (text, how often of 256) between words and after sentences, by style: plain, typographic.
_GAPS = (
    ((" ", 232), (", ", 16), ("; ", 2), (" (", 2), (") ", 2), (": ", 2)),
    ((" ", 226), (", ", 16), ("; ", 2), (" — ", 4), ("’s ", 2), (" “", 3), ("” ", 3)),
)
_STOPS = (
    ((". ", 190), ("? ", 14), ("! ", 8), (".\n", 20), (".\n\n", 24)),
    ((". ", 180), ("? ", 14), ("… ", 8), (".” ", 10), (".\n\n", 44)),
)
_LAST = ((".", 200), ("!", 28), ("?", 28))

_LEVELS = 1 << 17  # of a table that turns a uniform number into a word
_MEDIAN_SENTENCES, _SPREAD = 14, 1.0  # of the log-normal number of a document's sentences
_SENTENCE_BYTES = 110  # about


@dataclass(frozen=True)
class Pieces:
    """Strings of bytes, one after the other in `data`."""

    data: Bytes
    starts_P: Small
    lengths_P: Small

    @classmethod
    def of(cls, texts: Sequence[str]) -> Pieces:
        encoded = [text.encode() for text in texts]
        lengths = np.array([len(text) for text in encoded], dtype=np.int32)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), (np.cumsum(lengths) - lengths).astype(np.int32), lengths)

    def joined(self, ids: npt.NDArray[np.integer]) -> tuple[Bytes, Ints]:
        """The pieces `ids` as one text, and where each ends in it. At most 2 GiB."""
        lengths = self.lengths_P[ids]
        ends = np.cumsum(lengths, dtype=np.int64)
        shift = self.starts_P[ids] - (ends - lengths).astype(np.int32)
        index = np.repeat(shift, lengths)
        index += np.arange(len(index), dtype=np.int32)
        return self.data[index], ends


class Vocabulary:
    """Words by class with how common they are, and what stands between them, as pieces of text.

    Piece `w` is word `w` as it is written within a sentence, piece `len(words) + w` the same at its beginning.
    `reserved`: words, in no text that is made here, that tell a planted stretch from what stands around it.
    """

    def __init__(self, seed: int = 0) -> None:
        dice = random.Random(seed)
        by_class, self.reserved = _words(dice)
        self.words = [word for words in by_class for word in words]
        firsts = np.cumsum([0, *(len(words) for words in by_class)])
        self.first_of_class = firsts
        self.table = np.stack(
            [first + _zipf(words) for first, words in zip(firsts[:-1], by_class, strict=True)]
        ).astype(np.int32)
        between, drawn = self._between()
        self.pieces = Pieces.of([*self.words, *(word[:1].upper() + word[1:] for word in self.words), *between])
        self.gaps, self.stops, self.last = drawn[:2], drawn[2:4], drawn[4]
        self.templates = [_template(dice) for _ in range(_TEMPLATES)]

    def _between(self) -> tuple[list[str], npt.NDArray[np.int32]]:
        """The texts between words, and a row of 256 ids of pieces for each way to draw them."""
        kinds = (*_GAPS, *_STOPS, _LAST)
        texts = [text for kind in kinds for text, _ in kind]
        counts = [[count for _, count in kind] for kind in kinds]
        ids = np.arange(len(texts)) + 2 * len(self.words)
        ends = np.cumsum([len(kind) for kind in kinds])[:-1]
        return texts, np.stack([np.repeat(i, c) for i, c in zip(np.split(ids, ends), counts, strict=True)])

    def draw(self, rng: np.random.Generator, classes_W: npt.NDArray[np.integer]) -> Small:
        """A word for every slot, `[W]`."""
        return np.asarray(self.table[classes_W, rng.integers(0, _LEVELS, len(classes_W), dtype=np.int32)])

    def is_of(self, word_class: int, words: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        first, end = self.first_of_class[word_class : word_class + 2]
        return np.asarray((words >= first) & (words < end))


def _words(dice: random.Random) -> tuple[list[list[str]], tuple[str, ...]]:
    """The words of every class, the commonest first, and the reserved ones; none twice."""
    taken = set(_FUNCTION_WORDS)

    def invent(syllables: int, ending: str) -> str:
        while True:
            parts = [dice.choice(part) for _ in range(syllables) for part in (_ONSETS, _NUCLEI, _CODAS)]
            word = "".join(parts) + ending
            if word not in taken:
                taken.add(word)
                return word

    def some(word_class: int, n: int) -> list[str]:
        made = [invent(1 + (rank > 60) + (rank > 4000), dice.choice(_ENDINGS[word_class])) for rank in range(n)]
        return [word.capitalize() for word in made] if word_class in (NAME, ACCENTED) else made

    by_class = [_FUNCTION_WORDS, *(some(word_class, n) for word_class, n in _SIZES.items())]
    numbers = [str(number) for number in dice.sample(range(10_000), _NUMBERS)]
    compounds = [dice.choice("--'.").join(dice.choices(by_class[NOUN], k=2)) for _ in range(_COMPOUNDS)]
    return [*by_class, numbers, compounds], tuple(invent(3, "ax") for _ in range(_RESERVED))


def _zipf(words: Sequence[str]) -> Ints:
    """Ranks from 0 on, each as often in `_LEVELS` as Mandelbrot's form of Zipf's law has it; function words lead."""
    n = len(words)
    share = 1 / (np.arange(n) + (2.7 if words is _FUNCTION_WORDS else 30)) ** 1.05
    middle = (np.arange(_LEVELS) + 0.5) / _LEVELS
    return np.minimum(np.searchsorted(np.cumsum(share) / share.sum(), middle), n - 1)


def _template(dice: random.Random) -> npt.NDArray[np.int8]:
    """The word classes of a sentence."""
    while True:
        classes: list[int] = []
        options = _FIRST
        while len(classes) < _LONGEST:
            (word_class,) = dice.choices(list(options), list(options.values()))
            if word_class == END:
                break
            classes.append(word_class)
            options = _NEXT[word_class]
        if len(classes) >= _SHORTEST:
            return np.array(classes, dtype=np.int8)


def slots(vocabulary: Vocabulary, rng: np.random.Generator, n_sentences: int) -> tuple[npt.NDArray[np.int8], Ints]:
    """Word classes `[W]` of that many sentences in a row, and how many words each has."""
    chosen = rng.integers(0, _TEMPLATES, n_sentences)
    lengths = np.array([len(template) for template in vocabulary.templates])[chosen]
    return np.concatenate([vocabulary.templates[i] for i in chosen.tolist()]), lengths


def documents(vocabulary: Vocabulary, rng: np.random.Generator, n_bytes: int) -> Iterator[bytes]:
    """Documents of about `n_bytes` together, made at once: some twenty bytes of memory a byte."""
    sentences = np.empty(0, dtype=np.int64)
    while sentences.sum() * _SENTENCE_BYTES < n_bytes:
        drawn = rng.lognormal(math.log(_MEDIAN_SENTENCES), _SPREAD, 1024).astype(np.int64) + 1
        sentences = np.append(sentences, drawn)
    enough = int(np.searchsorted(np.cumsum(sentences) * _SENTENCE_BYTES, n_bytes)) + 1
    sentences = sentences[:enough]
    classes_W, words_of = slots(vocabulary, rng, int(sentences.sum()))
    style = rng.integers(0, 2, len(sentences))
    ends = np.cumsum(words_of) - 1
    last = ends[np.cumsum(sentences) - 1]
    style_W = np.repeat(np.repeat(style, sentences), words_of)
    classes_W[(classes_W == NAME) & (style_W == 1) & (rng.random(len(classes_W), dtype=np.float32) < 0.3)] = ACCENTED
    pieces = np.empty((len(classes_W), 2), dtype=np.int32)
    pieces[:, 0] = vocabulary.draw(rng, classes_W)
    pieces[np.append(0, ends[:-1] + 1), 0] += len(vocabulary.words)  # the first of a sentence
    drawn_W = rng.integers(0, 256, len(classes_W), dtype=np.uint8)
    pieces[:, 1] = vocabulary.gaps[style_W, drawn_W]
    pieces[ends, 1] = vocabulary.stops[style_W[ends], drawn_W[ends]]
    pieces[last, 1] = vocabulary.last[drawn_W[last]]
    data, piece_ends = vocabulary.pieces.joined(pieces.ravel())
    text, start = data.tobytes(), 0
    for end in piece_ends[2 * last + 1].tolist():
        yield text[start:end]
        start = end
