"""Turns a long table of scores, a row per document and score, into a matrix, a column per score.

    doc_id  variant          value             names   loss   min_k(ratio=0.1)
    7       loss             -2.5       -->    doc 7   -2.5   NaN
    9       loss             -1.5              doc 9   -1.5   -4.0
    9       min_k(ratio=0.1) -4.0

Batches are placed one after another, by column operations alone: only the matrix has to fit in memory, 8 bytes a cell.
Letters: `N` documents, `F` scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]


def score_matrix(
    table: pa.Table | Iterable[pa.Table | pa.RecordBatch], doc_ids: npt.ArrayLike | pa.ChunkedArray
) -> tuple[list[str], Floats]:
    """The names of the scores, in order of first appearance, and their values [N, F]; NaN where there is none.

    Args:
        table: columns `doc_id`, `value` and `variant` (or `score`, where there is no `variant`); rows of other
            documents are left out, NULL values are NaN. One table, or tables and batches one after another.
        doc_ids: [N] the documents wanted, each once, in any order.

    Raises:
        ValueError: a document is asked for twice, or has two values of one score.
    """
    wanted = np.asarray(doc_ids, dtype=np.int64)
    order = np.argsort(wanted, kind="stable")
    ordered = wanted[order]
    if (ordered[1:] == ordered[:-1]).any():
        raise ValueError("doc_ids: a document is named twice")
    columns: dict[str, Floats] = {}
    placed: dict[str, npt.NDArray[np.bool_]] = {}
    last_ids = np.zeros(0, dtype=np.int64)
    known, rows = _find(last_ids, ordered, order)
    for batch in _batches([table] if isinstance(table, pa.Table) else table):
        for name, ids, values in _by_name(batch):
            if name not in columns:
                columns[name], placed[name] = np.full(wanted.size, np.nan), np.zeros(wanted.size, dtype=bool)
            column, seen = columns[name], placed[name]
            if not np.array_equal(ids, last_ids):  # scores of one scan come with the same documents
                last_ids, (known, rows) = ids, _find(ids, ordered, order)
            before = np.count_nonzero(seen)
            seen[rows] = True
            if np.count_nonzero(seen) != before + rows.size:
                raise ValueError(f"score {name!r}: a document has two values of it")
            column[rows] = values[known]
    matrix = np.array(list(columns.values()), dtype=np.float64).reshape(len(columns), wanted.size)
    return list(columns), matrix.T


def _batches(tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for each in tables:
        yield from each.to_batches() if isinstance(each, pa.Table) else [each]


def _find(
    ids: npt.NDArray[np.int64], ordered: npt.NDArray[np.int64], order: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Which ids are wanted, and the rows of those."""
    if not ordered.size:
        return np.zeros(ids.size, dtype=bool), np.zeros(0, dtype=np.intp)
    at = np.minimum(np.searchsorted(ordered, ids), ordered.size - 1)
    known = ordered[at] == ids
    return known, order[at[known]]


def _by_name(batch: pa.RecordBatch) -> Iterator[tuple[str, npt.NDArray[np.int64], Floats]]:
    """The rows of each score in a batch."""
    column = "variant" if "variant" in batch.schema.names else "score"
    encoded = batch.column(column)
    if not pa.types.is_dictionary(encoded.type):
        encoded = pc.dictionary_encode(encoded)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    ids = batch.column("doc_id").to_numpy(zero_copy_only=False)
    values = pc.fill_null(batch.column("value").cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        chosen = codes == code
        yield name, ids[chosen], values[chosen]
