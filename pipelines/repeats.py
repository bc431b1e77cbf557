"""Keeps the records whose id an earlier record has, beside the run's journal, and hands each reader its own.

keys of all units --operators.repeats--> repeats-<8 digits>.parquet, by unit --> the repeats of one unit
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake, progress_folder
from operators.storage import ObjectError
from pipelines.journal import read_table, write_table
from pipelines.units import Unit
from schemas.rejects import Reason

ROWS_PER_FILE, ROWS_PER_GROUP = 1 << 20, 1 << 14  # a group is what the reader of one unit fetches
STORED_REPEATS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("is_collision", pa.bool_(), nullable=False),
        pa.field("first_source", pa.string(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
    ]
)


def find_repeats(
    lake: Lake, run_id: str, units: Sequence[Unit], keys: Iterable[pa.Table]
) -> dict[int, tuple[int, ...]]:
    """Compare the keys of the whole input and store the repeats; returns the numbers of their files by unit."""
    from operators.repeats import RepeatFinder

    numbers: dict[int, tuple[int, ...]] = {}
    with RepeatFinder() as finder:
        for table in keys:
            finder.add(table)
        for number, rows in enumerate(_files(_named(batch, units) for batch in finder.repeats())):
            write_table(lake, _repeats_path(run_id, number), rows, row_group_size=ROWS_PER_GROUP)
            for unit in pc.unique(rows["unit"]).to_pylist():
                numbers[unit] = (*numbers.get(unit, ()), number)
    return numbers


def stored_repeats(lake: Lake, run_id: str, n_files: int) -> dict[int, tuple[int, ...]] | None:
    """The numbers of the files by unit, of an earlier attempt; None where one of them is gone."""
    numbers: dict[int, tuple[int, ...]] = {}
    for number in range(n_files):
        rows = read_table(lake, _repeats_path(run_id, number))
        if rows is None:
            return None
        for unit in pc.unique(rows["unit"]).to_pylist():
            numbers[unit] = (*numbers.get(unit, ()), number)
    return numbers


def read_repeats(lake: Lake, run_id: str, unit: int, numbers: Iterable[int]) -> UnitRepeats:
    """The repeats of one unit, as the reader wants them.

    Raises:
        FileNotFoundError: a file of them is gone: to go on would score a document twice.
    """
    tables = [_of_unit(lake, _repeats_path(run_id, number), unit) for number in numbers]
    return UnitRepeats(pa.concat_tables([STORED_REPEATS.empty_table(), *tables]))


def _of_unit(lake: Lake, path: str, unit: int) -> pa.Table:
    """The rows of one unit in a file, by the row groups that may hold them: a file has those of very many units."""
    try:
        with lake.storage.parquet(path, verify_checksums=True) as file:
            groups = [i for i in range(file.num_row_groups) if _may_hold(file.metadata.row_group(i), unit)]
            rows = file.read_row_groups(groups)
    except ObjectError:
        raise
    except (OSError, pa.ArrowException) as error:
        where = lake.storage.uri(path)
        raise FileNotFoundError(f"{where} is gone: repeat the command, the run makes it again") from error
    return rows.filter(pc.equal(rows["unit"], unit)).replace_schema_metadata(None)


def _may_hold(group: pq.RowGroupMetaData, unit: int) -> bool:
    units = group.column(STORED_REPEATS.get_field_index("unit")).statistics
    return units is None or not units.has_min_max or bool(units.min <= unit <= units.max)


class UnitRepeats(Mapping[tuple[str, int], tuple[Reason, str]]):
    """(source, row) -> why the record is a repeat, at some 30 bytes each: there may be as many as records."""

    def __init__(self, rows: pa.Table) -> None:
        """`rows`: of schema `STORED_REPEATS`, those of one source together and in order."""
        self._rows = np.asarray(rows["row"].to_numpy(), np.int64)
        self._is_collision = rows["is_collision"].to_numpy()
        self._first_row = rows["first_row"].to_numpy()
        first = pc.dictionary_encode(rows["first_source"]).unify_dictionaries().combine_chunks()
        self._first_name = [] if not len(rows) else first.dictionary.to_pylist()
        self._first_source = np.zeros(0, np.int32) if not len(rows) else first.indices.to_numpy()
        self._spans = self._spans_of(rows)

    @staticmethod
    def _spans_of(rows: pa.Table) -> dict[str, tuple[int, int]]:
        runs = pc.run_end_encode(rows["source"].combine_chunks()) if len(rows) else None
        if runs is None:
            return {}
        starts = [0, *runs.run_ends.to_pylist()]
        return {name: (starts[i], starts[i + 1]) for i, name in enumerate(runs.values.to_pylist())}

    def __getitem__(self, record: tuple[str, int]) -> tuple[Reason, str]:
        source, row = record
        start, end = self._spans[source]
        place = start + int(np.searchsorted(self._rows[start:end], row))
        if place == end or self._rows[place] != row:
            raise KeyError(record)
        first = f"{self._first_name[self._first_source[place]]}#{self._first_row[place]}"
        if self._is_collision[place]:
            return Reason.HASH_COLLISION, f"{first} has another key of the same doc_id and comes first"
        return Reason.DUPLICATE_KEY, f"{first} has the same key and comes first"

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for source, (start, end) in self._spans.items():
            yield from ((source, int(row)) for row in self._rows[start:end])

    def __len__(self) -> int:
        return len(self._rows)


def _named(batch: pa.RecordBatch, units: Sequence[Unit]) -> pa.Table:
    """Repeats with the names of the files that their places stand for."""
    names = {
        column: [
            units[unit].pieces[piece].shard.uri
            for unit, piece in zip(batch[f"{prefix}unit"].to_pylist(), batch[f"{prefix}piece"].to_pylist(), strict=True)
        ]
        for column, prefix in (("source", ""), ("first_source", "first_"))
    }
    same = {name: batch[name] for name in ("unit", "row", "is_collision", "first_row")}
    return pa.table({**same, **names}).select(STORED_REPEATS.names).cast(STORED_REPEATS)


def _files(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= ROWS_PER_FILE:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _repeats_path(run_id: str, number: int) -> str:
    return f"{progress_folder(run_id)}/repeats-{number:08d}.parquet"
