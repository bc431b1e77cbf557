"""Parquet: the columns asked for, a few rows at a time.

Pages are read as they are needed (4 MiB of file a column at a time) instead of whole column chunks, whose size is the
writer's choice. The price is more and smaller requests to an object store. The size of a page is the writer's choice
too: Arrow sets aside what a page's header asks for, up to 2 GiB for a moment where the header is damaged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

from operators.readers.cells import cells
from operators.readers.columns import find_leaves
from operators.readers.record import Record, UnreadableError
from operators.readers.source import Source

BUFFER_BYTES = 4 << 20


def records(
    source: Source,
    *,
    columns: Sequence[str],
    required: Collection[str],
    batch_bytes: int,
    batch_rows: int,
    start: int = 0,
    stop: int | None = None,
    first_row: int = 0,
) -> Iterator[Record]:
    """Every row of the row groups [`start`, `stop`); `first_row`: the number of the first in the file.

    Columns that are missing and not `required` are null.

    Holds about `batch_bytes` of decoded rows at once, and no more than `batch_rows`. The estimate is the mean size of
    a row with all its columns, from the footer. It falls short where a writer stored many equal long strings once, in
    a dictionary; then only `batch_rows` bounds what is held.

    Raises:
        UnreadableError: the file or a page of it cannot be decoded, one of `required` is missing, or a column is
            there more than once.
        StorageError: as `Source.decoding`.
    """
    with source.decoding(first_row):
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True)
        leaves = find_leaves(file.schema_arrow, columns, required)
        groups = range(start, file.metadata.num_row_groups if stop is None else stop)
        promised = first_row + sum(file.metadata.row_group(group).num_rows for group in groups)
        if stop is None and start == 0:
            promised = file.metadata.num_rows
        source.promised = promised - first_row
        batches = _batches(file, groups, [leaf.dotted for leaf in leaves if leaf.path], batch_bytes, batch_rows)
    row = first_row
    while True:
        with source.decoding(row):
            batch = next(batches, None)
            if batch is None:
                break
            if row + batch.num_rows > promised:  # the numbers above belong to the next piece of the file
                raise UnreadableError(row, f"the footer promises rows up to {promised}, the file holds more")
            values_of = [cells(leaf.of(batch)) for leaf in leaves]
        for values in zip(*values_of, strict=True):
            yield Record(row, dict(zip(columns, values, strict=True)))
            row += 1
    if row != promised:
        raise UnreadableError(row, f"the footer promises rows up to {promised}, the file holds {row}")


def open_footer(source: Source) -> Any:
    """The metadata of the file.

    Raises:
        UnreadableError, StorageError: as `Source.decoding`.
    """
    with source.decoding(0):
        return pq.ParquetFile(source, pre_buffer=False).metadata


def _batches(
    file: pq.ParquetFile, groups: range, columns: list[str], batch_bytes: int, batch_rows: int
) -> Iterator[Any]:
    for group in groups:
        # Not from the sizes of the columns alone: asking a broken footer for those aborts the process in pyarrow 26.
        metadata = file.metadata.row_group(group)
        rows_that_fit = batch_bytes * metadata.num_rows // max(1, metadata.total_byte_size)
        yield from file.iter_batches(
            batch_size=max(1, min(batch_rows, rows_that_fit)), row_groups=[group], columns=columns, use_threads=False
        )
