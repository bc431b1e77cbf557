"""`documents`: one row per scored document. A documents part is the receipt for the tokens part of the same name."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import PROMPT, Column, Table

DOCUMENTS = Table(
    name="documents",
    row="one scored document",
    key=("run_id", "doc_id"),
    sorted_by=("doc_id",),
    columns=(
        Column("run_id", pa.string(), "the run this row belongs to", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit xxh3 hash of `key`, the same in every run", minimum=0),
        Column("key", pa.string(), "the user's id, else `<source>#<row>`"),
        Column("source", pa.string(), "file the document was read from"),
        Column(
            "row",
            pa.int64(),
            "0-based record in that file (line for JSONL, 0 for a text file)",
            unit="count",
            minimum=0,
        ),
        Column("text", pa.string(), "the document as scored; NULL when dropped with --drop-text", nullable=True),
        Column("n_bytes", pa.int64(), "length in UTF-8", unit="bytes", minimum=0),
        Column("n_chars", pa.int64(), "length in Unicode code points", unit="count", minimum=0),
        Column(
            "n_words",
            pa.int64(),
            "pieces of a split on white space",
            unit="count",
            formula=r"len(re.split(r'\s+', text))",
            minimum=1,
        ),
        Column("n_tokens", pa.int64(), "rows in `tokens`, special tokens included", unit="count", minimum=1),
        Column("n_scored", pa.int64(), "tokens with a prediction", unit="count", minimum=0),
        Column(
            "prompt_bytes",
            pa.int64(),
            "length of the prompt at the start of the text, 0 without one",
            unit="bytes",
            group=PROMPT,
            minimum=0,
        ),
        Column(
            "prompt_tokens",
            pa.int64(),
            "tokens that lie wholly in the prompt; the completion is at position >= prompt_tokens",
            unit="count",
            group=PROMPT,
            minimum=0,
        ),
        Column(
            "zlib_bytes",
            pa.int64(),
            "length of zlib.compress(text) at the default level",
            unit="bytes",
            source="arXiv 2012.07805",
            minimum=0,
        ),
        Column("text_sha256", pa.string(), "hex SHA-256 of the UTF-8 text"),
        Column(
            "label",
            pa.int8(),
            "1 member / machine / contaminated, 0 not, NULL unknown",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("domain", pa.string(), "the user's domain", nullable=True),
        Column(
            "attributes",
            pa.map_(pa.string(), pa.string()),
            "further columns asked for with --keep-columns",
            nullable=True,
        ),
    ),
)
