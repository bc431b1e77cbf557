"""Takes tokens out of the lists of a tokenized block, and turns rows into rejects.

The lists of a block are laid flat, changed where they are kept, and folded again into as many rows. Shapes: `D` rows of
a block, `K` of them kept, `T` tokens of the rows kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.flow import SPAN_COLUMNS
from schemas.rejects import Reason

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FlatTokens:
    """The tokens of the rows kept of a block of schema `flow.TOKENIZED`, none of whose lists is NULL.

    `lengths_K`: tokens of each row; `place_T`: each token's place in its row; `columns`: `SPAN_COLUMNS`, `[T]` each.
    """

    kept_D: pa.BooleanArray
    rows: pa.Table
    lengths_K: Ints
    place_T: Ints
    columns: dict[str, npt.NDArray[Any]]

    @classmethod
    def of(cls, block: pa.Table, kept_D: pa.BooleanArray) -> FlatTokens:
        """Lay the rows kept flat."""
        rows = block.filter(kept_D)
        lists = {name: rows[name].combine_chunks() for name in SPAN_COLUMNS}
        lengths = np.asarray(pc.list_value_length(lists["token_id"]).to_numpy(zero_copy_only=False), np.int64)
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = {name: np.asarray(pc.list_flatten(v).to_numpy(zero_copy_only=False)) for name, v in lists.items()}
        return cls(kept_D, rows, lengths, place, flat)

    def into(self, block: pa.Table, kept_T: Flags) -> pa.Table:
        """`block` with the tokens kept of the rows kept, NULL in the other rows."""
        running = np.concatenate([[0], np.cumsum(kept_T)])
        bounds = np.concatenate([[0], np.cumsum(self.lengths_K)])
        counts = np.zeros(len(block), np.int64)
        counts[self.kept_D.to_numpy(zero_copy_only=False)] = running[bounds[1:]] - running[bounds[:-1]]
        offsets = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
        for name in SPAN_COLUMNS:
            field = block.schema.field(name)
            values = pa.array(self.columns[name][kept_T]).cast(field.type.value_type)
            column = pa.LargeListArray.from_arrays(offsets, values, mask=pc.invert(self.kept_D))
            block = block.set_column(block.schema.get_field_index(name), field, column)
        return block


def reject(columns: dict[str, list[object]], row: int, reason: Reason, detail: str) -> None:
    """Turn a row into a reject; `columns` holds `text`, `reason` and `detail`, `[D]` each."""
    columns["text"][row], columns["reason"][row], columns["detail"][row] = None, reason.value, detail


def with_columns(block: pa.Table, columns: dict[str, list[object]]) -> pa.Table:
    """`block` with other values in these columns."""
    for name, values in columns.items():
        field = block.schema.field(name)
        block = block.set_column(block.schema.get_field_index(name), field, pa.array(values, field.type))
    return block
