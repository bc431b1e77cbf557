"""Turns the statistics of a block into Arrow lists, one a document, and broken documents into rejects.

NULL stands where there is no prediction; a document with a number that is not finite leaves as `non_finite_score`.
Shapes: `N` tokens of all documents of a block.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.model_files import ModelError
from schemas.flow import TOKENIZED
from schemas.rejects import Reason
from schemas.tokens import HIDDEN, TOKENS


def assembled(
    table: pa.Table,
    schema: pa.Schema,
    documents: list[int],
    lengths: np.ndarray,
    columns: dict[str, np.ndarray],
    *,
    scores_first: bool = False,
) -> pa.Table:
    """`table` with a list column for every statistic of `schema` (a `flow.scored`), rows in the same order.

    `documents`: the rows that were scored; `lengths`: their tokens; `columns`: statistics `[N]` or `[N, K]` by name.
    `scores_first`: whether the first token of a document has a prediction.

    Raises:
        ModelError: lists of more numbers than Arrow's 32-bit offsets can count.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    unscored = starts[:0] if scores_first else starts[:-1]
    broken = _broken_documents(columns, starts, unscored)
    table = _reject(table, {documents[i] for i in broken})
    keep = np.array([i for i in range(len(documents)) if i not in broken], dtype=np.int64)
    places = np.full(len(table), -1, dtype=np.int64)
    places[np.array(documents, dtype=np.int64)[keep]] = keep
    for field in schema:
        if field.name in TOKENIZED.names:
            continue
        values = _arrow_column(field.name, columns[field.name], unscored)
        lists = pa.LargeListArray.from_arrays(pa.array(starts), values) if len(documents) else None
        index = pa.array(places, mask=places < 0)
        column = pa.nulls(len(table), field.type) if lists is None else lists.take(index)
        table = table.append_column(field, column.cast(field.type))
    return table.cast(schema)


def _broken_documents(columns: dict[str, np.ndarray], starts: np.ndarray, unscored: np.ndarray) -> set[int]:
    """Documents with a statistic that is not finite where a prediction is, or a hidden state out of half range."""
    bad = np.zeros(starts[-1] + 1, dtype=bool)
    for name in ("logprob", "entropy", "logprob_std"):
        bad[:-1] |= ~np.isfinite(columns[name])
    bad[unscored] = False
    if HIDDEN in columns:
        bad[:-1] |= ~np.isfinite(columns[HIDDEN]).all(axis=1)
    places = np.flatnonzero(bad[:-1])
    return set(np.searchsorted(starts, places, side="right") - 1)


def _reject(table: pa.Table, rows: set[int]) -> pa.Table:
    """Turn the given rows into rejects: their text, ids and spans become NULL."""
    if not rows:
        return table
    mask = pa.array([i in rows for i in range(len(table))])
    detail = "the model gave a NaN or infinite statistic; try --dtype float32"
    changes = {"reason": Reason.NON_FINITE_SCORE.value, "detail": detail}
    for name in ("text", "token_id", "byte_start", "n_bytes", *changes):
        field_ = table.schema.field(name)
        value = pa.scalar(changes.get(name), field_.type)
        column = pc.if_else(mask, value, table[name])
        table = table.set_column(table.schema.get_field_index(name), field_, column)
    return table


def _arrow_column(name: str, values: np.ndarray, unscored: np.ndarray) -> pa.Array:
    """Arrow values with NULL where there is no prediction."""
    if name == HIDDEN:
        return _fixed_lists(values, TOKENS[name].type, None)
    missing = np.zeros(len(values), dtype=bool)
    missing[unscored] = True
    if values.ndim == 2:
        return _fixed_lists(values, TOKENS[name].type, missing)
    if name == "logprob_second":
        missing |= np.isneginf(values)
    return pa.array(values, mask=missing).cast(TOKENS[name].type)


def _fixed_lists(values: np.ndarray, type_: pa.DataType, missing: np.ndarray | None) -> pa.Array:
    """Rows of a matrix as lists; rows named by `missing` are NULL and hold nothing."""
    lengths = np.full(len(values), values.shape[1], dtype=np.int64)
    if lengths.sum() > np.iinfo(np.int32).max:
        raise ModelError(
            f"{len(values):,} tokens x {values.shape[1]:,} numbers: too many for one block, see --features"
        )
    if missing is not None:
        lengths[missing] = 0
        values = values[~missing]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1), type_.value_type), mask=mask)
