"""Parquet: the columns asked for, a few rows at a time.

Strings come out as bytes, because Parquet does not keep writers from storing invalid UTF-8 in a string column: the
caller decodes, row by row. Temporal values come out as ISO text in UTC, everything else as Python values.

Pages are read as they are needed (4 MiB of file a column at a time) instead of whole column chunks, whose size is the
writer's choice. The price is more and smaller requests to an object store.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.readers.record import Printed, Record, Undecodable, UnreadableError, listed
from operators.readers.source import Source

BUFFER_BYTES = 4 << 20


def records(
    source: Source, *, columns: Sequence[str], batch_bytes: int, batch_rows: int, skip: Container[int]
) -> Iterator[Record]:
    """Every row not in `skip`. Holds about `batch_bytes` of decoded rows at once, and no more than `batch_rows`.

    The estimate is the mean size of a row with all its columns, from the footer. It falls short where a writer stored
    many equal long strings once, in a dictionary; then only `batch_rows` bounds what is held.

    Raises:
        UnreadableError: the file or a page of it cannot be decoded, or a column is not there exactly once.
        StorageError: as `Source.decoding`.
    """
    with source.decoding(0):
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True)
        _check_columns(file.schema_arrow.names, columns)
        batches = _batches(file, columns, batch_bytes, batch_rows)
    row = 0
    while True:
        with source.decoding(row):
            batch = next(batches, None)
            if batch is None:
                break
            cells = [_cells(batch.column(batch.schema.get_field_index(name))) for name in columns]
        for values in zip(*cells, strict=True):
            if row not in skip:
                yield Record(row, dict(zip(columns, values, strict=True)))
            row += 1
    if row != file.metadata.num_rows:
        raise UnreadableError(row, f"the footer promises {file.metadata.num_rows} rows, the file holds {row}")


def _check_columns(names: list[str], columns: Sequence[str]) -> None:
    missing = [c for c in columns if c not in names]
    if missing:
        raise UnreadableError(-1, f"no column {', '.join(map(repr, missing))}; the file has: {listed(names)}")
    repeated = [c for c in columns if names.count(c) > 1]
    if repeated:
        raise UnreadableError(-1, f"more than one column {', '.join(map(repr, repeated))}")


def _batches(file: pq.ParquetFile, columns: Sequence[str], batch_bytes: int, batch_rows: int) -> Iterator[Any]:
    for group in range(file.metadata.num_row_groups):
        # Not from the sizes of the columns alone: asking a broken footer for those aborts the process in pyarrow 26.
        metadata = file.metadata.row_group(group)
        rows_that_fit = batch_bytes * metadata.num_rows // max(1, metadata.total_byte_size)
        yield from file.iter_batches(
            batch_size=max(1, min(batch_rows, rows_that_fit)),
            row_groups=[group],
            columns=list(columns),
            use_threads=False,
        )


def _cells(column: Any) -> list[Any]:
    """The values of an Arrow array, each as the JSON reader would give it, but strings and binaries as bytes."""
    if isinstance(column.type, pa.UuidType):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_bytes(column.type):
        return list(column.cast(pa.large_binary()).to_pylist())
    if pa.types.is_temporal(column.type):
        return _temporal(column)
    if pa.types.is_nested(column.type):
        return [_nested(value) for value in column]
    return list(column.to_pylist())


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _temporal(column: Any) -> list[Any]:
    """Arrow's own text: Python's dates end at year 9999 and its times at microseconds."""
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        return [_printed(value) for value in column.cast(pa.string()).to_pylist()]
    # The instant without its zone is UTC; printing the zone would need a time zone database.
    naive = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return [_printed(value, "Z") for value in naive.to_pylist()]


def _printed(value: str | None, zone: str = "") -> Printed | None:
    return None if value is None else Printed(value + zone)


def _nested(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Undecodable(error.reason)
    except (ValueError, OverflowError):  # a nested time that Python cannot hold; the document is worth more
        return Printed(f"<{scalar.type}>")
