"""`spans`: what `assay memorization` keeps of memorised text, a row per stretch of tokens that a model knows."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table

VERBATIM, NEAR_VERBATIM = "verbatim", "near_verbatim"

SPANS = Table(
    name="spans",
    row="one stretch of a document that the model would have written itself, or nearly so",
    key=("run_id", "doc_id", "kind", "position"),
    sorted_by=("doc_id", "position"),
    columns=(
        Column("run_id", pa.string(), "the run that was searched", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit hash of the document's key, the same in every run", minimum=0),
        Column("kind", pa.string(), "verbatim: every token is the greedy choice; near_verbatim: a stated share is not"),
        Column("position", pa.int32(), "first token of the stretch", minimum=0),
        Column("n_tokens", pa.int32(), "length", unit="tokens", minimum=1),
        Column("n_misses", pa.int32(), "tokens that are not the greedy choice", unit="tokens", minimum=0),
        Column("byte_start", pa.int64(), "first byte in the UTF-8 document", unit="bytes", minimum=0),
        Column("n_bytes", pa.int64(), "length in the UTF-8 document", unit="bytes", minimum=0),
        Column("logprob_sum", pa.float64(), "log-probability of the stretch", unit="nats"),
        Column("parameters", pa.string(), "what was searched for, as a JSON object"),
    ),
)
