"""Finds the records whose id an earlier record has, over a whole corpus, in bounded memory.

    keys of every unit (doc_id, check, unit, row) -> Parquet on local disk -> DuckDB: first record of each doc_id wins
                                                  -> repeats: one row a record that comes later

DuckDB sorts and joins out of core: `memory_limit` bounds what it holds, the rest is on disk (17 bytes a record).
`check` is a second hash of the key, independent of `doc_id`: two records of one doc_id with different checks have
different keys, which is a hash collision and not a repeated id.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

KEYS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("piece", pa.int64(), nullable=False),  # its place in the unit
        pa.field("row", pa.int64(), nullable=False),
        pa.field("doc_id", pa.int64(), nullable=False),
        pa.field("check", pa.int64(), nullable=False),
    ]
)
REPEATS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("piece", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("is_collision", pa.bool_(), nullable=False),
        pa.field("first_unit", pa.int64(), nullable=False),
        pa.field("first_piece", pa.int64(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
    ]
)
MEMORY_LIMIT = "1GB"
ROW_GROUP = 1 << 17

# Input order is (unit, piece, row). The join is on few ids: those that occur more than once.
_SQL = """
with shared as (
    select doc_id, min({{'unit': unit, 'piece': piece, 'row': row}}) as first
    from read_parquet({files})
    group by doc_id
    having count(*) > 1
),
firsts as (
    select shared.doc_id, shared.first, keys."check" as first_check
    from shared
    join read_parquet({files}) as keys
      on keys.doc_id = shared.doc_id
     and keys.unit = shared.first.unit and keys.piece = shared.first.piece and keys.row = shared.first.row
)
select keys.unit, keys.piece, keys.row, keys."check" <> firsts.first_check as is_collision,
    firsts.first.unit as first_unit, firsts.first.piece as first_piece, firsts.first.row as first_row
from read_parquet({files}) as keys
join firsts using (doc_id)
where (keys.unit, keys.piece, keys.row) <> (firsts.first.unit, firsts.first.piece, firsts.first.row)
order by all
"""


class RepeatFinder:
    """A context: `add` tables of schema `KEYS` in any order, then read `repeats` once.

    Needs local disk in the folder for temporary files: about 17 bytes a record, and as much again while it sorts.
    """

    def __init__(self, memory_limit: str = MEMORY_LIMIT) -> None:
        self.memory_limit = memory_limit
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._n_held = 0

    def __enter__(self) -> RepeatFinder:
        self._folder = Path(tempfile.mkdtemp(prefix="assay-keys-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _keys(self) -> Path:
        return self._folder / "keys.parquet"

    def add(self, keys: pa.Table) -> None:
        self._held.append(keys.select(KEYS.names).cast(KEYS))
        self._n_held += len(keys)
        if self._n_held >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        """Whole row groups only: a million small files must not become a million of them."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._keys, KEYS, compression="zstd", use_dictionary=False)
        self._writer.write_table(pa.concat_tables(self._held), row_group_size=ROW_GROUP)
        self._held, self._n_held = [], 0

    def repeats(self) -> Iterator[pa.RecordBatch]:
        """Batches of schema `REPEATS` in input order."""
        if self._n_held:
            self._write()
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        with duckdb.connect() as connection:
            connection.execute(f"set memory_limit = '{self.memory_limit}'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute("set temp_directory = $folder", {"folder": str(self._folder / "spill")})
            files = "'" + str(self._keys).replace("'", "''") + "'"
            for batch in connection.sql(_SQL.format(files=files)).to_arrow_reader(ROW_GROUP):
                yield batch.cast(REPEATS)
