"""Cuts a corpus into units of reading: what one task reads, and what is finished or not when a run resumes.

    shards in input order -> pieces of huge files -> units: neighbours together until they are worth a task

The cut depends on the listing and on the sizes alone, never on the machine, so that a resumed run has the same units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from operators.pieces import Piece, split

from operators.shards import Shard

# Small files share a task, hence blocks and parts; files above PIECE_BYTES are read by several tasks. A unit is read
# again from its start when a run resumes in it: larger ones would cost more there, smaller ones more parts.
UNIT_BYTES, UNIT_FILES, PIECE_BYTES = 16 << 20, 1000, 64 << 20


@dataclass(frozen=True)
class Unit:
    """Pieces that one task reads one after the other. `stop`: the row of the last one's file at which a limit ends."""

    index: int
    pieces: tuple[Piece, ...]
    stop: int | None = None

    @property
    def n_bytes(self) -> int:
        """Stored bytes (compressed where they are)."""
        return sum(_stored(piece) for piece in self.pieces)


def cut(
    shards: Iterable[Shard], storage_options: Mapping[str, Any] | None = None, *, last_stop: int | None = None
) -> list[Unit]:
    """The units of a corpus. `last_stop`: the row at which the last shard ends for this run, None for its end.

    Raises:
        StorageError: the footer of a large Parquet file could not be fetched.
    """
    units: list[Unit] = []
    for pieces in _groups(_pieces(list(shards), storage_options, whole_last=last_stop is not None)):
        units.append(Unit(len(units), tuple(pieces)))
    if last_stop is not None and units:
        units[-1] = Unit(units[-1].index, units[-1].pieces, last_stop)
    return units


def _pieces(shards: list[Shard], storage_options: Mapping[str, Any] | None, *, whole_last: bool) -> Iterator[Piece]:
    for place, shard in enumerate(shards):
        if shard.n_bytes <= PIECE_BYTES or (whole_last and place == len(shards) - 1):
            yield Piece(shard)
        else:
            yield from split(shard, PIECE_BYTES, storage_options)


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        if group and (held + _stored(piece) > UNIT_BYTES or len(group) >= UNIT_FILES):
            yield group
            group, held = [], 0
        group.append(piece)
        held += _stored(piece)
    if group:
        yield group


def _stored(piece: Piece) -> int:
    if piece.shard.format == "jsonl" and (piece.start or piece.stop):
        return (piece.stop or piece.shard.n_bytes) - piece.start
    return piece.shard.n_bytes if piece.stop is None else PIECE_BYTES  # row groups: about as much as was asked for
