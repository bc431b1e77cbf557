"""Cuts a text into words, sentences or lines and the gaps between them, and gives each text its own random numbers.

    text = gaps[0] + parts[0] + gaps[1] + parts[1] + ... + gaps[n]

so that parts can be changed or moved while white space stays where it is. Every cut takes time linear in the text.
"""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

from xxhash import xxh3_128_intdigest

# Ideographs and kana are written without spaces: each counts as a word, as a word of another script would.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORDS = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
# Up to a full stop with white space after it: rough, "e.g. this" is cut in two.
SENTENCES = re.compile(r"\S.*?(?:[.!?…](?=\s)|[。！？]|\Z)", re.DOTALL)
LINES = re.compile(r"[^\r\n]+")


def cut(text: str, part: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts of a text `[n]` and the gaps around them `[n + 1]`; white space at the end belongs to no part."""
    body = len(text.rstrip())
    spans = [match.span() for match in part.finditer(text, 0, body)]
    bounds = [0, *(edge for span in spans for edge in span), len(text)]
    gaps = [text[a:b] for a, b in list(pairwise(bounds))[::2]]
    return [text[a:b] for a, b in spans], gaps


def join(parts: list[str], gaps: list[str]) -> str:
    """The text of parts and gaps: `join(*cut(text, ...)) == text`."""
    return "".join([gaps[0], *(part + gap for part, gap in zip(parts, gaps[1:], strict=True))])


def random_of(key: str, *what: str | int) -> random.Random:
    """Random numbers of one document: the same for the same key and draw, in every process and under every engine."""
    return random.Random(xxh3_128_intdigest(json.dumps([key, *what]).encode()))
