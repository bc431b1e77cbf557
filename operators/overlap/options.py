"""What a comparison of a benchmark with a corpus is asked for: n-grams, what is cut, when a document is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

RuleName = Literal["never", "any", "share", "pieces"]
MAX_N = 1000
_NORMALISATIONS = ("words-1", "janitor-1", "tokens")
_NUMBERS: dict[str, Callable[[str], float]] = {"share": float, "pieces": int}


class OverlapError(ValueError):
    """What the caller can put right: an option, an item, an index that is not this comparison's."""


@dataclass(frozen=True)
class DropRule:
    """When a document is to be dropped, rather than cut.

    never          its hits are cut out, however many
    any            it holds an n-gram of the benchmark
    share:0.8      it alone holds at least that share of the n-grams of one item (0 < share <= 1); n-grams too common to
                   start a span (`OverlapOptions.most_items`) count where a span reaches through them
    pieces:10      more than so many pieces are left of it when its hits are cut out (GPT-3, arXiv 2005.14165, has 10)

    lm-eval's janitor is not repeated: it takes 200 characters beside a hit, as `margin=200` does, but drops a document
    with more than 10 n-grams that hit, overlapping ones each for itself, and pieces of 200 characters or fewer.
    """

    name: RuleName
    number: float = 0

    @property
    def canonical(self) -> str:
        return f"{self.name}:{self.number:g}" if self.name in _NUMBERS else self.name


def parse_drop(text: str) -> DropRule:
    """The rule that `text` spells.

    Raises:
        OverlapError: it spells none.
    """
    name, _, number = text.partition(":")
    if name in ("never", "any") and text == name:
        return DropRule(name)  # type: ignore[arg-type]
    try:
        value = _NUMBERS[name](number)
    except (KeyError, ValueError):
        value = -1
    if not (0 < value <= 1 if name == "share" else 0 <= value < 1e9):
        raise OverlapError(f"drop rule {text!r}: expected never, any, share:0.8 (above 0, at most 1) or pieces:10")
    return DropRule(name, value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class OverlapOptions:
    """The knobs of a comparison.

    n: words (or token ids) of an n-gram.
    normalisation: what a word is: `words-1`, `janitor-1` or `tokens` (`operators.overlap.normalise`).
    most_items: pairs of a place in the benchmark and a place in a document from which spans are sought, for each n-gram
        and document: its first places in the document, at none where the benchmark has more. It counts as seen, and
        is cut, all the same. This bounds work and rows.
    margin: characters (code points) to cut on each side of a hit.
    drop: when a document is dropped, as `parse_drop` reads it.
    hash_bits: leading bits kept of every hash; fewer than 64 make hashes collide, for tests: they change no result.
    """

    n: int = 13
    normalisation: str = "words-1"
    most_items: int = 100
    margin: int = 0
    drop: str = "pieces:10"
    hash_bits: int = 64

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise OverlapError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not 1 <= self.n <= MAX_N:
            yield f"n is {self.n}, expected 1 to {MAX_N} words"
        if self.normalisation not in _NORMALISATIONS:
            yield f"normalisation {self.normalisation!r}: expected one of {', '.join(_NORMALISATIONS)}"
        if self.most_items < 1:
            yield f"most_items is {self.most_items}, expected at least 1"
        if not 0 <= self.margin <= 1 << 20:
            yield f"margin is {self.margin} characters, expected 0 to {1 << 20}"
        if not 1 <= self.hash_bits <= 64:
            yield f"hash_bits is {self.hash_bits}, expected 1 to 64"
        try:
            parse_drop(self.drop)
        except OverlapError as error:
            yield str(error)

    @property
    def rule(self) -> DropRule:
        return parse_drop(self.drop)

    @property
    def settings(self) -> dict[str, Any]:
        """The options for JSON: part of a comparison's identity."""
        return {
            "n": self.n,
            "normalisation": self.normalisation,
            "most_items": self.most_items,
            "margin": self.margin,
            "drop": self.rule.canonical,
        }
