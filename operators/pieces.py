"""Cuts large files into pieces, so that many workers read one file and a killed one loses little.

    file -> pieces -> (JSON Lines: count the lines of each) -> pieces that know the number of their first record

Pieces tile their file: read one after the other they give the records of the whole, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from operators.readers.parquet import open_footer
from operators.readers.record import UnreadableError
from operators.readers.source import compression_of, open_source
from operators.shards import Shard


@dataclass(frozen=True)
class Piece:
    """A part of a file: of JSON Lines the lines that begin at bytes [`start`, `stop`), of Parquet the row groups.

    `stop`: None for the end of the file. `first_row`: number of the first record in its file, None where it is not
    known yet. Compressed, text and Arrow files, and files within archives, are read whole.

    Raises:
        ValueError: `start`, `stop` or `first_row` is out of range, or this file cannot be read in parts.
    """

    shard: Shard
    start: int = 0
    stop: int | None = None
    first_row: int | None = 0

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start) or (self.first_row or 0) < 0:
            raise ValueError(f"{self.shard.uri}: no piece from {self.start} to {self.stop}, row {self.first_row}")
        if (self.start or self.stop is not None) and not _has_parts(self.shard):
            raise ValueError(f"{self.shard.uri}: this file can only be read whole")


def split(shard: Shard, piece_bytes: int, storage_options: Mapping[str, Any] | None = None) -> list[Piece]:
    """The pieces of a file, in order, of about `piece_bytes` stored bytes each.

    JSON Lines are cut by their length alone, Parquet between row groups. One whole piece: a file that is no longer
    than that or whose length is not known, a compressed one, another format, a footer that cannot be read.

    Raises:
        ValueError: `piece_bytes` is below 1.
        StorageError: the storage failed.
    """
    if piece_bytes < 1:
        raise ValueError(f"piece_bytes is {piece_bytes}, expected at least 1")
    if shard.n_bytes > piece_bytes and _has_parts(shard):
        return (
            _split_lines(shard, piece_bytes)
            if shard.format == "jsonl"
            else _split_groups(shard, piece_bytes, storage_options)
        )
    return [Piece(shard)]


def count_lines(piece: Piece, storage_options: Mapping[str, Any] | None = None) -> int:
    """How many lines of JSON Lines begin in a piece, blank ones and a last one without its end included.

    Of a broken stream the lines before the break, of a file that is gone none: the reader will reject it.

    Raises:
        ValueError: a piece of another format.
        StorageError: the storage failed.
    """
    if piece.shard.format != "jsonl":
        raise ValueError(f"{piece.shard.uri}: a {piece.shard.format} file has no lines to count")
    # A line begins at byte 0 and after each newline that is not the file's last byte.
    before = max(0, piece.start - 1)
    lines, last = 0, b"" if piece.start else b"\n"
    with suppress(UnreadableError):
        for chunk in _chunks(piece, before, inf if piece.stop is None else piece.stop, storage_options):
            lines += last.count(b"\n") + chunk.count(b"\n", 0, len(chunk) - 1)
            last = chunk[-1:]
    return lines


def numbered(pieces: Sequence[Piece], counts: Sequence[int]) -> list[Piece]:
    """The pieces of one file of JSON Lines with the numbers of their first records, from the count of lines of each.

    Pieces after the first in which no line begins are left out: they hold nothing to read or reject.
    """
    known, row = [], 0
    for piece, count in zip(pieces, counts, strict=True):
        if count or piece.start == 0:
            known.append(replace(piece, first_row=row))
        row += count
    return known


def _has_parts(shard: Shard) -> bool:
    if "://" in shard.uri and "::" in shard.uri:
        return False  # within an archive every piece would have to unpack what comes before it
    return shard.format == "parquet" or (shard.format == "jsonl" and compression_of(shard.uri) is None)


def _split_lines(shard: Shard, piece_bytes: int) -> list[Piece]:
    n = -(-shard.n_bytes // piece_bytes)
    cuts = [shard.n_bytes * i // n for i in range(n)]
    return [
        Piece(shard, start, stop, None if start else 0) for start, stop in zip(cuts, [*cuts[1:], None], strict=True)
    ]


def _split_groups(shard: Shard, piece_bytes: int, storage_options: Mapping[str, Any] | None) -> list[Piece]:
    try:
        with open_source(shard.uri, storage_options, scattered=True) as source:
            footer = open_footer(source)
    except UnreadableError:
        return [Piece(shard)]
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    rows = [group.num_rows for group in groups]
    sizes = [group.total_byte_size for group in groups]  # unpacked; the stored ones are not safe to ask for
    if min(rows + sizes, default=-1) < 0 or sum(rows) != footer.num_rows:
        return [Piece(shard)]  # damaged: the reader tells how
    limit = piece_bytes * max(1, sum(sizes)) / shard.n_bytes
    cuts = [0, *_cuts(rows, sizes, limit)]
    return [Piece(shard, start, stop, sum(rows[:start])) for start, stop in zip(cuts, [*cuts[1:], None], strict=True)]


def _cuts(rows: Sequence[int], sizes: Sequence[int], limit: float) -> Iterator[int]:
    """The groups before which to cut. Every piece has rows: two pieces must not begin at one row."""
    n_rows = n_bytes = 0
    for group, (more_rows, more_bytes) in enumerate(zip(rows, sizes, strict=True)):
        if n_rows and n_bytes + more_bytes > limit and any(rows[group:]):
            yield group
            n_rows = n_bytes = 0
        n_rows, n_bytes = n_rows + more_rows, n_bytes + more_bytes


def _chunks(piece: Piece, start: int, stop: float, storage_options: Mapping[str, Any] | None) -> Iterator[bytes]:
    """The bytes [start, stop) of a file, unpacked where it is compressed."""
    with open_source(piece.shard.uri, storage_options) as source:
        stream = source.decompressed()
        if start:
            stream.seek(start)
        while start < stop:
            with source.decoding(0):
                chunk = bytes(stream.read(int(min(source.chunk_bytes, stop - start))))
            if not chunk:
                return
            yield chunk
            start += len(chunk)
