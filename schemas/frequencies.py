"""`frequencies`: how often a corpus holds each token of a tokenizer's vocabulary, as `assay frequencies` counts it."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.runs import check_run_id

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
        Column(
            "other_fingerprints",
            pa.list_(pa.string()),
            "those of the same tokenizer under other --bos, which change no count",
        ),
    ),
)


def check_corpus(name: str) -> str:
    """Return `name` if a counted corpus can be called so: what a run can be called.

    Raises:
        ValueError: anything but letters, digits, `.`, `_` and `-`, starting with a letter or digit, 128 at most.
    """
    return check_run_id(name, "corpus")
