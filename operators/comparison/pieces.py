"""How far the text of a corpus compresses once documents stand together: pieces of 64 KiB, each of whole documents.

zlib on a document alone (`documents.zlib_bytes`) sees little of what documents of a corpus have in common, and short
ones hardly compress. A piece is filled with documents in their order, a line feed behind each, until it has
`PIECE_BYTES`; the rest of the last document is dropped, so that all pieces are of one size and no document is in two.
So pieces are independent where documents are, and corpora of documents of any length can be compared. What is left at
the end and fills no piece is not used. zlib looks back 32 KiB, at level `LEVEL`, the default of zlib.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from operators.evaluation.classes import Floats

PIECE_BYTES = 1 << 16
LEVEL = 6


class Pieces:
    """Compresses the documents of a corpus as they come, and holds one piece at a time."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._ratios: list[float] = []

    def add(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self._open += text[:PIECE_BYTES]
            self._open += b"\n"
            if len(self._open) >= PIECE_BYTES:
                compressed = zlib.compress(bytes(self._open[:PIECE_BYTES]), LEVEL)
                self._ratios.append(PIECE_BYTES / len(compressed))
                self._open.clear()

    @property
    def ratios(self) -> Floats:
        """Bytes before / bytes after, of every full piece."""
        return np.array(self._ratios, np.float64)
