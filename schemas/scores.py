"""`scores`: what `assay scores` keeps of the score files, a row per document, score and set of parameters."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table

SCORES = Table(
    name="scores",
    row="one score of one document, at one set of parameters",
    key=("run_id", "doc_id", "variant"),
    sorted_by=("doc_id", "variant"),
    columns=(
        Column("run_id", pa.string(), "the run that was scored", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit hash of the document's key, the same in every run", minimum=0),
        Column("family", pa.string(), "membership, detection, uncertainty, fit, memorization, or learned"),
        Column("score", pa.string(), "name of the score, as in `assay scores --list`"),
        Column("variant", pa.string(), "the score with what differs from its defaults: `min_k(ratio=0.1)`"),
        Column("parameters", pa.string(), "every parameter, other runs and tables included, as a JSON object"),
        Column("value", pa.float64(), "NULL where it is not defined for this document", nullable=True),
    ),
)
