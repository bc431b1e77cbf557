"""`frequencies`: how often a corpus holds each token of a tokenizer's vocabulary, as `assay frequencies` counts it."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table

FREQUENCIES = Table(
    name="frequencies",
    row="one vocabulary id in one corpus, ids that it never holds included",
    key=("corpus", "token_id"),
    sorted_by=("token_id",),
    columns=(
        Column("corpus", pa.string(), "name of the counted corpus", is_partition=True),
        Column("token_id", pa.int32(), "vocabulary id", minimum=0),
        Column("n", pa.int64(), "occurrences", unit="count", minimum=0),
        Column("n_documents", pa.int64(), "documents that hold it", unit="count", minimum=0),
        Column("tokenizer_fingerprint", pa.string(), "xxh3-128 over the tokenizer's definition, as in `runs`"),
    ),
)
