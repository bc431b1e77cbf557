"""Arrow IPC, the file and the stream format: Feather, `.arrow` files of Hugging Face datasets, batch by batch.

Arrow builds arrays over a batch's buffers without looking at them. Every batch is validated in full before a value is
touched: offsets that point outside their buffers would read other memory, or end the process. Only invalid UTF-8 is
left for the rows that have it. A batch is held whole; its values are made a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from operators.readers.cells import cells, slices
from operators.readers.columns import Leaf, find_leaves
from operators.readers.ipc import Messages
from operators.readers.record import Record
from operators.readers.source import Source


def records(
    source: Source, *, columns: Sequence[str], required: Collection[str], batch_bytes: int, batch_rows: int
) -> Iterator[Record]:
    """Every row; columns that are missing and not `required` are null.

    Holds a batch of at most 1 GiB, and about `batch_bytes` and no more than `batch_rows` of its values.

    Raises:
        UnreadableError: the file or a batch of it cannot be decoded, one of `required` is missing, or a column is
            there more than once.
        StorageError: as `Source.decoding`.
    """
    with source.decoding(0):
        batches, leaves = _open(source, columns, required)
    row = 0
    while True:
        with source.decoding(row):
            batch = next(batches, None)
            if batch is None:
                return
            _validate(batch)
            arrays = [leaf.of(batch) for leaf in leaves]
            parts = slices(arrays, batch.num_rows, max_bytes=batch_bytes, max_rows=batch_rows)
        while True:
            with source.decoding(row):
                part = next(parts, None)
                if part is None:
                    break
                values_of = [cells(array[part]) for array in arrays]
            for values in zip(*values_of, strict=True):
                yield Record(row, dict(zip(columns, values, strict=True)))
                row += 1
        del batch, arrays, parts  # before the next batch takes its place


def _open(source: Source, columns: Sequence[str], required: Collection[str]) -> tuple[Iterator[Any], list[Leaf]]:
    messages = Messages(source)
    schema = messages.schema()
    leaves = find_leaves(schema, columns, required)
    included = sorted({schema.get_field_index(leaf.path[0]) for leaf in leaves if leaf.path})
    options = pa.ipc.IpcReadOptions(included_fields=included, use_threads=False)
    return iter(pa.ipc.open_stream(messages, options=options)), leaves


def _validate(batch: Any) -> None:
    """All that `batch.validate(full=True)` checks, but for UTF-8.

    Raises:
        pa.ArrowInvalid: what is wrong.
    """
    batch.validate()
    for column in batch.columns:
        _without_strings(column).validate(full=True)


def _without_strings(column: Any) -> Any:
    """The array over the same buffers with binaries for strings."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _without_strings(column.dictionary), safe=False)
    return column.view(_binary(column.type))


def _binary(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([_binary_field(kind.field(i)) for i in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(_binary_field(kind.key_field), _binary_field(kind.item_field), kind.keys_sorted)
    for is_list, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
        if is_list(kind):
            return make(_binary_field(kind.value_field))
    pairs = (
        (types.is_string, pa.binary()),
        (types.is_large_string, pa.large_binary()),
        (types.is_string_view, pa.binary_view()),
    )
    return next((binary for is_string, binary in pairs if is_string(kind)), kind)


def _binary_field(field: pa.Field) -> pa.Field:
    return field.with_type(_binary(field.type))
