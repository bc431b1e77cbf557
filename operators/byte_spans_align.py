"""Aligns tokens with a text that they spell, where extra or swallowed spaces break the plain running sum.

A document is a row of units: added tokens, and the segments between them. Each unit must match the text exactly where
the one before it ended, under one of a few readings:

    segment       its joined bytes, or the same without the leading space (a dummy prefix that the tokenizer put in)
    added token   its content, with the white space it swallows on the left (`lstrip`) and on the right (`rstrip`)

Reachable ends are carried from unit to unit, so that a reading which fails later is dropped, and the cost stays near
one comparison of the text. A literal marker character (U+2581) in the text reads as a space, as the tokenizer reads it.
Shapes: `T` tokens of the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.byte_spans_vocabulary import AddedPiece, PieceBytes

# White_Space of Unicode, which `\s` means in the Rust regex that strips around added tokens.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_WHITE += "\u2028\u2029\u202f\u205f\u3000"
_WALL = b"\xff"  # no byte of any UTF-8 text
_WHITE_RUN = re.compile(b"(?:" + b"|".join(re.escape(c.encode()) for c in _WHITE) + b")*")


@dataclass(frozen=True)
class _Unit:
    """Consecutive tokens: an added one, or a segment of ordinary ones between added ones."""

    pieces: list[bytes]
    added: AddedPiece | None = None


@dataclass(frozen=True)
class _Text:
    """The text with one byte for every literal marker: a space in `plain`; in `walled`, none that strips off."""

    plain: bytes
    walled: bytes
    has_marker: bool


def align(vocabulary: PieceBytes, ids_T: npt.NDArray[np.int32], text: bytes) -> npt.NDArray[np.int64] | None:
    """Bytes of `text` that each token covers, `(T,)`, consecutive from 0; None where the tokens do not spell the text.

    `ids_T` holds the text's own tokens, without those of the template.
    """
    marker = vocabulary.marker
    as_read = _Text(text, text, has_marker=False)
    if marker:
        as_read = _Text(text.replace(marker, b" "), text.replace(marker, _WALL), has_marker=True)
    units = list(_units(vocabulary, ids_T))
    spans = _walk(units, as_read)
    if spans is None:
        return None
    ends_T = np.concatenate([_ends(unit, *span) for unit, span in zip(units, spans, strict=True)])
    if len(as_read.plain) != len(text):
        ends_T = _with_markers(ends_T, text, marker)
    return np.diff(ends_T, prepend=0)


def _units(vocabulary: PieceBytes, ids_T: npt.NDArray[np.int32]) -> Iterator[_Unit]:
    pieces = vocabulary.pieces
    ids: list[int] = ids_T.tolist()
    segment: list[bytes] = []
    for index in ids:
        if index not in vocabulary.added:
            segment.append(pieces[index])
            continue
        if segment:
            yield _Unit(segment)
            segment = []
        yield _Unit([pieces[index]], vocabulary.added[index])
    if segment:
        yield _Unit(segment)


def _walk(units: list[_Unit], text: _Text) -> list[tuple[int, int]] | None:
    """`(start, end)` of every unit in `text`, tiling it; None if no reading does. The first reading found wins."""
    came_from: list[dict[int, int]] = []
    reached = {0: 0}
    for unit in units:
        ends: dict[int, int] = {}
        for start in reached:
            for end in _readings(unit, text, start):
                ends.setdefault(end, start)
        came_from.append(ends)
        reached = ends
    if len(text.plain) not in reached:
        return None
    spans: list[tuple[int, int]] = []
    end = len(text.plain)
    for ends in reversed(came_from):
        spans.append((ends[end], end))
        end = ends[end]
    return spans[::-1]


def _readings(unit: _Unit, text: _Text, start: int) -> Iterator[int]:
    """Every place where `unit` may end when it starts at `start`, the likeliest first."""
    if unit.added is None:
        joined = b"".join(unit.pieces)
        if text.plain.startswith(joined, start):
            yield start + len(joined)
        if joined.startswith(b" ") and text.plain.startswith(joined[1:], start):
            yield start + len(joined) - 1
        return
    for left in _swallowed(text, start, unit.added.lstrip):
        end = _content_end(unit.added, text, start + left)
        if end is not None:
            yield from (end + right for right in _swallowed(text, end, unit.added.rstrip))


def _content_end(added: AddedPiece, text: _Text, start: int) -> int | None:
    if text.plain.startswith(added.content, start):
        return start + len(added.content)
    # A normaliser that prepends the marker does so to the token's own content: then it matches " <s>", space included.
    if text.has_marker and added.normalized and text.plain.startswith(b" " + added.content, start):
        return start + 1 + len(added.content)
    return None


def _swallowed(text: _Text, start: int, strips: bool) -> tuple[int, ...]:
    run = _WHITE_RUN.match(text.walled, start) if strips else None
    return (run.end() - start, 0) if run and run.end() > start else (0,)


def _ends(unit: _Unit, start: int, end: int) -> npt.NDArray[np.int64]:
    """Ends of the unit's tokens. A dummy space belongs to the first one, which is that much shorter in the text."""
    if unit.added is not None:
        return np.array([end], dtype=np.int64)
    lengths = np.fromiter(map(len, unit.pieces), dtype=np.int64, count=len(unit.pieces))
    return end - int(lengths.sum()) + np.cumsum(lengths)


def _with_markers(ends_T: npt.NDArray[np.int64], text: bytes, marker: bytes) -> npt.NDArray[np.int64]:
    """Ends in the text with one byte a marker, moved to the text as it is."""
    growth = len(marker) - 1
    places = np.fromiter((m.start() for m in re.finditer(re.escape(marker), text)), dtype=np.int64)
    places -= growth * np.arange(len(places))
    moved: npt.NDArray[np.int64] = ends_T + growth * np.searchsorted(places, ends_T, side="left")
    return moved
