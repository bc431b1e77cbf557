"""`extractions`: what `assay memorization` keeps of discoverable extraction, a row per window of a document."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table

STRICT, DOCUMENT = "strict", "document"

EXTRACTIONS = Table(
    name="extractions",
    row="one window: a suffix of a document's tokens and what is fed before it",
    key=("run_id", "doc_id", "context", "scored_run", "position"),
    sorted_by=("doc_id", "byte_start", "position"),
    columns=(
        Column("run_id", pa.string(), "the run whose documents they are", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit hash of the document's key, the same in every run", minimum=0),
        Column(
            "context", pa.string(), "strict: the suffix sees its prefix alone; document: all of the document before it"
        ),
        Column("scored_run", pa.string(), "the run that scored the window: a windows run where the context is strict"),
        Column("position", pa.int32(), "first token of the suffix, in `scored_run`", minimum=0),
        Column("prefix_tokens", pa.int32(), "tokens of the prefix", unit="tokens", minimum=1),
        Column("suffix_tokens", pa.int32(), "tokens of the suffix", unit="tokens", minimum=1),
        Column("byte_start", pa.int64(), "first byte of the suffix in the UTF-8 document", unit="bytes", minimum=0),
        Column("n_bytes", pa.int64(), "length of the suffix in the UTF-8 document", unit="bytes", minimum=0),
        Column("n_greedy", pa.int32(), "tokens of the suffix that are the greedy choice", unit="tokens", minimum=0),
        Column(
            "is_extractable",
            pa.bool_(),
            "whether greedy decoding writes the suffix",
            formula="n_greedy = suffix_tokens",
            source="Carlini et al. 2023, arXiv 2202.07646",
        ),
        Column("logprob_sum", pa.float64(), "log-probability of the suffix", unit="nats", formula="sum_t ln p_t"),
        Column(
            "logprob_sampled",
            pa.float64(),
            "log-probability of one sampled continuation being the suffix, as `sampling` says; -inf where it cannot",
            unit="nats",
            nullable=True,
            formula="ln p_z",
            source="Hayes et al. 2024, arXiv 2410.19482",
        ),
        Column("sampling", pa.string(), "how a continuation is sampled, as a JSON object: temperature and top_k"),
    ),
)
