"""Which documents of a corpus are of its sample: so many bytes of text, chosen by hash, whatever file they lie in.

    pass 1   every document -> bytes by bin of its hash -> the lowest bin at which the sample is not too large
    pass 2   every document -> of the sample? -> its group, by another hash

A document is of the sample or not by its own key and the seed alone, so every document has the same chance, long and
short ones alike, no file counts more than its text, and the same command takes the same sample. The price is to read
the corpus twice; what is expensive, to count words, is done for the sample only.

A long document counts as several: it is cut behind lines, else between words, and each piece is drawn by itself, so
that one book is not the whole sample. What an interval then says of books is in `assay mixture tokenizer`'s notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from operators.merges import GROUPS

PIECE = 1 << 16  # characters of a document that are drawn together
BINS_A_HALVING, N_BINS = 16, 1024  # the share of documents from bin b on is 2^(-b/16)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """How documents are drawn. `least`: lowest bin of the sample."""

    seed: int
    least: int = 0

    @property
    def share(self) -> float:
        """Of the documents, that is expected in the sample."""
        return float(2.0 ** (-self.least / BINS_A_HALVING))

    def bin_of(self, name: str) -> int:
        """The bin of a piece."""
        uniform = (xxh3_64_intdigest(name.encode(), self.seed) + 1) / 2.0**64
        return min(N_BINS - 1, int(-BINS_A_HALVING * np.log2(uniform)))

    def group_of(self, name: str) -> int:
        """The group of a piece, independent of its bin."""
        return xxh3_64_intdigest(b"group\0" + name.encode(), self.seed) % GROUPS


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of at most `size` characters: cut behind a line's end, else before a space, else anywhere."""
    start = 0
    while len(text) - start > size:
        half, end = start + size // 2, start + size
        line, space = text.rfind("\n", half, end), text.rfind(" ", half, end)
        stop = line + 1 if line >= 0 else space if space >= 0 else end
        yield text[start:stop]
        start = stop
    yield text[start:]


def named_pieces(block: pa.Table) -> Iterator[tuple[str, str]]:
    """The pieces of a block's documents (schema `flow.READ`, those without a reason), each with a name of its own."""
    sound = block.filter(pc.is_null(block["reason"]))
    for key, text in zip(sound["key"].to_pylist(), sound["text"].to_pylist(), strict=True):
        if len(text) <= PIECE:
            yield key, text
        else:
            yield from ((f"{key}\0{i}", piece) for i, piece in enumerate(pieces(text)))


@dataclass
class Weight:
    """What a corpus weighs: documents, and the bytes and number of their pieces by bin."""

    documents: int
    bytes_by_bin: Counts
    pieces_by_bin: Counts

    @classmethod
    def none(cls) -> Weight:
        return cls(0, np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64))

    def add_block(self, block: pa.Table, draw: Draw) -> None:
        for name, piece in named_pieces(block):
            place = draw.bin_of(name)
            self.bytes_by_bin[place] += len(piece.encode())
            self.pieces_by_bin[place] += 1
        self.documents += len(block) - pc.sum(pc.is_valid(block["reason"])).as_py() if len(block) else 0

    def table(self) -> pa.Table:
        """One row: as it travels from a worker."""
        row = {"documents": [self.documents], "bytes": [self.bytes_by_bin], "pieces": [self.pieces_by_bin]}
        return pa.table(row)

    def add_tables(self, tables: Sequence[pa.Table]) -> None:
        """Add what came of a unit."""
        for table in tables:
            self.documents += table["documents"][0].as_py()
            self.bytes_by_bin += table["bytes"].combine_chunks().flatten().to_numpy()
            self.pieces_by_bin += table["pieces"].combine_chunks().flatten().to_numpy()

    @property
    def n_bytes(self) -> int:
        return int(self.bytes_by_bin.sum())

    def least_bin(self, n_bytes: int) -> int:
        """The lowest bin from which on there are at most `n_bytes`; never above the highest that holds a piece."""
        from_bin = np.cumsum(self.bytes_by_bin[::-1])[::-1]
        fits = np.flatnonzero(from_bin <= n_bytes)
        held = np.flatnonzero(self.pieces_by_bin)
        return 0 if not len(held) else int(min(fits[0] if len(fits) else N_BINS - 1, held[-1]))

    def sampled(self, least: int) -> tuple[int, int]:
        """Bytes and pieces from a bin on."""
        return int(self.bytes_by_bin[least:].sum()), int(self.pieces_by_bin[least:].sum())


def drawn(block: pa.Table, draw: Draw) -> tuple[list[str], list[int]]:
    """The pieces of a block that are of the sample, and the group of each."""
    found = [(piece, draw.group_of(name)) for name, piece in named_pieces(block) if draw.bin_of(name) >= draw.least]
    return [piece for piece, _ in found], [group for _, group in found]
