"""What `assay overlap` keeps: n-grams of a benchmark that a corpus holds, where, and what to cut out of the corpus."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.runs import check_run_id

_OVERLAP = Column("overlap", pa.string(), "name of the comparison of a benchmark with a corpus", is_partition=True)
_ITEM = Column(
    "item_id", pa.int64(), "63-bit hash of the item's key: its doc_id in a run that scored it", minimum=0
)  # fmt: skip
_DOCUMENT = (
    Column("doc_id", pa.int64(), "63-bit hash of the key of the corpus document", minimum=0),
    Column("key", pa.string(), "the user's id of the corpus document, else `<source>#<row>`"),
    Column("source", pa.string(), "file the document was read from"),
    Column("row", pa.int64(), "0-based record in that file", unit="count", minimum=0),
)
_PART = "input, answer, across: n-grams that touch both; all: the item as a whole"

OVERLAP_ITEMS = Table(
    name="overlap_items",
    row="one part of one benchmark item, with what a corpus holds of it",
    key=("overlap", "item_id", "part"),
    sorted_by=("item_id", "part"),
    columns=(
        _OVERLAP,
        _ITEM,
        Column("key", pa.string(), "the user's id of the item, else `<source>#<row>`"),
        Column("source", pa.string(), "file the item was read from"),
        Column("row", pa.int64(), "0-based record in that file", unit="count", minimum=0),
        Column("part", pa.string(), _PART),
        Column("n_words", pa.int64(), "normalised words, or token ids", unit="count", minimum=0),
        Column("n_ngrams", pa.int64(), "n-grams; 0 in a part shorter than one", unit="count", minimum=0),
        Column("n_seen", pa.int64(), "of them, by place, those that the corpus holds", unit="count", minimum=0),
        Column(
            "share_seen",
            pa.float64(),
            "share of the n-grams that the corpus holds; NULL without n-grams",
            nullable=True,
            formula="n_seen / n_ngrams",
            minimum=0,
            maximum=1,
        ),
        Column(
            "longest_match",
            pa.int64(),
            "words of the longest verbatim match, or of its piece in the part; at least, if of common n-grams alone",
            unit="count",
            minimum=0,
        ),
        Column("byte_start", pa.int64(), "its first byte in the part", unit="bytes", nullable=True, minimum=0),
        Column("n_bytes", pa.int64(), "its length in the part", unit="bytes", nullable=True, minimum=0),
        Column(
            "n_documents",
            pa.int64(),
            "documents of the corpus with a match in `overlap_spans`; 1 if of common n-grams alone",
            unit="count",
            minimum=0,
        ),
    ),
)

OVERLAP_SPANS = Table(
    name="overlap_spans",
    row="one maximal verbatim match of an item in a document of the corpus",
    key=("overlap", "doc_id", "byte_start", "item_id", "item_word"),
    sorted_by=("doc_id", "byte_start", "item_id", "item_word"),
    columns=(
        _OVERLAP,
        *_DOCUMENT,
        Column("byte_start", pa.int64(), "first byte in the UTF-8 document", unit="bytes", minimum=0),
        Column("n_bytes", pa.int64(), "length in the UTF-8 document", unit="bytes", minimum=1),
        Column("text", pa.string(), "those bytes"),
        _ITEM,
        Column("part", pa.string(), "input, answer, or across where it touches both"),
        Column("item_word", pa.int64(), "first word of the match in the item", unit="count", minimum=0),
        Column("n_words", pa.int64(), "words of the match", unit="count", minimum=1),
    ),
)

DECONTAMINATION = Table(
    name="decontamination",
    row="one stretch of a corpus document that a benchmark shares",
    key=("overlap", "doc_id", "byte_start"),
    sorted_by=("doc_id", "byte_start"),
    columns=(
        _OVERLAP,
        *_DOCUMENT,
        Column("byte_start", pa.int64(), "first byte to cut", unit="bytes", minimum=0),
        Column("n_bytes", pa.int64(), "bytes to cut", unit="bytes", minimum=1),
        Column("document_bytes", pa.int64(), "length of the document", unit="bytes", minimum=1),
        Column("drop_document", pa.bool_(), "whether the rule says to drop the document instead"),
        Column("rule", pa.string(), "the rule, as it was given"),
    ),
)

OVERLAP_TABLES = (OVERLAP_ITEMS, OVERLAP_SPANS, DECONTAMINATION)


def check_overlap(name: str) -> str:
    """Return `name` if an overlap can be called so: what a run can be called.

    Raises:
        ValueError: anything but letters, digits, `.`, `_` and `-`, starting with a letter or digit, 128 at most.
    """
    return check_run_id(name, "overlap")
