"""The driver's record of a run: which blocks are written, under which names. What resuming needs, and nothing else.

    <lake>/progress/run_id=<run>/shards.parquet            the listing of the input, for a readable difference
                                 units.parquet             how the input is cut
                                 repeats-<number>.parquet  records whose id an earlier record has
                                 journal-<number>.parquet  one row a block: where it lies in the input, parts, counts

Blocks are cut the same way in every attempt, so (unit, block) names the same records always. A block counts as done if
the journal names it and the lake still lists its parts: resuming lists the lake and reads the journal, never a part.
Blocks written but not yet journaled when a driver is killed are written again, to the same names and bytes. The journal
is written every few seconds, so that is all the work a kill can cost beyond the blocks in flight.

What is written every few seconds is a small segment. Once `FAN` segments of a size are together, the next one takes
them in: a run of a million blocks keeps some dozens, and each row is written again once a level, not once a merge.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import PART_TABLES, Lake, progress_folder
from pipelines.numbers import Numbers
from schemas import DOCUMENTS, REJECTS, TOKENS

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
FAN = 16  # segments of one size that become one of the next; a power of two

COUNTS = ("rows_in", "documents", "rejects", "unreadable", "tokens", "scored", "text_bytes")
ROWS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("block", pa.int64(), nullable=False),  # its number within the unit
        pa.field("is_last", pa.bool_(), nullable=False),  # whether the unit ends with it
        pa.field("part", pa.string()),  # NULL where the block held no document
        pa.field("rejects_part", pa.string()),  # NULL where it held no reject
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        # For those who watch; NULL in journals of before they were kept.
        pa.field("reasons", pa.string()),  # rejects by reason, JSON; NULL where there are none
        pa.field("at", pa.timestamp("ms", tz="UTC")),  # when the driver had the block's manifest
        pa.field("share", pa.float64()),  # of its unit's stored bytes, about; those of a unit make 1
    ]
)
_LATER = ("reasons", "at", "share")
_PART_COLUMN = {TOKENS.name: "part", DOCUMENTS.name: "part", REJECTS.name: "rejects_part"}
_SEGMENT = re.compile(r"journal-(\d{8})\.parquet")


# By table the names of a run's parts, as strings.
Listed = Mapping[str, pa.Array]


@dataclass(frozen=True)
class Done:
    """`blocks`: done blocks by unit, of units that are not finished; `finished`: units of which every block is done."""

    finished: Set[int]
    blocks: Mapping[int, frozenset[int]]
    counts: dict[str, int]


@dataclass(frozen=True)
class _Segment:
    """One object of the journal; `rows` of schema `ROWS`."""

    number: int
    rows: pa.Table


@dataclass
class Journal:
    """Rows of `ROWS` for one run; `add` them as blocks are written and `flush` before leaving."""

    lake: Lake
    run_id: str
    _new: list[dict[str, Any]] = field(default_factory=list)
    _segments: list[_Segment] = field(default_factory=list)  # the oldest first
    _flushed: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, lake: Lake, run_id: str) -> Self:
        """The journal as the lake has it; empty for a new run. A segment that cannot be read counts as not written."""
        journal = cls(lake, run_id)
        names = (_SEGMENT.fullmatch(name) for name in lake.storage.list(progress_folder(run_id)))
        numbers = sorted(int(match[1]) for match in names if match)
        journal._segments = [_Segment(number, journal._read(number)) for number in numbers]
        return journal

    def __len__(self) -> int:
        return len(self.rows())

    def add(self, row: dict[str, Any]) -> None:
        """Note a written block; stored now if the last time is `FLUSH_SECONDS` ago, else with a later one."""
        self._new.append({"at": datetime.now(UTC), **{name: row.get(name) for name in ROWS.names if name != "at"}})
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what was added since the last time, in one object; where it takes in older ones, these go."""
        self._flushed = time.monotonic()
        if not self._new:
            return
        added = pa.Table.from_pylist(self._new, schema=ROWS)
        n = _taken_in([len(segment.rows) for segment in self._segments], len(added))
        kept, old = self._segments[: len(self._segments) - n], self._segments[len(self._segments) - n :]
        self._store(pa.concat_tables([*(segment.rows for segment in old), added]), kept, old)
        self._new = []

    def done(self, listed: Listed | None = None) -> Done:
        """What is done, by the journal and the lake's parts; `listed`: these, where the caller has just listed them."""
        return _done(self._sound(listed))

    def known(self) -> Done:
        """`done` by the journal alone: the same a moment after `forget_lost`, and listing millions takes minutes."""
        return _done(self.rows())

    def forget_lost(self) -> int:
        """Drop rows whose parts the lake does not list, so that their blocks are done again; returns how many."""
        self.flush()
        before, sound = len(self), self._sound(None)
        lost = before - len(sound)
        if lost:
            self._replace(sound)
        return lost

    def shares(self) -> dict[int, float]:
        """Of units that are begun and not at their end: how much of their stored bytes is done, about."""
        rows = self.rows()
        unit, share = rows["unit"].to_numpy(), pc.fill_null(rows["share"], 0.0).to_numpy()
        begun = ~np.isin(unit, unit[rows["is_last"].to_numpy()])
        units, places = np.unique(unit[begun], return_inverse=True)
        return dict(zip(units.tolist(), np.bincount(places, share[begun], len(units)).tolist(), strict=True))

    def clear(self) -> None:
        """Forget everything, and the segments with it."""
        self.lake.delete(self._path(segment.number) for segment in self._segments)
        self._new, self._segments = [], []

    def drop_units(self, units: Iterable[int]) -> None:
        """Forget every block of these units: they are to be read in another way from their start."""
        self.flush()
        rows = self.rows()
        self._replace(rows.filter(pc.invert(pc.is_in(rows["unit"], pa.array(list(units), pa.int64())))))

    def list_parts(self) -> Listed:
        """What the lake lists of this run now, the three tables at once."""
        with ThreadPoolExecutor(len(PART_TABLES)) as pool:
            names = pool.map(lambda table: self.lake.part_names(table, self.run_id), PART_TABLES)
            return dict(zip(PART_TABLES, names, strict=True))

    def strays(self, table: str, listed: pa.Array) -> list[str]:
        """The parts among `listed` that no block of this journal was written to."""
        named = self.rows()[_PART_COLUMN[table]].drop_null().unique()
        return [str(name) for name in listed.filter(pc.invert(pc.is_in(listed, named))).to_pylist()]

    def rows(self) -> pa.Table:
        """One row a block, the newest, of schema `ROWS`."""
        new = pa.Table.from_pylist(self._new, schema=ROWS)
        return _without_repeats(pa.concat_tables([*(segment.rows for segment in self._segments), new]))

    def _sound(self, listed: Listed | None) -> pa.Table:
        """The rows of which all parts are there."""
        rows = self.rows()
        if not len(rows):
            return rows
        listed = self.list_parts() if listed is None else listed
        keep = np.ones(len(rows), bool)
        for table, column in _PART_COLUMN.items():
            is_there = pc.or_(pc.is_null(rows[column]), pc.is_in(rows[column], listed[table]))
            keep &= is_there.to_numpy()
        return rows if keep.all() else rows.filter(pa.array(keep))

    def _replace(self, rows: pa.Table) -> None:
        self._store(rows, [], self._segments)

    def _store(self, rows: pa.Table, kept: list[_Segment], old: Sequence[_Segment]) -> None:
        """Write a segment, then remove those that it takes the place of: a kill in between leaves both, which is
        noticed. A write that fails changes nothing here."""
        number = max((segment.number for segment in self._segments), default=0) + 1
        rows = rows.combine_chunks()
        write_table(self.lake, self._path(number), rows)
        self._segments = [*kept, _Segment(number, rows)]
        if old:
            self.lake.delete(self._path(segment.number) for segment in old)

    def _path(self, number: int) -> str:
        return f"{progress_folder(self.run_id)}/journal-{number:08d}.parquet"

    def _read(self, number: int) -> pa.Table:
        return journal_rows(read_table(self.lake, self._path(number)))


