"""The driver's record of a run: which blocks are written, under which names. What resuming needs, and nothing else.

    <lake>/progress/run_id=<run>/shards.parquet            the listing of the input, for a readable difference
                                 units.parquet             how the input is cut
                                 repeats-<number>.parquet  records whose id an earlier record has
                                 journal-<number>.parquet  one row a block: where it lies in the input, parts, counts

Blocks are cut the same way in every attempt, so (unit, block) names the same records always. A block counts as done if
the journal names it and the lake still lists its parts: resuming lists the lake and reads the journal, never a part.
Blocks written but not yet journaled when a driver is killed are written again, to the same names and bytes. The journal
is written every few seconds, so that is all the work a kill can cost beyond the blocks in flight.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake, progress_folder
from schemas import DOCUMENTS, REJECTS, TOKENS

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
MAX_SEGMENTS = 128  # then they become one

COUNTS = ("rows_in", "documents", "rejects", "unreadable", "tokens", "scored", "text_bytes")
ROWS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("block", pa.int64(), nullable=False),  # its number within the unit
        pa.field("is_last", pa.bool_(), nullable=False),  # whether the unit ends with it
        pa.field("part", pa.string()),  # NULL where the block held no document
        pa.field("rejects_part", pa.string()),  # NULL where it held no reject
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
    ]
)
_SEGMENT = re.compile(r"journal-(\d{8})\.parquet")


@dataclass(frozen=True)
class Done:
    """`blocks`: done blocks by unit, of units that are not finished; `finished`: units of which every block is done."""

    finished: frozenset[int]
    blocks: dict[int, frozenset[int]]
    counts: dict[str, int]


@dataclass
class Journal:
    """Rows of `ROWS` for one run; `add` them as blocks are written and `flush` before leaving."""

    lake: Lake
    run_id: str
    _rows: pa.Table = field(default_factory=ROWS.empty_table)
    _new: list[dict[str, Any]] = field(default_factory=list)
    _segments: list[int] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, lake: Lake, run_id: str) -> Journal:
        """The journal as the lake has it; empty for a new run. A segment that cannot be read counts as not written."""
        journal = cls(lake, run_id)
        names = (_SEGMENT.fullmatch(name) for name in lake.storage.list(progress_folder(run_id)))
        journal._segments = sorted(int(match[1]) for match in names if match)
        tables = [journal._read(number) for number in journal._segments]
        journal._rows = _without_repeats(pa.concat_tables([ROWS.empty_table(), *tables]))
        return journal

    def __len__(self) -> int:
        return len(self._rows) + len(self._new)

    def add(self, row: dict[str, Any]) -> None:
        """Note a written block; stored now if the last time is `FLUSH_SECONDS` ago, else with a later one."""
        self._new.append({name: row[name] for name in ROWS.names})
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what was added since the last time."""
        self._flushed = time.monotonic()
        if not self._new:
            return
        added = pa.Table.from_pylist(self._new, schema=ROWS)
        self._rows, self._new = pa.concat_tables([self._rows, added]), []
        number = (self._segments or [0])[-1] + 1
        if len(self._segments) >= MAX_SEGMENTS:
            self._write(number, self._rows)
            for old in self._segments:
                self.lake.storage.delete(self._path(old))
            self._segments = [number]
        else:
            self._write(number, added)
            self._segments.append(number)

    def done(self) -> Done:
        """What is done, by the journal and a listing of the lake's parts."""
        rows = self._sound()
        blocks: dict[int, set[int]] = {}
        lengths: dict[int, int] = {}
        for unit, block, is_last in zip(*(rows[n].to_pylist() for n in ("unit", "block", "is_last")), strict=True):
            blocks.setdefault(unit, set()).add(block)
            if is_last:
                lengths[unit] = block + 1
        finished = frozenset(unit for unit, done in blocks.items() if len(done) == lengths.get(unit))
        counts = {name: pc.sum(rows[name]).as_py() or 0 for name in COUNTS}
        return Done(finished, {u: frozenset(b) for u, b in blocks.items() if u not in finished}, counts)

    def forget_lost(self) -> int:
        """Drop rows whose parts the lake does not list, so that their blocks are done again; returns how many."""
        self.flush()
        sound = self._sound()
        lost = len(self._rows) - len(sound)
        if lost:
            self._rows = sound
            self._replace()
        return lost

    def clear(self) -> None:
        """Forget everything, and the segments with it."""
        for segment in self._segments:
            self.lake.storage.delete(self._path(segment))
        self._rows, self._new, self._segments = ROWS.empty_table(), [], []

    def drop_units(self, units: Iterable[int]) -> None:
        """Forget every block of these units: they are to be read in another way from their start."""
        self.flush()
        self._rows = self._rows.filter(pc.invert(pc.is_in(self._rows["unit"], pa.array(list(units), pa.int64()))))
        self._replace()

    def part_names(self, table: str) -> set[str]:
        """The parts of a table that blocks of this journal were written to."""
        column = "rejects_part" if table == REJECTS.name else "part"
        rows = [*self._rows[column].to_pylist(), *(row[column] for row in self._new)]
        return {name for name in rows if name is not None}

    def _sound(self) -> pa.Table:
        """The rows of which all parts are there."""
        rows = _without_repeats(pa.concat_tables([self._rows, pa.Table.from_pylist(self._new, schema=ROWS)]))
        if not len(rows):
            return rows
        keep = np.ones(len(rows), bool)
        for table, column in ((TOKENS, "part"), (DOCUMENTS, "part"), (REJECTS, "rejects_part")):
            listed = pa.array([part.name for part in self.lake.parts(table.name, self.run_id)], pa.string())
            is_there = pc.or_(pc.is_null(rows[column]), pc.is_in(rows[column], listed))
            keep &= is_there.to_numpy()
        return rows.filter(pa.array(keep))

    def _replace(self) -> None:
        old, number = self._segments, (self._segments or [0])[-1] + 1
        self._write(number, self._rows)
        for segment in old:
            self.lake.storage.delete(self._path(segment))
        self._segments = [number]

    def _path(self, number: int) -> str:
        return f"{progress_folder(self.run_id)}/journal-{number:08d}.parquet"

    def _write(self, number: int, rows: pa.Table) -> None:
        write_table(self.lake, self._path(number), rows)

    def _read(self, number: int) -> pa.Table:
        rows = read_table(self.lake, self._path(number))
        return rows if rows is not None and rows.schema.equals(ROWS) else ROWS.empty_table()


def write_table(lake: Lake, path: str, rows: pa.Table) -> None:
    """Write a small table of the run's record, whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
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
    numbered = rows.append_column("place", pa.array(np.arange(len(rows))))
    newest = numbered.group_by(["unit", "block"]).aggregate([("place", "max")])["place_max"].to_numpy()
    return rows.take(pa.array(np.sort(newest)))
