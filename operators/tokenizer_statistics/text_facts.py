"""What is known of the texts of a block before any tokenizer cuts them: bytes, characters, words and numbers.

    words     pieces between white space, as `str.split` sees it; `documents.n_words` also counts an empty piece at
              either end, and so does `n_words` here
    numbers   unbroken rows of the digits 0 to 9, wherever they stand

Whole blocks are looked at byte by byte with numpy, never word by word.
Shapes: `B` bytes of all texts, `D` documents, `R` words or numbers of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# The code points for which `str.isspace` holds; those above ASCII begin with one of four bytes of UTF-8.
WHITE_SPACE = (
    *(0x9, 0xA, 0xB, 0xC, 0xD, 0x1C, 0x1D, 0x1E, 0x1F, 0x20, 0x85, 0xA0, 0x1680),
    *range(0x2000, 0x200B),
    *(0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
)
_IS_SPACE = np.zeros(0x4000, np.bool_)
_IS_SPACE[list(WHITE_SPACE)] = True
_ASCII_SPACE = np.concatenate([_IS_SPACE[:0x80], np.zeros(0x80, np.bool_)])
_LEADS = np.isin(np.arange(256), [0xC2, 0xE1, 0xE2, 0xE3])


@dataclass(frozen=True)
class Runs:
    """Unbroken rows of bytes of one kind, none across documents.

    member: whether a byte is in one, `(B,)`. inside: whether it and the byte before it are in the same one, `(B,)`.
    start, end: the first byte of each, and the one after its last, `(R,)`.
    """

    member: Flags
    inside: Flags
    start: Places
    end: Places

    @classmethod
    def of(cls, member: Flags, bounds: Places) -> Runs:
        """`bounds`: where documents begin and end, `(D + 1,)`."""
        inside = member.copy()
        inside[1:] &= member[:-1]
        inside[bounds[:-1][bounds[:-1] < len(member)]] = False
        goes_on = np.append(inside[1:], False)
        return cls(member, inside, np.flatnonzero(member & ~inside), np.flatnonzero(member & ~goes_on) + 1)

    def documents(self, bounds: Places) -> Places:
        """The document of each, `(R,)`."""
        return np.asarray(np.searchsorted(bounds, self.start, side="right") - 1)


@dataclass(frozen=True)
class TextFacts:
    """`texts`: D texts, no NULLs. `bytes`: theirs, `(B,)`; text d is `bytes[bounds[d]:bounds[d + 1]]`."""

    texts: pa.LargeStringArray
    bytes: Bytes
    bounds: Places
    n_chars: Places
    n_words: Places
    words: Runs
    numbers: Runs

    @classmethod
    def of(cls, texts: pa.LargeStringArray) -> TextFacts:
        offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        raw = texts.buffers()[2]
        data = np.frombuffer(raw if raw is not None else b"", np.uint8)[offsets[0] : offsets[-1]]
        bounds = np.asarray(offsets - offsets[0])
        space = _white_space(data)
        spaces = Runs.of(space, bounds)
        return cls(
            texts=texts,
            bytes=data,
            bounds=bounds,
            n_chars=_per_document((data & 0xC0) != 0x80, bounds),
            n_words=1 + np.bincount(spaces.documents(bounds), minlength=len(texts)),
            words=Runs.of(~space, bounds),
            numbers=Runs.of((data >= 0x30) & (data <= 0x39), bounds),
        )

    @property
    def n_bytes(self) -> Places:
        return np.diff(self.bounds)


def _white_space(data: Bytes) -> Flags:
    space = np.asarray(_ASCII_SPACE[data])
    leads = np.flatnonzero(_LEADS[data])
    if not len(leads):
        return space
    # UTF-8 is whole: only the third byte of a character of two bytes may lie beyond the end.
    lead, second, third = (data[np.minimum(leads + k, len(data) - 1)].astype(np.int64) for k in range(3))
    second, third = second & 0x3F, third & 0x3F
    two_bytes = lead == 0xC2
    point = np.where(two_bytes, 0x80 | second, (lead & 0xF) << 12 | second << 6 | third)
    is_space = _IS_SPACE[point]
    found, short = leads[is_space], two_bytes[is_space]
    space[found] = space[found + 1] = True
    space[found[~short] + 2] = True
    return space


def _per_document(flags_B: Flags, bounds: Places) -> Places:
    """How many bytes of each document are flagged, `(D,)`."""
    running = np.zeros(len(flags_B) + 1, np.int64)
    np.cumsum(flags_B, out=running[1:])
    return np.asarray(running[bounds[1:]] - running[bounds[:-1]])
