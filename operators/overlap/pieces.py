"""Texts in pieces of a few megabytes, cut at white space, so that what is held of a long one is bounded.

Shapes: `P` pieces, `W` words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.words import Bytes, Flags, Ids, Words, running

PIECE_BYTES = 1 << 22
_BETWEEN = b"\n"  # separates words under every normalisation, and no character is composed with it


@dataclass(frozen=True)
class Pieces:
    """Texts, long ones cut. `texts`: P pieces. `offset_P`: where each starts in its text. `bounds`: of the texts."""

    texts: pa.LargeStringArray
    offset_P: Ids
    bounds: Ids

    @classmethod
    def of(cls, texts: pa.LargeStringArray) -> Pieces:
        offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        data = texts.buffers()[2] or pa.py_buffer(b"")
        cuts = [
            _cuts(data, int(offsets[d]), int(offsets[d + 1])) for d in np.flatnonzero(np.diff(offsets) > PIECE_BYTES)
        ]
        if not cuts:
            return cls(texts, np.zeros(len(texts), np.int64), np.arange(len(texts) + 1))
        # A text of no bytes has the same offset twice; cuts lie inside texts, so they sort between these.
        more = np.concatenate(cuts)
        bounds = np.arange(len(texts) + 1) + np.searchsorted(more, offsets, side="left")
        places = np.sort(np.concatenate([offsets, more]))
        counts = np.diff(bounds)
        pieces = pa.LargeStringArray.from_buffers(len(places) - 1, pa.py_buffer(places.tobytes()), data)
        return cls(pieces, places[:-1] - np.repeat(offsets[:-1], counts), bounds)

    def batches(self) -> Iterator[Pieces]:
        """Consecutive pieces of `PIECE_BYTES` together, or little more."""
        ends = np.cumsum(np.asarray(pc.binary_length(self.texts).to_numpy(zero_copy_only=False), np.int64))
        first = 0
        while first < len(ends):
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + PIECE_BYTES, side="right")))
            yield Pieces(self.texts.slice(first, last - first), self.offset_P[first:last], self.bounds)
            first = last

    def where(self, chosen: Flags) -> Pieces:
        return Pieces(self.texts.filter(pa.array(chosen)), self.offset_P[chosen], self.bounds)

    def joined(self) -> tuple[bytes, Ids]:
        """All pieces in one, a line feed behind each; and where each starts in it."""
        rows = pa.LargeListArray.from_arrays(pa.array([0, len(self.texts)]), self.texts.cast(pa.large_binary()))
        sizes = np.asarray(pc.binary_length(self.texts).to_numpy(zero_copy_only=False), np.int64)
        (data,) = pc.binary_join(rows, pa.scalar(_BETWEEN, pa.large_binary())).to_pylist()
        return data, running(sizes + len(_BETWEEN))

    def placed(self, norm: Bytes, at: Ids, size: Ids, starts: Ids, ends: Ids, joined: Ids) -> Words:
        """Words from where they stand in the joined pieces; `bounds` are those of the pieces."""
        bounds = np.searchsorted(starts, joined)
        bounds[-1] = len(starts)
        moved = np.repeat(self.offset_P - joined[:-1], np.diff(bounds))
        return Words(norm, at, size, starts + moved, ends + moved, bounds)


def _cuts(data: pa.Buffer, first: int, last: int) -> Ids:
    """Places of about one in `PIECE_BYTES` where `data[first:last]` may be cut: at white space, so inside no word."""
    cuts = []
    view = data.slice(first, last - first)
    place = PIECE_BYTES
    while place < len(view):
        found = _white_space(view, place)
        if found is None:
            break
        cuts.append(first + found)
        place = found + PIECE_BYTES
    return np.array(cuts, np.int64)


def _white_space(view: pa.Buffer, place: int, step: int = 1 << 16) -> int | None:
    """The first space or line feed from `place` on, behind the first byte."""
    for start in range(place, len(view), step):
        part = np.frombuffer(view.slice(start, min(step, len(view) - start)), np.uint8)
        found = np.flatnonzero((part == 0x20) | (part == 0x0A))
        if len(found):
            return start + int(found[0])
    return None
