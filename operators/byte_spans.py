"""Byte spans of tokens in the UTF-8 text they came from.

Spans tile the text: consecutive, no gap, no overlap, from 0 to `len(text.encode())`. So a span is only a length, and
`byte_start` is the running sum of the lengths before it. Three ways to the lengths, each tried where the one before it
does not fit the document:

    running_lengths     a table of bytes per id, joined for a whole batch and compared with the text    (exact, fast)
    byte_spans_align    the same bytes, walked around extra and swallowed spaces                        (exact)
    offset_lengths      the encoder's character offsets: white space that the tokenizer drops counts to the token after
                        it; of several tokens for one character the first takes it, the others cover nothing

The table costs a few percent of the encoding; character offsets cost a third of it, and know no bytes.
Shapes: `D` documents, `T` tokens of all of them, `V` vocabulary, `C` characters. All lengths are in bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.byte_spans_vocabulary import PieceBytes

Lengths = npt.NDArray[np.int64]


class SpanTable:
    """What every id spells, as one Arrow array: `take` joins the bytes of a batch and sums their lengths at once.

    Rows 0..V-1 are the pieces, V..2V-1 the same without a leading space (for a dummy prefix), 2V is empty (for tokens
    that the template adds).
    """

    def __init__(self, vocabulary: PieceBytes) -> None:
        self.vocabulary = vocabulary
        pieces = list(vocabulary.pieces)
        self._size = len(pieces)
        self._rows = pa.array([*pieces, *(p.removeprefix(b" ") for p in pieces), b""], pa.large_binary())
        self._row_length = np.diff(_offsets(self._rows))
        self._opens_with_space_V = np.fromiter((p.startswith(b" ") for p in pieces), np.bool_, self._size)

    def running_lengths(
        self, ids_T: npt.NDArray[np.int32], bounds: Lengths, texts: pa.LargeStringArray, prefix: int, suffix: int
    ) -> tuple[Lengths, npt.NDArray[np.bool_]]:
        """Length of every token `(T,)`, and for every document `(D,)` whether its tokens spell its text.

        Document d holds tokens `bounds[d]:bounds[d + 1]`, of which the first `prefix` and the last `suffix` are the
        template's and at least one is its own. Lengths of documents that are not spelt mean nothing.
        """
        rows_T = ids_T.copy()
        first, last = bounds[:-1], bounds[1:]
        for k in range(prefix):
            rows_T[first + k] = 2 * self._size
        for k in range(suffix):
            rows_T[last - 1 - k] = 2 * self._size
        self._drop_dummy_spaces(rows_T, bounds, first + prefix, np.diff(_offsets(texts)))
        joined = self._rows.take(pa.array(rows_T))
        ends = _offsets(joined)
        return np.diff(ends), _equal(joined, ends[bounds], texts)

    def _drop_dummy_spaces(
        self, rows_T: npt.NDArray[np.int32], bounds: Lengths, opening: Lengths, text_lengths: Lengths
    ) -> None:
        """Where a document's tokens spell one byte more than its text and open with a space, take the space away."""
        spelt = np.add.reduceat(self._row_length[rows_T], bounds[:-1])
        suspects = np.flatnonzero(spelt == text_lengths + 1)
        suspects = suspects[self._opens_with_space_V[rows_T[opening[suspects]]]]
        rows_T[opening[suspects]] += self._size


def offset_lengths(char_ends_T: list[int], text: str) -> Lengths:
    """Length of every token of one document from the character (code point) each ends at; needs one token at least."""
    ends_T = _char_starts(text)[np.array(char_ends_T, dtype=np.int64)]
    ends_T = np.maximum.accumulate(ends_T)  # a character that an earlier token has taken is taken
    ends_T[-1] = len(text.encode())  # what the tokenizer drops at the end counts to the last token
    return np.diff(ends_T, prepend=0)


def running_starts(lengths_T: Lengths, bounds: Lengths) -> Lengths:
    """First byte of every token in its own document, `(T,)`."""
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_T)])
    starts: Lengths = ends[:-1] - np.repeat(ends[bounds[:-1]], np.diff(bounds))
    return starts


def _char_starts(text: str) -> Lengths:
    """First byte of every character and the length of the text, `(C + 1,)`."""
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    starts = np.flatnonzero((raw & 0xC0) != 0x80)  # UTF-8 continuation bytes are 10xxxxxx
    return np.append(starts, len(raw))


def _offsets(array: Any) -> Lengths:
    """The `len(array) + 1` offsets of a large binary or string array into its data."""
    offsets: Lengths = np.frombuffer(array.buffers()[1], dtype=np.int64)
    return offsets[array.offset : array.offset + len(array) + 1]


def _equal(joined: pa.LargeBinaryArray, bounds: Lengths, texts: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Whether `joined[bounds[d]:bounds[d + 1]]`, as bytes, is text d, for every document."""
    text_bounds = _offsets(texts)
    left, right = joined.buffers()[2], texts.buffers()[2]
    equal: npt.NDArray[np.bool_] = np.diff(bounds) == np.diff(text_bounds)
    if equal.all() and _slice(left, bounds[0], bounds[-1]).equals(_slice(right, text_bounds[0], text_bounds[-1])):
        return equal
    for d in np.flatnonzero(equal):
        ours, theirs = _slice(left, bounds[d], bounds[d + 1]), _slice(right, text_bounds[d], text_bounds[d + 1])
        equal[d] = ours.equals(theirs)
    return equal


def _slice(buffer: pa.Buffer | None, start: np.int64, end: np.int64) -> pa.Buffer:
    # Arrow may leave out the data buffer of an array whose values are all empty.
    return buffer.slice(int(start), int(end - start)) if buffer is not None else pa.py_buffer(b"")
