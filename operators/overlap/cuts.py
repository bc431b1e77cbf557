"""What to cut out of the documents that hold n-grams of a benchmark, and which to drop instead.

A hit is an n-gram, from the first byte of its first word to the last of its last, widened by the margin; hits without
a word between them are one cut. So without a margin every word of a cut is a benchmark's, and the rest of the document
has no n-gram of it (other than ones that cutting itself makes, across a cut).
Shapes: `D` documents with a hit, `K` cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.overlap.diagonals import Sequence, Spans
from operators.overlap.options import DropRule
from operators.overlap.words import Bytes, Flags, Ids


@dataclass(frozen=True)
class Cuts:
    """`[start, end)` in bytes of document `document` (its place among the texts), ascending. `(K,)` each."""

    document: Ids
    start: Ids
    end: Ids


def cuts(document: Ids, word: Ids, n: int, start: Ids, end: Ids) -> Cuts:
    """The union of hits: those of a document one after the other, by their first words, of n each."""
    if not len(document):
        return Cuts(document, start, end)
    opens = np.ones(len(document), np.bool_)
    opens[1:] = (document[1:] != document[:-1]) | (word[1:] > word[:-1] + n) & (start[1:] > end[:-1])
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(document)) - 1
    return Cuts(document[first], start[first], end[last])


def widened(text: Bytes, start: Ids, end: Ids, margin: int) -> tuple[Ids, Ids]:
    """Byte places in one UTF-8 text, moved outwards by `margin` characters."""
    first_bytes = np.flatnonzero((text & 0xC0) != 0x80)
    places = np.append(first_bytes, len(text))
    from_ = np.maximum(np.searchsorted(places, start) - margin, 0)
    to = np.minimum(np.searchsorted(places, end) + margin, len(places) - 1)
    return places[from_], places[to]


def dropped(rule: DropRule, found: Cuts, sizes_D: Ids, shares: npt.NDArray[np.float64]) -> Flags:
    """Whether the rule drops each document; `shares`: the largest share of an item's n-grams in it. `(D,)` all."""
    if rule.name == "any":
        return np.bincount(found.document, minlength=len(sizes_D)) > 0
    if rule.name == "share":
        return (shares >= rule.number) & (shares > 0)
    if rule.name == "pieces":
        return pieces(found, sizes_D) > rule.number
    return np.zeros(len(sizes_D), np.bool_)


def pieces(found: Cuts, sizes_D: Ids) -> Ids:
    """How many stretches of text cutting leaves of each document."""
    count = np.bincount(found.document, minlength=len(sizes_D)) + 1
    np.subtract.at(count, found.document[found.start == 0], 1)
    np.subtract.at(count, found.document[found.end == sizes_D[found.document]], 1)
    return count


def item_shares(found: Spans, texts: Sequence, items: Sequence, n: int) -> npt.NDArray[np.float64]:
    """For each text, the largest share of the n-grams of one item that its spans hold; 0 without a span."""
    shares = np.zeros(len(texts.bounds) - 1)
    if not len(found):
        return shares
    text, item = texts.part_of(found.w), items.part_of(found.p)
    start, end = found.p, found.p + (found.w_end - found.w) - n + 1  # the n-grams of a span, by their first words
    order = np.lexsort((start, item, text))
    text, item, start, end = text[order], item[order], start[order], end[order]
    opens = np.ones(len(text), np.bool_)
    opens[1:] = (text[1:] != text[:-1]) | (item[1:] != item[:-1])
    group = np.cumsum(opens) - 1
    # Each group is moved beyond the one before it, so that a running maximum stays within its group.
    apart = group * (int(end.max()) + 1)
    covered_to = np.maximum.accumulate(end + apart)
    before = np.concatenate([np.zeros(1, np.int64), covered_to[:-1]])
    before[opens] = 0
    fresh = np.maximum(end + apart - np.maximum(start + apart, before), 0)
    held = np.add.reduceat(fresh, np.flatnonzero(opens))
    firsts = np.flatnonzero(opens)
    n_grams = items.bounds[item[firsts] + 1] - items.bounds[item[firsts]] - n + 1
    np.maximum.at(shares, text[firsts], held / n_grams)
    return shares
