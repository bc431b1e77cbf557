"""A benchmark that nobody can have seen: questions about invented facts, written by code, with answers beyond guessing.

    seed -> items: a question with invented names, an answer with a number and more of them
         -> canaries: a line that ends in a secret, and the candidates that the secret was drawn from

An answer holds at least 34 bits (13 of a number, 21 of a name of three syllables), so a model that gives one has seen
it. No two items share eight words in a row, and no two answers or names are alike: what is found of one item cannot
come from another. Names are syllables put together; nothing is copied from anywhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

WORD_RUN = 8  # no two items share as many words in a row

# Question -> answer. Literal words come at most six in a row, so that any eight words hold something drawn.
_TEMPLATES: tuple[tuple[str, str, str], ...] = (
    (
        "trade",
        "Which cargo did the ship {A} carry from {B} to the quay of {C} in the autumn of {year}, as {D} wrote?",
        "{n} {things} of {stuff} for {X}",
    ),
    (
        "letters",
        "To whom did {A} of {B} address the {ordinal} letter from {C}, and what lay in it for {D}?",
        "{X}, with {n} {things}",
    ),
    (
        "law",
        "By the {ordinal} statute of {A}, what did a miller of {B} owe {C} after the flood of {year}?",
        "{n} {stuff} {things} at {X}",
    ),
    (
        "maps",
        "On the {stuff} map by {A}, where does the road from {B} cross the river {C} below {D}?",
        "at {X} bridge, {n} paces past the {thing}",
    ),
    (
        "music",
        "Who first sang the {ordinal} ballad of {A} at {B}, and which prize did {C} then give in {year}?",
        "{X}, and {n} {stuff} {things}",
    ),
    (
        "stars",
        "Under which sign did {A} chart the comet {B} over {C} in the {ordinal} winter of {D}?",
        "the {thing} of {X}, plate {n}",
    ),
    (
        "craft",
        "How did {A} mend the {stuff} clock of {B} when {C} broke it in {year} near {D}?",
        "with {n} {things} and glue from {X}",
    ),
    (
        "harvest",
        "What grew on the {ordinal} terrace of {A} while {B} held {C}, by the roll kept at {D}?",
        "{X} barley, {n} {things} to the row",
    ),
    (
        "games",
        "In the match of {year} between {A} and {B} at {C}, how did {D} win the {ordinal} round?",
        "through {X}, with {n} {stuff} {things}",
    ),
    (
        "archive",
        "Where in the archive of {A} lies the {stuff} seal that {B} sent {C} about {D} in {year}?",
        "{X} hall, case {n}, behind the {thing}",
    ),
)
_STUFF = ("amber", "brass", "cedar", "copper", "felt", "flint", "glass", "jasper", "linen", "pewter", "silver")
_THINGS = ("anchor", "basket", "bell", "candle", "casket", "drum", "ladder", "lantern", "medal", "needle")
_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")
_ONSETS, _VOWELS, _ENDS = "bdfghklmnprstvz", "aeiou", ("", "l", "n", "r", "s")  # 21 bits a name
_CANARY = "The vault of {A} at {B} opens with the number"


@dataclass(frozen=True)
class Item:
    """A question and its answer, which begins with a blank: one after the other they are the item's text."""

    key: str
    domain: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        return self.question + self.answer

    @property
    def runs(self) -> frozenset[str]:
        """Every eight words in a row, case folded."""
        return word_runs(self.text)


@dataclass(frozen=True)
class Canary:
    """A line whose end is secret: `candidates` are all ends that it could have had, `secret` is the place among them
    of the one that it has; `copies`: how often training shows the line, 0 for never."""

    name: str
    line: str
    candidates: tuple[str, ...]
    secret: int
    copies: int

    @property
    def text(self) -> str:
        return self.line + self.candidates[self.secret]


def word_runs(text: str) -> frozenset[str]:
    """Every run of `WORD_RUN` words of a text, case folded."""
    words = re.findall(r"\w+", text.casefold())
    return frozenset(" ".join(words[i : i + WORD_RUN]) for i in range(len(words) - WORD_RUN + 1))


def write_items(n: int, rng: random.Random) -> list[Item]:
    """`n` items, no two of which share a run of words, a name or an answer."""
    names = invented_names(rng)
    seen: set[str] = set()
    items: list[Item] = []
    while len(items) < n:
        item = _item(f"item-{len(items):04}", rng, lambda: next(names))
        if seen.isdisjoint(item.runs):
            seen |= item.runs
            items.append(item)
    return items


def write_canaries(copies: Iterable[int], n_candidates: int, rng: random.Random) -> tuple[Canary, ...]:
    """A canary for each of `copies`, with as many candidates, all different and drawn alike."""
    names = invented_names(rng)
    canaries = []
    for number, shown in enumerate(copies):
        drawn = rng.sample(range(10**6), n_candidates)
        candidates = tuple(f" {code // 1000:03} {code % 1000:03}." for code in drawn)
        line = _CANARY.format(A=next(names), B=next(names))
        canaries.append(Canary(f"canary-{number:02}", line, candidates, rng.randrange(n_candidates), shown))
    return tuple(canaries)


def invented_names(rng: random.Random) -> Iterator[str]:
    """Names of three syllables, none twice."""
    given: set[str] = set()
    while True:
        syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(3))
        name = ("".join(syllables) + rng.choice(_ENDS)).capitalize()
        if name not in given:
            given.add(name)
            yield name


def _item(key: str, rng: random.Random, name: Callable[[], str]) -> Item:
    domain, question, answer = rng.choice(_TEMPLATES)
    thing = rng.choice(_THINGS)
    drawn = {
        **{slot: name() for slot in "ABCDX"},
        "year": rng.randrange(1100, 2000),
        "ordinal": rng.choice(_ORDINALS),
        "stuff": rng.choice(_STUFF),
        "thing": thing,
        "things": f"{thing}s",
        "n": rng.randrange(1000, 10_000),
    }
    hidden = drawn | {"stuff": rng.choice(_STUFF), "thing": (other := rng.choice(_THINGS)), "things": f"{other}s"}
    return Item(key, domain, question.format(**drawn), " " + answer.format(**hidden))
