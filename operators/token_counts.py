"""Counts the ids of tokenized blocks: how often each occurs, and in how many documents.

    block (flow.TOKENIZED) -> ids of the texts themselves, the first N of each -> counts of one vocabulary

What a tokenizer puts around every text (BOS, EOS) is not counted. Shapes: `V` vocabulary ids, `D` documents of a block,
`T` tokens of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import FREQUENCIES

Counts = npt.NDArray[np.int64]

COUNTS = pa.schema([("token_id", pa.int32()), ("n", pa.int64()), ("n_documents", pa.int64())])
CORPUS_METADATA = b"assay.corpus"


@dataclass(frozen=True)
class CountOptions:
    """`width`: V, above every id. `before` and `after`: how many ids stand around every text. `first_tokens`: of a
    document only so many are counted, None for all."""

    width: int
    before: int = 0
    after: int = 0
    first_tokens: int | None = None


@dataclass
class TokenCounts:
    """`n` and `n_documents`: `(V,)`, occurrences of an id and documents that hold it. `documents`: counted ones."""

    n: Counts
    n_documents: Counts
    documents: int = 0

    @classmethod
    def none(cls, width: int) -> TokenCounts:
        return cls(np.zeros(width, np.int64), np.zeros(width, np.int64))

    @property
    def tokens(self) -> int:
        return int(self.n.sum())

    def add_block(self, block: pa.Table, options: CountOptions) -> None:
        """Count the documents of a block of schema `flow.TOKENIZED`; rejects have no ids."""
        lists = block["token_id"].combine_chunks().drop_null()
        ids_T, lengths = lists.flatten().to_numpy(), np.asarray(lists.value_lengths(), np.int64)
        own_T = _own(lengths, options)
        document_T = np.repeat(np.arange(len(lengths)), lengths)
        ids, document = ids_T[own_T].astype(np.int64), document_T[own_T]
        self.n += np.bincount(ids, minlength=options.width)
        held = np.unique(document * options.width + ids) % options.width
        self.n_documents += np.bincount(held, minlength=options.width)
        self.documents += len(lengths)

    def add_rows(self, rows: pa.Table, documents: int) -> None:
        """Add counts of other documents, a row (`COUNTS`) an id."""
        ids = rows["token_id"].to_numpy()
        self.n[ids] += rows["n"].to_numpy()
        self.n_documents[ids] += rows["n_documents"].to_numpy()
        self.documents += documents

    def rows(self) -> pa.Table:
        """The ids that occur, as `COUNTS`: at most V rows."""
        ids = np.flatnonzero(self.n)
        return pa.table([ids.astype(np.int32), self.n[ids], self.n_documents[ids]], schema=COUNTS)


def _own(lengths: Counts, options: CountOptions) -> npt.NDArray[np.bool_]:
    """Which ids are the texts' own and to be counted, `(T,)`."""
    starts = np.cumsum(lengths) - lengths
    place_T = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    ends = lengths - options.after
    if options.first_tokens is not None:
        ends = np.minimum(ends, options.before + options.first_tokens)
    own: npt.NDArray[np.bool_] = (place_T >= options.before) & (place_T < np.repeat(ends, lengths))
    return own


@dataclass(frozen=True)
class Fingerprints:
    """Of the tokenizer whose ids were counted, and of it under every other `bos`."""

    own: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class CountedCorpus:
    """What is stored of a corpus: the counts, whose ids they are of, and (as metadata of the part) how it was made."""

    counts: TokenCounts
    fingerprints: Fingerprints
    facts: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> pa.Buffer:
        """The part of table `frequencies`: a row for every id, also those that never occur."""
        width = len(self.counts.n)
        columns = {
            "token_id": pa.array(np.arange(width, dtype=np.int32)),
            "n": pa.array(self.counts.n),
            "n_documents": pa.array(self.counts.n_documents),
            "tokenizer_fingerprint": pa.repeat(self.fingerprints.own, width),
            "other_fingerprints": pa.array([list(self.fingerprints.others)] * width, pa.list_(pa.string())),
        }
        table = pa.table(columns, schema=FREQUENCIES.arrow())
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({**table.schema.metadata, CORPUS_METADATA: json.dumps(dict(self.facts))}),
            sink,
            compression="zstd",
            use_dictionary=["tokenizer_fingerprint", "other_fingerprints.list.element"],
            sorting_columns=pq.SortingColumn.from_ordering(table.schema, [("token_id", "ascending")]),
            write_page_checksum=True,
        )
        return sink.getvalue()
