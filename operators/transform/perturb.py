"""Random changes of a text's words or characters, none of which needs a model or a lexicon.

Kinds with their published default rates; `n` counts words, white space between words stays where it is:

    swap_words        0.3    max(1, int(rate n)) times two words change places (PAC, arXiv 2405.11930)
    substitute_words  0.15   max(1, int(rate n)) words become other words of the document, of about the same length
    delete_words      0.25   each word goes with this probability, never all
    butter_fingers    0.1    each letter a-z becomes a neighbour on a QWERTY keyboard
    change_case       0.25   each letter changes its case
    whitespace        0.25   each white space goes; half as often a space comes after another character
    underscore        0.25   each space becomes an underscore

The last five are those of LLM dataset inference (arXiv 2406.06443), after NL-Augmenter (arXiv 2112.02721).

`substitute_words` stands in for the mask filling of the neighbourhood attack and DetectGPT (15 % of the words, arXiv
2305.18462, 2301.11305): it keeps the document's own vocabulary and word lengths but not its grammar, so its neighbours
are further from the text than a masked model's; those are made elsewhere and come in through the transform `external`.
Synonyms are not offered: they need a lexicon.

A text that a kind finds nothing to change in (one word, no letter a-z) stays as it is.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from operators.transform.pieces import WORDS, cut, join

Change = Callable[[str, float, random.Random], str]


@dataclass(frozen=True)
class Kind:
    """`rate`: the published share of words or characters to change."""

    rate: float
    change: Change


def swap_words(text: str, rate: float, rng: random.Random) -> str:
    """Two words drawn at random change places, again and again; a word may move twice."""
    words, gaps = cut(text, WORDS)
    if len(words) < 2:
        return text
    for _ in range(_share(rate, words)):
        one, other = rng.randrange(len(words)), rng.randrange(len(words) - 1)
        other += other >= one
        words[one], words[other] = words[other], words[one]
    return join(words, gaps)


def substitute_words(text: str, rate: float, rng: random.Random) -> str:
    """Words become other words of the text: of their length class (1, 2-3, 4-7, ... characters) where it has others."""
    words, gaps = cut(text, WORDS)
    every = list(dict.fromkeys(words))
    if len(every) < 2:
        return text
    classes: dict[int, list[str]] = defaultdict(list)
    for word in every:
        classes[len(word).bit_length()].append(word)
    for place in rng.sample(range(len(words)), _share(rate, words)):
        alike = classes[len(words[place]).bit_length()]
        words[place] = _another(alike if len(alike) > 1 else every, words[place], rng)
    return join(words, gaps)


def delete_words(text: str, rate: float, rng: random.Random) -> str:
    """Each word goes with probability `rate`, and the gap before it; one drawn at random stays where all would go."""
    words, gaps = cut(text, WORDS)
    if not words:
        return text
    kept = [i for i in range(len(words)) if rng.random() >= rate] or [rng.randrange(len(words))]
    between = "".join(gaps[i] + words[i] for i in kept[1:])
    return gaps[0] + words[kept[0]] + between + gaps[-1]


def butter_fingers(text: str, rate: float, rng: random.Random) -> str:
    """Each letter a-z, of either case, becomes a key beside it with probability `rate`, in its case."""

    def typed(letter: str) -> str:
        near = _NEIGHBOURS.get(letter.lower())
        if near is None or rng.random() >= rate:
            return letter
        key = near[rng.randrange(len(near))]
        return key.upper() if letter.isupper() else key

    return "".join(map(typed, text))


def change_case(text: str, rate: float, rng: random.Random) -> str:
    """Each letter that has another case of one character takes it with probability `rate`."""

    def turned(letter: str) -> str:
        other = letter.swapcase()
        return other if other != letter and len(other) == 1 and rng.random() < rate else letter

    return "".join(map(turned, text))


def whitespace(text: str, rate: float, rng: random.Random) -> str:
    """White space goes with probability `rate`; a space comes after other characters with half of it, the proportion of
    NL-Augmenter's defaults, 0.1 and 0.05."""

    def spaced(letter: str) -> str:
        draw = rng.random()
        if letter.isspace():
            return "" if draw < rate else letter
        return letter + " " if draw < rate / 2 else letter

    return "".join(map(spaced, text))


def underscore(text: str, rate: float, rng: random.Random) -> str:
    """Each space (U+0020) becomes `_` with probability `rate`."""
    return "".join("_" if letter == " " and rng.random() < rate else letter for letter in text)


def _share(rate: float, words: list[str]) -> int:
    return max(1, int(rate * len(words)))


def _another(words: list[str], word: str, rng: random.Random) -> str:
    """One of several distinct words, other than `word`."""
    while (found := words[rng.randrange(len(words))]) == word:
        pass
    return found


def _neighbours() -> dict[str, str]:
    """The keys at most one key's width and a bit away, from the staggered rows of a QWERTY keyboard."""
    rows = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
    places = {key: (x + shift, y) for y, (keys, shift) in enumerate(rows) for x, key in enumerate(keys)}
    return {
        key: "".join(k for k, (a, b) in places.items() if k != key and (a - x) ** 2 + (b - y) ** 2 <= 1.6)
        for key, (x, y) in places.items()
    }


_NEIGHBOURS: Mapping[str, str] = _neighbours()

KINDS: Mapping[str, Kind] = {
    "swap_words": Kind(0.3, swap_words),
    "substitute_words": Kind(0.15, substitute_words),
    "delete_words": Kind(0.25, delete_words),
    "butter_fingers": Kind(0.1, butter_fingers),
    "change_case": Kind(0.25, change_case),
    "whitespace": Kind(0.25, whitespace),
    "underscore": Kind(0.25, underscore),
}
