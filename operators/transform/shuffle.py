"""Puts the words, sentences or lines of a text into another order; the white space between them stays where it is.

Contamination tests compare a text with shuffled versions of itself (cf. Oren et al. 2023, arXiv 2310.17623, who shuffle
the examples of a benchmark). A text of a single part stays as it is.
"""

from __future__ import annotations

import random

from operators.transform.pieces import LINES, SENTENCES, WORDS, cut, join

UNITS = {"words": WORDS, "sentences": SENTENCES, "lines": LINES}


def shuffled(text: str, unit: str, rng: random.Random) -> str:
    """`text` with its units in an order drawn uniformly, which may be the one they had."""
    parts, gaps = cut(text, UNITS[unit])
    rng.shuffle(parts)
    return join(parts, gaps)
