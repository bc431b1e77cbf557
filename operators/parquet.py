"""How the lake's tables become Parquet bytes: encodings, compression levels and pages, chosen by measurement.

Equal tables are equal bytes under one version of pyarrow, so a retried block overwrites its part with itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import Table


class Stored(NamedTuple):
    """How Parquet stores one column: encoding and zstd level."""

    encoding: str
    level: int = 1


_SPLIT, _DELTA, _DICTIONARY, _PLAIN = "BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED", "RLE_DICTIONARY", "PLAIN"

# Measured on 600,000 tokens of English prose (GPT-2 ids, statistics of an n-gram model), bytes a token, the best of the
# alternatives in brackets. Level 1 wherever a higher one gains nothing: on split bytes it finds only chance matches.
STORED: dict[str, Stored] = {
    "doc_id": Stored(_DICTIONARY),  # 0.015: runs of equal values
    "position": Stored(_DELTA, 9),  # 0.02 [split 0.02, plain 0.03]; 0.035 of those tokens below [level 1: 0.044]
    "token_id": Stored(_PLAIN, 10),  # 1.35: repeated phrases are matches of whole ids [split 1.45, dictionary 1.57]
    # Low levels miss the short matches between miniblocks: of the 120,000 tokens below 0.65 [levels 6 to 13: 0.69].
    "byte_start": Stored(_DELTA, 15),
    "n_bytes": Stored(_SPLIT),  # 0.41 [dictionary 0.52, delta 0.60]
    "rank": Stored(_SPLIT, 9),  # exact, heavy-tailed; of those 120,000 0.93 [level 1: 0.94, dictionary 1.08]
    # 1.83. In a part of 20,000 tokens, where one code serves several streams, 2.03 [level 1: 2.09].
    "logprob": Stored(_SPLIT, 6),
    "entropy": Stored(_SPLIT, 9),  # 0.93 [level 1: 0.96]; two of its four byte streams are empty, and so below
    "logprob_std": Stored(_SPLIT, 6),  # 0.89 [level 1: 0.92]
    "renyi_quarter": Stored(_SPLIT, 6),
    "renyi_half": Stored(_SPLIT, 6),
    "renyi_2": Stored(_SPLIT, 6),
    "rest_entropy": Stored(_SPLIT, 6),
    "top1_id": Stored(_PLAIN, 9),  # 1.14 [dictionary 1.15, split 1.21]
    "topk_id.list.element": Stored(_SPLIT, 5),  # 9.8 for ten [plain 10.3, dictionary 11.3]
    "hidden.list.element": Stored(_PLAIN),  # DuckDB cannot read half precision with BYTE_STREAM_SPLIT
    "source": Stored(_DICTIONARY, 3),
    "domain": Stored(_DICTIONARY, 3),
    "reason": Stored(_DICTIONARY, 3),
}
STORED_FLOAT = Stored(_SPLIT)  # mass_above 0.92
STORED_OTHER = Stored(_PLAIN, 3)

# A rounded column has few values, and a dictionary sees a value whole where split bytes see it in parts. Measured on
# 120,000 tokens of the demo (its own trained model), bytes a token, [split]:
#   logprob_std, 152 values   0.74 [0.87], of 20,000 tokens 0.75 [0.90]: indices are bytes, which zstd codes well
#   entropy, 401 values       1.07 [0.96]: indices of nine bits lie across bytes, and zstd finds nothing in them
#   logprob, 7,457 values     1.80 [1.84], of 80,000 tokens 1.87 [1.85]: as flat as its indices are, once its values,
#                             four bytes each, weigh little
DICTIONARY_FLOAT = Stored(_DICTIONARY, 6)
BYTE_INDICES = 1 << 8
FLAT_COLUMNS, FLAT_ROWS_PER_VALUE = ("logprob",), 12

# One page a column chunk: zstd fits its codes to blocks of 128 KiB, so that with the default of 20,000 rows a page the
# four byte streams of a float would share one code (logprob 2.12 bytes a token instead of 1.83).
ROW_GROUP_ROWS = 1 << 20
ROW_GROUP_BYTES = 1 << 28  # of the widest column (`hidden`), so that a reader can hold a row group
PAGE_BYTES = 1 << 23
DICTIONARY_BYTES = 1 << 23


def encode(table: pa.Table, declared: Table) -> pa.Buffer:
    """A table of the lake as one Parquet file; equal tables are equal bytes under one version of pyarrow."""
    stored = {path: _stored(path, leaf, table) for path, leaf in _leaves(table.schema)}
    kept_statistics = [name for name in ("doc_id", "source", "row") if name in table.column_names]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_row_group_rows(table),
        compression="zstd",
        compression_level={path: how.level for path, how in stored.items()},
        use_dictionary=[path for path, how in stored.items() if how.encoding == _DICTIONARY],
        column_encoding={path: how.encoding for path, how in stored.items() if how.encoding != _DICTIONARY},
        write_statistics=kept_statistics,
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, [(n, "ascending") for n in declared.sorted_by]),
        max_rows_per_page=ROW_GROUP_ROWS,
        data_page_size=PAGE_BYTES,
        dictionary_pagesize_limit=DICTIONARY_BYTES,
        write_page_checksum=True,
    )
    return sink.getvalue()


def _stored(path: str, leaf: pa.DataType, table: pa.Table) -> Stored:
    if leaf != pa.float32() or path not in table.column_names:
        return STORED.get(path, STORED_FLOAT if leaf == pa.float32() else STORED_OTHER)
    column = table[path]
    if not _is_rounded(column):
        return STORED_FLOAT
    return DICTIONARY_FLOAT if _has_few_values(path, column) else STORED.get(path, STORED_FLOAT)


def _is_rounded(column: pa.ChunkedArray) -> bool:
    """Whether the last byte of every value is empty, as in compact precision; cheap to know, where counting is not."""
    chunks = (np.asarray(chunk.fill_null(0.0)) for chunk in column.chunks)
    return not any(np.any(values.view(np.uint32) & np.uint32(0xFF)) for values in chunks)


def _has_few_values(name: str, column: pa.ChunkedArray) -> bool:
    """Whether a dictionary is smaller than split bytes; follows from the values alone."""
    n_values = pc.count_distinct(column).as_py()
    return bool(n_values <= BYTE_INDICES or (name in FLAT_COLUMNS and len(column) >= FLAT_ROWS_PER_VALUE * n_values))


def _leaves(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Parquet's path and the type of every leaf column."""
    leaves = []
    for field in schema:
        if pa.types.is_map(field.type):
            entry = f"{field.name}.key_value"
            leaves += [(f"{entry}.key", field.type.key_type), (f"{entry}.value", field.type.item_type)]
        elif pa.types.is_list(field.type):
            leaves.append((f"{field.name}.list.element", field.type.value_type))
        else:
            leaves.append((field.name, field.type))
    return leaves


def _row_group_rows(table: pa.Table) -> int:
    """As many rows as fit `ROW_GROUP_BYTES` of the widest column; follows from the values, not from their buffers."""
    widest = max((_payload(table[name]) for name in table.column_names), default=0)
    bytes_per_row = max(1, widest // max(1, table.num_rows))
    return int(max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // bytes_per_row)))


def _payload(column: pa.ChunkedArray) -> int:
    """Bytes of the values of a list or string column; other columns are never the widest."""
    if pa.types.is_list(column.type):
        return int(len(pc.list_flatten(column)) * column.type.value_type.bit_width // 8)
    if pa.types.is_string(column.type):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0)
    return 0
