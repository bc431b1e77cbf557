"""Arrow arrays -> raw values of records, the same for every columnar format.

Strings come out as bytes, because neither Parquet nor Arrow keeps writers from storing invalid UTF-8 in a string
column: the caller decodes, row by row. Temporal values come out as ISO text in UTC, everything else as Python values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.readers.record import Printed, Undecodable

_WEIGHED_ROWS = 1 << 16


def cells(column: Any) -> list[Any]:
    """The values of an Arrow array, each as the JSON reader would give it, but strings and binaries as bytes."""
    if isinstance(column.type, pa.UuidType):
        return [None if value is None else str(value) for value in column.to_pylist()]
    column = _plain(column)
    if is_bytes(column.type):
        return list(column.cast(pa.large_binary()).to_pylist())
    if pa.types.is_temporal(column.type):
        return _temporal(column)
    if pa.types.is_nested(column.type):
        return [_nested(value) for value in column]
    return list(column.to_pylist())


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the values are strings or binaries."""
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


def slices(columns: Sequence[Any], n_rows: int, *, max_bytes: int, max_rows: int) -> Iterator[slice]:
    """Cuts arrays of `n_rows` each into runs whose values take about `max_bytes`, and that are at most `max_rows` long.

    What a value takes is what it takes once read: an entry of a dictionary, or bytes that many views share, counts
    every time. Below the top level only the mean is known.
    """
    for base in range(0, n_rows, _WEIGHED_ROWS):
        n = min(_WEIGHED_ROWS, n_rows - base)
        weights = sum((_weights(column.slice(base, n)) for column in columns), np.zeros(n, np.int64))
        ends = np.cumsum(weights)
        start = 0
        while start < n:
            before = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, before + max_bytes, side="right"))
            stop = min(max(stop, start + 1), start + max_rows, n)
            yield slice(base + start, base + stop)
            start = stop


def _weights(column: Any) -> npt.NDArray[np.int64]:
    """Bytes of each value of an array."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        own = _weights(column.dictionary)
        places = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return own[places] if len(own) else np.zeros(len(column), np.int64)
    if pa.types.is_run_end_encoded(kind):
        return np.full(len(column), _weights(column.values).max(initial=0))
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _view_lengths(column)
    if is_bytes(kind):
        lengths = pc.binary_length(column).fill_null(0)
        return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
    return np.full(len(column), column.nbytes // max(1, len(column)))


def _view_lengths(column: Any) -> npt.NDArray[np.int64]:
    """The first of the four 32-bit words of a view is the length."""
    words = np.frombuffer(column.buffers()[1], np.int32, 4 * (column.offset + len(column)))
    lengths = words[4 * column.offset :: 4].astype(np.int64)
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), lengths, 0)


def _plain(column: Any) -> Any:
    """The array without extension, dictionary or run-end encoding."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


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
