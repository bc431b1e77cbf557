"""What `assay tokenizers` keeps under a name: how tokenizers cut a corpus, domain by domain."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.intervals import CONFIDENCE, interval

TOKENIZER_STATISTICS = Table(
    name="tokenizer_statistics",
    row="one statistic of one tokenizer on one domain, or on all of a corpus",
    key=("profile", "tokenizer", "part", "domain", "statistic", "baseline"),
    sorted_by=("tokenizer", "part", "domain", "statistic", "baseline"),
    columns=(
        Column("profile", pa.string(), "name under which it was kept", is_partition=True),
        Column("tokenizer", pa.string(), "as it was named"),
        Column("part", pa.string(), "domain, or all: every document"),
        Column("domain", pa.string(), "domain or language; NULL: documents without one, or not of a domain",
               nullable=True),
        Column("statistic", pa.string(), "its name; `assay tokenizers --list` says what it is"),
        Column("baseline", pa.string(), "domain or tokenizer that parity, premium and differences are against",
               nullable=True),
        Column("value", pa.float64(), "NULL where it is not defined", nullable=True),
        *interval("value"),
        CONFIDENCE,
        Column("unit", pa.string(), "tokens per word, bytes per token, share, bits, ratio or count"),
        Column("n", pa.int64(), "documents behind it", unit="count", minimum=0),
        Column("tokenizer_fingerprint", pa.string(), "xxh3-128 over the tokenizer's definition, as in `runs`"),
    ),
)  # fmt: skip

TOKENIZER_TABLES = (TOKENIZER_STATISTICS,)