def journal_rows(stored: pa.Table | None) -> pa.Table:
    """A segment as `ROWS`, columns of a later time NULL where it has none; empty where it is no segment."""
    if stored is None:
        return ROWS.empty_table()
    for name in _LATER:
        if name not in stored.schema.names:
            stored = stored.append_column(ROWS.field(name), pa.nulls(len(stored), ROWS.field(name).type))
    return stored if stored.schema.equals(ROWS) else ROWS.empty_table()


def write_table(lake: Lake, path: str, rows: pa.Table, *, row_group_size: int | None = None) -> None:
    """Write a small table of the run's record, whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True, row_group_size=row_group_size)
    lake.storage.write(path, memoryview(sink.getvalue()))


def read_table(lake: Lake, path: str) -> pa.Table | None:
    """Read it again; None where it is missing or damaged: then it is made anew."""
    try:
        data = lake.storage.read(path)
    except FileNotFoundError:
        return None
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        log.warning("%s is damaged: what it recorded is done again", lake.storage.uri(path))
        return None


def _without_repeats(rows: pa.Table) -> pa.Table:
    """One row a block, the newest: a kill between merging segments and deleting the old ones leaves both, and a block
    whose part was lost is written again."""
    unit, block = (rows[name].to_numpy() for name in ("unit", "block"))
    order = np.lexsort((block, unit))  # stable: of one block the newest comes last
    older = (np.diff(unit[order]) == 0) & (np.diff(block[order]) == 0)
    if not older.any():
        return rows
    keep = np.ones(len(rows), bool)
    keep[order[:-1][older]] = False
    return rows.filter(pa.array(keep))


def _done(rows: pa.Table) -> Done:
    unit, block = (rows[name].to_numpy() for name in ("unit", "block"))
    units, n_blocks = np.unique(unit, return_counts=True)
    is_last = rows["is_last"].to_numpy()
    lengths = np.zeros(len(units), np.int64)
    lengths[np.searchsorted(units, unit[is_last])] = block[is_last] + 1
    finished = Numbers(units[n_blocks == lengths])
    counts = {name: pc.sum(rows[name]).as_py() or 0 for name in COUNTS}
    return Done(finished, _by_unit(unit, block, ~np.isin(unit, finished.array)), counts)


def _by_unit(
    unit: npt.NDArray[np.int64], block: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]
) -> dict[int, frozenset[int]]:
    """The blocks of each unit, of the rows chosen."""
    found: dict[int, set[int]] = {}
    for of_unit, number in zip(unit[chosen].tolist(), block[chosen].tolist(), strict=True):
        found.setdefault(of_unit, set()).add(number)
    return {of_unit: frozenset(numbers) for of_unit, numbers in found.items()}


def _taken_in(sizes: Sequence[int], added: int) -> int:
    """How many of the newest segments, of so many rows each, the next one of `added` rows takes in."""
    taken, left = 0, list(sizes)
    while True:
        level, run = _level(added), 0
        while run < len(left) and _level(left[-1 - run]) <= level:
            run += 1
        if run + 1 < FAN:
            return taken
        added += sum(left[len(left) - run :])
        del left[len(left) - run :]
        taken += run


def _level(n_rows: int) -> int:
    """0 below `FAN` rows, 1 below its square, ..."""
    return (max(1, n_rows).bit_length() - 1) // (FAN.bit_length() - 1)
