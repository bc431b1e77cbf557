"""What travels between the operators of a run: one row per input record, documents and rejects together.

    read ------> READ        text and its metadata; `reason` set where the record is rejected (then `text` is NULL)
    tokenize --> TOKENIZED   + `token_id`, `byte_start`, `n_bytes` as lists
    score -----> scored()    + one list per statistic of `tokens`

A record never changes rows on its way: it leaves with a verdict, scored or rejected, so rows in = documents + rejects.
These tables are never stored; `operators.write` turns them into the lake's.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from schemas.tokens import TOKENS

_READ_FIELDS = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("key", pa.string()),
    pa.field("text", pa.string()),
    pa.field("prompt_bytes", pa.int64()),  # how much of the text is prompt; NULL in runs without a prompt column
    pa.field("label", pa.int8()),
    pa.field("domain", pa.string()),
    pa.field("attributes", pa.map_(pa.string(), pa.string())),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
]

SPAN_COLUMNS = ("token_id", "byte_start", "n_bytes")
_NOT_STATISTICS = {"run_id", "doc_id", "position", *SPAN_COLUMNS, "in_prompt", "in_comment"}


def _list_field(name: str) -> pa.Field:
    return pa.field(name, pa.large_list(TOKENS[name].type))


READ = pa.schema(_READ_FIELDS)
TOKENIZED = pa.schema([*_READ_FIELDS, *(_list_field(name) for name in SPAN_COLUMNS)])


def statistic_names(features: Iterable[str] = ()) -> list[str]:
    """The per-token statistics of a run that keeps the core and the optional groups `features`, in schema order."""
    return [f.name for f in TOKENS.arrow(features) if f.name not in _NOT_STATISTICS]


def scored(features: Iterable[str] = ()) -> pa.Schema:
    """The flow's schema after scoring: lists are as long as `token_id`, NULL for rejects."""
    return pa.schema([*TOKENIZED, *(_list_field(name) for name in statistic_names(features))])
