"""Cuts a corpus into units of reading: what one task reads, and what is finished or not when a run resumes.

    shards in input order -> pieces of huge files -> units: neighbours together until they are worth a task

The cut depends on the listing and on the sizes alone, never on the machine, so that a resumed run has the same units.
It is kept beside the run's journal: to cut anew would open the footer of every large Parquet file.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from operators.lake import Lake, progress_folder
from operators.pieces import Piece, split
from operators.shards import Shard
from pipelines.journal import read_table, write_table

# Small files share a task, hence blocks and parts; files above PIECE_BYTES are read by several tasks. A unit is read
# again from its start when a run resumes in it: larger ones would cost more there, smaller ones more parts.
UNIT_BYTES, UNIT_FILES, PIECE_BYTES = 16 << 20, 1000, 64 << 20
FOOTERS, CHUNK = 16, 4096  # footers in flight, files at a time

UNITS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),  # its place in the listing
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64()),
        pa.field("first_row", pa.int64()),
    ]
)


class ElsewhereError(RuntimeError):
    """This machine does not see what the run reads or writes."""


@dataclass(frozen=True)
class Unit:
    """Pieces that one task reads one after the other. `stop`: the row of the last one's file at which a limit ends."""

    index: int
    pieces: tuple[Piece, ...]
    stop: int | None = None

    @property
    def n_bytes(self) -> int:
        """Stored bytes (compressed where they are)."""
        return sum(stored_bytes(piece) for piece in self.pieces)

    def check_here(self) -> None:
        """Tell a machine that lacks the folder of a file from a file that is gone, which is a reject.

        Raises:
            ElsewhereError: it lacks one.
        """
        folders = {os.path.dirname(p.shard.uri) for p in self.pieces if "://" not in p.shard.uri}  # noqa: PTH120
        for folder in sorted(folders):
            if not os.path.isdir(folder):  # noqa: PTH112 - as fast as can be, there may be a thousand
                raise ElsewhereError(
                    f"{os.uname().nodename} has no folder {folder}, where the input is: put it into object storage, or "
                    "into a folder that every node sees under this path; the same command goes on then"
                )


def stored_bytes(piece: Piece) -> int:
    """Stored bytes of a piece; of row groups about as many as they were cut for. 0 where the storage does not say."""
    n_bytes = piece.shard.n_bytes
    if piece.start == 0 and piece.stop is None:
        return n_bytes
    if piece.shard.format == "jsonl":
        return (piece.stop or n_bytes) - piece.start
    return min(n_bytes, PIECE_BYTES)


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


def write_units(lake: Lake, run_id: str, units: Iterable[Unit], shards: Sequence[Shard]) -> None:
    """Keep the units; `shards`: the listing that they were cut from."""
    places = {shard.uri: place for place, shard in enumerate(shards)}
    rows = ((u.index, places[p.shard.uri], p.start, p.stop, p.first_row) for u in units for p in u.pieces)
    tables = [UNITS.empty_table()]
    while some := list(itertools.islice(rows, CHUNK)):
        tables.append(pa.table(dict(zip(UNITS.names, zip(*some, strict=True), strict=True)), schema=UNITS))
    write_table(lake, _path(run_id), pa.concat_tables(tables).combine_chunks())


def read_units(lake: Lake, run_id: str, listing: Sequence[Shard], n: int, last_stop: int | None) -> list[Unit] | None:
    """The `n` units of an earlier attempt at the same listing; None where they are not recorded."""
    rows = read_table(lake, _path(run_id))
    if rows is None or not rows.schema.equals(UNITS):
        return None
    pieces: list[list[Piece]] = [[] for _ in range(n)]
    for batch in rows.to_batches(CHUNK):
        for unit, shard, *where in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            pieces[unit].append(Piece(listing[shard], *where))
    units = [Unit(index, tuple(each)) for index, each in enumerate(pieces)]
    if last_stop is not None and units:
        units[-1] = replace(units[-1], stop=last_stop)
    return units


def _path(run_id: str) -> str:
    return f"{progress_folder(run_id)}/units.parquet"


def _pieces(shards: list[Shard], storage_options: Mapping[str, Any] | None, *, whole_last: bool) -> Iterator[Piece]:
    def cut_one(place: int) -> list[Piece]:
        return split(shards[place], PIECE_BYTES, storage_options)

    with ThreadPoolExecutor(FOOTERS) as pool:
        for start in range(0, len(shards), CHUNK):
            chunk = range(start, min(start + CHUNK, len(shards)))
            large = [i for i in chunk if shards[i].n_bytes > PIECE_BYTES and not (whole_last and i == len(shards) - 1)]
            cuts = dict(zip(large, pool.map(cut_one, large), strict=True))  # threads wait for footers, and only there
            for place in chunk:
                yield from cuts.get(place) or (Piece(shards[place]),)


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        if group and (held + stored_bytes(piece) > UNIT_BYTES or len(group) >= UNIT_FILES):
            yield group
            group, held = [], 0
        group.append(piece)
        held += stored_bytes(piece)
    if group:
        yield group
