"""What `documents` keeps of its tokens, computed from them as they are stored: the commonest scores then cost no scan.

    tokens [T] of a part, in one piece a document --> one row a document [D], the columns of the group `rollups`

Every number equals, to float64 rounding, what SQL over the same tokens gives. One sort by value and one by document
replace a loop over documents.
Shapes: `T` tokens of all documents, `D` documents. NaN stands for NULL in the arrays here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import DOCUMENTS
from schemas.documents import ROLLUP_RATIO, ROLLUPS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROLLED_UP = ("logprob", "entropy", "logprob_std", "rank")  # the columns of `tokens` that the roll-ups are made of


def rollups(tokens: pa.Table, lengths: Ints) -> dict[str, pa.Array]:
    """The columns of group `rollups` of `documents`, `[D]` each, NULL where no token of the document is scored.

    `tokens` has the columns `ROLLED_UP`, rounded as they are stored; each document's rows stand together, `lengths[D]`
    of them, none of which is 0.
    """
    logprob_T, entropy_T, deviation_T, rank_T = (_numbers(tokens[name]) for name in ROLLED_UP)
    document_T = np.repeat(np.arange(len(lengths)), lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        z_T = (logprob_T + entropy_T) / deviation_T  # no deviation: -inf, or NaN for the certain token
        log_rank_T = np.log(rank_T)
    values = {
        "logprob_sum": _sums(logprob_T, document_T, len(lengths)),
        "entropy_sum": _sums(entropy_T, document_T, len(lengths)),
        "varentropy_sum": _sums(deviation_T**2, document_T, len(lengths)),
        "log_rank_sum": _sums(log_rank_T, document_T, len(lengths)),
        "n_rank_1": _sums(np.where(np.isnan(rank_T), np.nan, rank_T == 1), document_T, len(lengths)),
        "min_k_20": means_of_smallest(logprob_T, document_T, len(lengths), ROLLUP_RATIO),
        "min_k_plus_plus_20": means_of_smallest(z_T, document_T, len(lengths), ROLLUP_RATIO),
    }
    columns = {c.name: pa.array(values[c.name], from_pandas=True) for c in DOCUMENTS.group(ROLLUPS)}
    return {name: column.cast(DOCUMENTS[name].type) for name, column in columns.items()}


def means_of_smallest(values_T: Floats, document_T: Ints, n_documents: int, ratio: float) -> Floats:
    """Mean of the k smallest values of each document, `[D]`: k = max(1, floor(n * ratio)) of n values, NaN left out.

    The reference for document d: `np.sort(values_T[document_T == d])[:k].mean()`. NaN where n is 0.
    """
    kept = ~np.isnan(values_T)
    values, documents = values_T[kept], document_T[kept]
    by_value = np.argsort(values)
    # A document's number above, a value's place below: sorting these integers sorts by both, and is fast.
    places = (documents[by_value].astype(np.uint64) << np.uint64(32)) | np.arange(len(values), dtype=np.uint64)
    places.sort()
    ordered = values[by_value[(places & np.uint64(0xFFFFFFFF)).astype(np.int64)]]
    n = np.bincount(documents, minlength=n_documents)
    k = np.maximum(1, np.floor(n * ratio))
    order_in_document = np.arange(len(ordered)) - np.repeat(np.cumsum(n) - n, n)
    smallest = np.where(order_in_document < np.repeat(k, n), ordered, 0.0)
    sums = np.bincount(np.repeat(np.arange(n_documents), n), smallest, n_documents)
    return np.where(n > 0, sums / k, np.nan)


def _sums(values_T: Floats, document_T: Ints, n_documents: int) -> Floats:
    """Sum of each document's values, `[D]`; NaN where it has none."""
    kept = ~np.isnan(values_T)
    sums = np.bincount(document_T, np.where(kept, values_T, 0.0), n_documents)
    return np.where(np.bincount(document_T[kept], minlength=n_documents) > 0, sums, np.nan)


def _numbers(column: pa.ChunkedArray) -> Floats:
    """A column in float64, NaN where it is NULL."""
    return np.asarray(column.to_numpy(), np.float64)
