"""Cuts texts into normalised words, whole blocks at once.

    texts -> pieces -> bytes.translate, other characters written in their places -> runs of characters -> Words
                    \\> code points -> canonical form -> table -> the same, and where words touch ---------/

Most text takes the first way: ASCII, and characters beyond it that separate, or fold to one of as many bytes, and that
nothing is composed with. A text with any other character (marks, İ, Han, ...) takes the second: 300 and 50 MB/s on one
core, and some 10 MB/s where a text has to be composed.

A text of many megabytes is taken in pieces, cut at white space, so that what is held is some 20 bytes for each byte of
a piece, and 40 for each word of the block. Pieces lie in one buffer with a line feed between them.
Shapes: `C` characters of a batch of pieces, `P` its pieces, `W` words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.overlap.characters import (
    ALONE,
    DELETED,
    GONE,
    JOINS,
    MARK,
    SEPARATOR,
    SPACE,
    Characters,
    utf8_bytes,
)
from operators.overlap.composing import Codes, characters, composed
from operators.overlap.pieces import Pieces
from operators.overlap.words import Bytes, Flags, Ids, Words, load, padded, running

_LEADS = 0xC0  # from here on a byte of UTF-8 is the first of several


@dataclass(frozen=True)
class Cutter:
    """Maps texts to their words, by a table of characters. `composes`: canonically equivalent spellings are equal."""

    table: Callable[..., Characters]
    composes: bool

    def __call__(self, texts: pa.LargeStringArray) -> Words:
        """The words of D texts, none of them NULL."""
        pieces = Pieces.of(texts)
        parts = [self._cut(batch) for batch in pieces.batches()]
        words = Words.joined(parts or [_no_words(0)])
        return replace(words, bounds=words.bounds[pieces.bounds])

    def _cut(self, batch: Pieces) -> Words:
        data, bounds = batch.joined()
        raw = np.frombuffer(data, np.uint8)
        first_C = np.flatnonzero(raw >= _LEADS)
        if not len(first_C):
            return self._cut_bytes(batch, data, bounds, self.table(ascii_only=True))
        table, code_C = self.table(), _decoded(raw, first_C)
        fits_C = table.in_place[code_C]
        if not fits_C.all():
            fits_P = np.ones(len(bounds) - 1, np.bool_)
            fits_P[np.searchsorted(bounds, first_C[~fits_C], side="right") - 1] = False
            return _in_two(batch, fits_P, self._cut, self._cut_any)
        changed = table.folded[code_C] != code_C
        norm = np.frombuffer(data.translate(table.ascii), np.uint8).copy()
        _write(norm, first_C[changed], code_C[changed], table.folded[code_C[changed]])
        return self._cut_bytes(batch, data, bounds, table, norm)

    def _cut_bytes(
        self, batch: Pieces, data: bytes, bounds: Ids, table: Characters, norm: Bytes | None = None
    ) -> Words:
        """`norm`: the data with every character normalised, in its own bytes; made here where all is ASCII."""
        if norm is None:
            norm = np.frombuffer(data.translate(table.ascii), np.uint8)
        kept: Ids | None = None
        if DELETED in table.kind[:128]:
            kept = np.flatnonzero(norm != GONE)
            norm = norm[kept]
        starts, ends = _runs(norm != SPACE)
        at, size = starts, ends - starts
        if kept is not None:
            starts, ends = kept[starts], kept[ends - 1] + 1
        return batch.placed(padded(norm.tobytes()), at, size, starts, ends, bounds)

    def _cut_any(self, batch: Pieces) -> Words:
        data, bounds = batch.joined()
        text, table = data.decode(), self.table()
        canonical = composed(text) if self.composes else text
        if canonical != text and len(batch.texts) > 1:
            # One text that is spelt otherwise must not have the places of all others found again.
            is_composed = np.array([composed(one) == one for one in batch.texts.to_pylist()])
            if is_composed.any() and not is_composed.all():
                return _in_two(batch, is_composed, self._cut_any, self._cut_any)
        code_C, from_C, to_C = characters(text, canonical)
        index_C = code_C.astype(np.int64)
        kind_C = table.kind[index_C]
        folded_C = table.folded[index_C]
        if DELETED in table.kind[:128]:
            kept = kind_C != DELETED
            kind_C, folded_C, from_C, to_C = kind_C[kept], folded_C[kept], from_C[kept], to_C[kept]
        starts, ends = _runs(kind_C != SEPARATOR, _begins(kind_C))
        norm = folded_C.tobytes().decode("utf-32-le").encode()
        at_C = running(utf8_bytes(folded_C))
        at = at_C[starts]
        return batch.placed(padded(norm), at, at_C[ends] - at, from_C[starts], to_C[ends - 1], bounds)


def _in_two(batch: Pieces, first_P: Flags, cut: Callable[[Pieces], Words], rest: Callable[[Pieces], Words]) -> Words:
    """Some pieces cut in one way and the rest in another, in the order in which they were."""
    if not first_P.any():
        return rest(batch)
    both = Words.joined([cut(batch.where(first_P)), rest(batch.where(~first_P))])
    order = np.empty(len(first_P), np.int64)
    order[np.flatnonzero(first_P)] = np.arange(first_P.sum())
    order[np.flatnonzero(~first_P)] = np.arange(first_P.sum(), len(first_P))
    return both.ordered(order)


def _decoded(raw: Bytes, first_C: Ids) -> Ids:
    """The code points of the characters of two bytes or more that start at these places of UTF-8."""
    read = load(padded(raw.tobytes()), first_C)
    byte = [((read >> np.uint64(8 * k)) & np.uint64(0xFF)).astype(np.int64) for k in range(4)]
    tail = [b & 0x3F for b in byte]
    two = (byte[0] & 0x1F) << 6 | tail[1]
    three = (byte[0] & 0x0F) << 12 | tail[1] << 6 | tail[2]
    four = (byte[0] & 0x07) << 18 | tail[1] << 12 | tail[2] << 6 | tail[3]
    code_C: Ids = np.where(byte[0] < 0xE0, two, np.where(byte[0] < 0xF0, three, four))
    return code_C


def _write(norm: Bytes, first_C: Ids, code_C: Ids, folded_C: Codes) -> None:
    """Put characters in the place of others: as many bytes each, or SPACE for all of them."""
    sizes = utf8_bytes(code_C)
    for size in (2, 3, 4):
        chosen = np.flatnonzero(sizes == size)
        first, folded = first_C[chosen], folded_C[chosen]
        lead = (0xF00 >> size & 0xFF) | folded >> (6 * (size - 1))
        for k in range(size):
            byte = lead if k == 0 else 0x80 | (folded >> (6 * (size - 1 - k)) & 0x3F)
            norm[first + k] = np.where(folded == SPACE, SPACE, byte)


def _no_words(texts: int) -> Words:
    none = np.empty(0, np.int64)
    return Words(padded(b""), none, none, none, none, np.zeros(texts + 1, np.int64))


def _runs(inside_C: Flags, begins_C: Flags | None = None) -> tuple[Ids, Ids]:
    """Where runs of true start, and where they end; `begins_C`: a run ends before it, and another starts there."""
    changes = np.flatnonzero(inside_C[1:] != inside_C[:-1]) + 1
    if len(inside_C) and inside_C[0]:
        changes = np.concatenate([np.zeros(1, np.int64), changes])
    if len(inside_C) and inside_C[-1]:
        changes = np.append(changes, len(inside_C))
    starts, ends = changes[::2], changes[1::2]
    if begins_C is not None and begins_C.any():
        more = np.flatnonzero(begins_C)
        starts, ends = np.sort(np.concatenate([starts, more])), np.sort(np.concatenate([ends, more]))
    return starts, ends


def _begins(kind_C: npt.NDArray[np.uint8]) -> Flags | None:
    """Where a word begins behind another without a separator between: around characters that stand alone."""
    alone_C = kind_C == ALONE
    if not alone_C.any():
        return None
    # The word at a character is of the kind of the last character before it that is no mark.
    places = np.where(kind_C != MARK, np.arange(len(kind_C)), 0)
    open_C = kind_C[np.maximum.accumulate(places)]
    begins: Flags = np.zeros(len(kind_C), np.bool_)
    begins[1:] = (kind_C[:-1] != SEPARATOR) & (alone_C[1:] | ((kind_C[1:] == JOINS) & (open_C[:-1] == ALONE)))
    return begins
