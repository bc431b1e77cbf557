"""Checks what a documents part keeps of its tokens against the tokens themselves, computed anew.

Equal means equal to float64 rounding: another machine may add in another order, and its logarithm may differ in the
last place. Shapes: `T` rows of the part, `D` documents in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from operators.rollups import ROLLED_UP, rollups
from operators.verify.faults import Finding, Int64, Kind, wrong_documents

RELATIVE_ERROR = 1e-12
ABSOLUTE_ERROR = 1e-12  # in the column's unit: a mean of z can be next to 0

COLUMNS = ("doc_id", *ROLLED_UP)  # of a tokens part, for `rollup_findings`


def rollup_findings(tokens: pa.Table, receipts: pa.Table) -> Iterator[Finding]:
    """Findings of the roll-ups in `receipts`; `tokens` has `COLUMNS`, its rows by ascending doc_id."""
    ids = tokens["doc_id"].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1])
    lengths: Int64 = np.diff(np.append(starts, len(ids)))
    _, here, there = np.intersect1d(ids[starts], receipts["doc_id"].to_numpy(), return_indices=True)
    for name, computed in rollups(tokens, lengths).items():
        found = np.asarray(computed.to_numpy(zero_copy_only=False), np.float64)[here]
        stated = np.asarray(receipts[name].to_numpy(), np.float64)[there]
        same = np.isclose(stated, found, rtol=RELATIVE_ERROR, atol=ABSOLUTE_ERROR, equal_nan=True)
        yield from wrong_documents(Kind.ROLLUP, f"{name} is not that of the tokens", ids[starts][here][~same])
