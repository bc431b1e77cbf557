"""`rejects`: one row per record that was not scored, with its reason. rows in = documents + rejects, always."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from schemas.columns import Column, Table


class Reason(StrEnum):
    """Why a record was rejected. The values are stored: add, never rename."""

    BROKEN_JSON = "broken_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_TEXT = "missing_text"
    NULL_TEXT = "null_text"
    TEXT_NOT_STRING = "text_not_string"
    EMPTY_TEXT = "empty_text"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_KEY = "invalid_key"
    INVALID_PROMPT = "invalid_prompt"
    INVALID_LABEL = "invalid_label"
    DUPLICATE_KEY = "duplicate_key"
    HASH_COLLISION = "hash_collision"
    DOCUMENT_TOO_LARGE = "document_too_large"
    EMPTY_AFTER_TRANSFORM = "empty_after_transform"
    USED_AS_PREFIX = "used_as_prefix"
    TOKENIZER_FAILED = "tokenizer_failed"
    TOKEN_SPAN_TOO_LONG = "token_span_too_long"
    TOKEN_OUTSIDE_VOCABULARY = "token_outside_vocabulary"
    NO_TOKENS = "no_tokens"
    NON_FINITE_SCORE = "non_finite_score"
    UNREADABLE_SHARD = "unreadable_shard"
    KILLED_WORKER = "killed_worker"


REJECTS = Table(
    name="rejects",
    row="one record that was read and not scored",
    key=("run_id", "source", "row"),
    sorted_by=("source", "row"),
    columns=(
        Column("run_id", pa.string(), "the run this row belongs to", is_partition=True),
        Column("source", pa.string(), "file the record was read from"),
        Column("row", pa.int64(), "0-based record in that file; -1 for the file as a whole", unit="count", minimum=-1),
        Column("key", pa.string(), "the user's id or `<source>#<row>` where it could be read", nullable=True),
        Column("reason", pa.string(), "one of: " + ", ".join(Reason)),
        Column("detail", pa.string(), "what was found, in words", nullable=True),
    ),
)
