"""What every character is to a normalisation, as tables over the code points, from this Python's `unicodedata`.

Tables are made when text that is not ASCII is first met (a third of a second) and kept by the process. Two Pythons of
different Unicode versions disagree on characters that the older one does not know: an index says its version.
"""

from __future__ import annotations

import string
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

CODE_POINTS = sys.maxunicode + 1

# What a character does, in `Characters.kind`:
SEPARATOR, JOINS, ALONE, MARK, DELETED = range(5)
# How the first and the last are spelt in normalised text, where these characters are never a word's own:
SPACE, GONE = 0x20, 0x2C

_ASSIGNED = (*range(0x40000), *range(0xE0000, 0xF0000))  # letters, digits and marks of every Unicode version are here
_ALONE = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x1000, 0x109F),  # Myanmar, with its extensions
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Han: iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x303B),  # vertical repeat marks, and more of Han
    (0x3041, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # Kana supplements
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True)
class Characters:
    """By code point. `folded`: the one it becomes, SPACE or GONE (uint32). `kind`: what it does (uint8).

    `in_place`: a text of such characters alone may be normalised in its own bytes: what it becomes has as many, and it
    is neither composed with another nor needs to know what is beside it.
    """

    folded: npt.NDArray[np.uint32]
    kind: npt.NDArray[np.uint8]
    in_place: npt.NDArray[np.bool_]

    @property
    def ascii(self) -> bytes:
        """The table of `bytes.translate` for ASCII text."""
        return bytes(self.folded[:128].astype(np.uint8)) + bytes(range(128, 256))


def fold(character: str) -> str:
    """Simple case folding: one code point to one (CaseFolding.txt, status C and S).

    Python knows the full folding; where that is longer than one code point, the simple one is the lower case, if any.
    """
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


@cache
def words_1(*, ascii_only: bool = False) -> Characters:
    """Letters and digits join, marks belong to what is before them, some scripts' letters stand alone."""
    folded = np.full(CODE_POINTS, SPACE, np.uint32)
    kind = np.full(CODE_POINTS, SEPARATOR, np.uint8)
    for code in range(128) if ascii_only else _ASSIGNED:
        category = unicodedata.category(chr(code))[0]
        if category in "LNM":
            kind[code] = MARK if category == "M" else JOINS
            folded[code] = ord(fold(chr(code)))
    if not ascii_only:
        for first, last in _ALONE:
            for code in range(first, last + 1):
                # Digits join, as everywhere; the numerals of Han (Nl) are signs like the others.
                if unicodedata.category(chr(code)) in ("Lo", "Lm", "Nl"):
                    kind[code] = ALONE
    in_place = _keeps_size(folded, kind)
    if not ascii_only:
        in_place &= opens_cluster() & ~_composed_otherwise()
    return Characters(folded, kind, in_place)


@cache
def janitor_1(*, ascii_only: bool = False) -> Characters:
    """Everything joins but white space; ASCII letters lose their case, ASCII punctuation goes."""
    folded = np.arange(CODE_POINTS, dtype=np.uint32)
    kind = np.full(CODE_POINTS, JOINS, np.uint8)
    for letter in string.ascii_uppercase:
        folded[ord(letter)] = ord(letter.lower())
    for mark in string.punctuation:
        folded[ord(mark)], kind[ord(mark)] = GONE, DELETED
    for code in range(128 if ascii_only else 0x10000):  # no white space lies beyond
        if chr(code).isspace():
            folded[code], kind[code] = SPACE, SEPARATOR
    return Characters(folded, kind, _keeps_size(folded, kind))


def utf8_bytes(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """How many bytes UTF-8 has for every code point."""
    sizes = np.ones(len(codes), np.uint8)
    for first in (0x80, 0x800, 0x10000):
        sizes += codes >= first
    return sizes.astype(np.int64)


def _keeps_size(folded: npt.NDArray[np.uint32], kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Separators, and what joins and is folded to as many bytes."""
    same_size = utf8_bytes(folded) == utf8_bytes(np.arange(CODE_POINTS))
    keeps: npt.NDArray[np.bool_] = (kind == SEPARATOR) | (kind == JOINS) & same_size
    return keeps


def _composed_otherwise() -> npt.NDArray[np.bool_]:
    """Whether canonical composition changes a character that stands alone, by code point."""
    changes = np.zeros(CODE_POINTS, np.bool_)
    for code in _ASSIGNED:
        if unicodedata.decomposition(chr(code))[:1] not in ("", "<"):
            changes[code] = unicodedata.normalize("NFC", chr(code)) != chr(code)
    return changes


@cache
def opens_cluster() -> npt.NDArray[np.bool_]:
    """Whether canonical composition never joins a character to what is before it, by code point.

    So text may be cut before such a character, and composed piece by piece: each piece keeps as many of them.
    """
    opens = np.ones(CODE_POINTS, np.bool_)
    decomposed = {}
    for code in _ASSIGNED:
        if unicodedata.combining(chr(code)):
            opens[code] = False
        elif unicodedata.decomposition(chr(code))[:1] not in ("", "<"):
            decomposed[code] = unicodedata.normalize("NFD", chr(code))
    # Second halves of compositions; a Hangul syllable is a lead, a vowel and perhaps a tail.
    opens[0x1161:0x1176] = opens[0x11A8:0x11C3] = False
    for spelt in decomposed.values():
        opens[[ord(character) for character in spelt[1:]]] = False
    for code, spelt in decomposed.items():
        opens[code] = opens[code] and opens[ord(spelt[0])]
    return opens
