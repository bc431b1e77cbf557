"""Writes scored documents into the lake: one block in, up to three Parquet parts out, one manifest row back.

    block (flow.scored) -> documents, rejects -> tokens part -> documents part (the receipt) -> rejects part

Every name and every byte follows from the block alone: a retried block overwrites its parts with themselves. The price
is that a block is held in memory three times over while it is written (lists, rows, Parquet).
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.identity import doc_id
from operators.lake import Lake, Part, documents_part_name, rejects_part_name
from operators.parquet import encode
from operators.precision import Precision, at_precision
from schemas import DOCUMENTS, REJECTS, TOKENS, Reason, Table, check_run_id, flow

MANIFEST = pa.schema(
    [
        pa.field("part", pa.string()),  # NULL where the block held no document
        pa.field("rejects_part", pa.string()),  # NULL where it held no reject
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("rejects", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),
        pa.field("text_bytes", pa.int64(), nullable=False),
        pa.field("bytes_written", pa.int64(), nullable=False),  # size of the tokens part
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)


Ids = npt.NDArray[np.int64]
Origin = tuple[str, int, str]  # source, row, key


@dataclass(frozen=True)
class WriteOptions:
    """Where and how a run is written. `features`: optional column groups of `tokens` that the blocks carry."""

    lake: Lake
    run_id: str
    features: tuple[str, ...] = ()
    precision: Precision = "compact"
    keep_text: bool = True

    def __post_init__(self) -> None:
        check_run_id(self.run_id)
        TOKENS.arrow(self.features)  # raises for an unknown group
        if self.precision not in ("compact", "full"):
            raise ValueError(f"precision is {self.precision!r}: choose compact or full")


def checked(block: pa.Table, features: tuple[str, ...]) -> pa.Table:
    """`block` in the flow's schema, columns in order and in one chunk each.

    Raises:
        ValueError: a column is missing, not of the flow or of another type; a row without a reason has no key or text.
    """
    expected = flow.scored(features)
    found = {field.name: field.type for field in block.schema}
    faults = [f"no column {f.name}" for f in expected if f.name not in found]
    faults += [f"{f.name} is {found[f.name]}, not {f.type}" for f in expected if found.get(f.name, f.type) != f.type]
    faults += [f"unexpected column {name}" for name in found if name not in expected.names]
    if faults:
        raise ValueError(f"a block to write is not in the flow's schema: {'; '.join(faults)}")
    for name in ("key", "text"):
        missing = pc.sum(pc.and_(pc.is_null(block["reason"]), pc.is_null(block[name]))).as_py()
        if missing:
            raise ValueError(f"{missing} documents of a block have no {name} and no reason")
    return block.select(expected.names).combine_chunks()


def reject_repeats(block: pa.Table, taken: Mapping[int, Origin] | None = None) -> pa.Table:
    """Reject every document whose doc_id an earlier row of the block, or a document of `taken`, already has.

    The reason is `DUPLICATE_KEY` where the keys are equal, else `HASH_COLLISION`.
    """
    first = dict(taken or {})
    reasons, details = block["reason"].to_pylist(), block["detail"].to_pylist()
    for index, origin in enumerate(_origins(block)):
        if reasons[index] is not None:
            continue
        other = first.setdefault(doc_id(origin[2]), origin)
        if other is not origin:
            source, row, key = other
            same = key == origin[2]
            reasons[index] = (Reason.DUPLICATE_KEY if same else Reason.HASH_COLLISION).value
            details[index] = f"{'same key as' if same else f'same doc_id as key {key!r} of'} {source}#{row}"
    for name, values in (("reason", reasons), ("detail", details)):
        block = block.set_column(block.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return block


def scored_documents(block: pa.Table) -> tuple[pa.Table, Ids]:
    """The documents of a block (rows without a reason) by ascending doc_id, and those doc_ids.

    Raises:
        ValueError: a document has no token, or lists that are not equally long.
    """
    documents = block.filter(pc.is_null(block["reason"]))
    ids = np.array([doc_id(key) for key in documents["key"].to_pylist()], np.int64)
    order = np.argsort(ids, kind="stable")
    documents = documents.take(pa.array(order)).combine_chunks()
    _check_lists(documents)
    return documents, ids[order]


def token_rows(documents: pa.Table, ids: Ids, features: tuple[str, ...] = ()) -> pa.Table:
    """`tokens` in its declared schema: the list columns of `documents` (sorted by `ids`) as one row a token."""
    lengths = _lengths(documents)
    starts = np.cumsum(lengths) - lengths
    columns = {
        "doc_id": pa.array(np.repeat(ids, lengths)),
        "position": pa.array((np.arange(lengths.sum()) - np.repeat(starts, lengths)).astype(np.int32)),
    }
    schema = TOKENS.arrow(features)
    for name in schema.names[2:]:
        columns[name] = pc.list_flatten(documents[name])
    return pa.table(columns).select(schema.names).cast(schema)


def document_rows(documents: pa.Table, ids: Ids, *, keep_text: bool = True) -> pa.Table:
    """`documents` in its declared schema, for documents sorted by `ids`: counts and digests of text and tokens."""
    lengths = _lengths(documents)
    scored = np.zeros(lengths.sum() + 1, np.int64)
    np.cumsum(pc.is_valid(pc.list_flatten(documents["logprob"])).to_numpy(), out=scored[1:])
    ends = np.cumsum(lengths)
    measures = [_measure(text) for text in documents["text"].to_pylist()]
    columns = {name: documents[name] for name in ("key", "source", "row", "label", "domain", "attributes")}
    columns |= {
        "doc_id": pa.array(ids),
        "text": documents["text"] if keep_text else pa.nulls(len(ids), pa.string()),
        "n_tokens": pa.array(lengths),
        "n_scored": pa.array(scored[ends] - scored[ends - lengths]),
    }
    for name in _Measures._fields:
        columns[name] = pa.array([getattr(m, name) for m in measures], DOCUMENTS[name].type)
    schema = DOCUMENTS.arrow()
    return pa.table(columns).select(schema.names).cast(schema)


def words(text: str) -> int:
    r"""`len(re.split(r"\s+", text))`, ten times faster: white space at either end adds an empty piece."""
    return len(text.split()) + text[:1].isspace() + text[-1:].isspace() if text else 1


def reject_rows(block: pa.Table) -> pa.Table:
    """`rejects` in its declared schema and order: the rows of a block that have a reason."""
    schema = REJECTS.arrow()
    rejects = block.filter(pc.is_valid(block["reason"])).select(schema.names)
    return rejects.sort_by([(name, "ascending") for name in REJECTS.sorted_by]).cast(schema)


class PartWriter:
    """Maps one block of schema `flow.scored(features)` to one row of `MANIFEST`, and writes the block's parts."""

    def __init__(self, options: WriteOptions) -> None:
        self.options = options
        self.lake = options.lake

    def __call__(self, block: pa.Table) -> pa.Table:
        """Write one block. Safe to repeat, and safe to be killed in.

        Raises:
            ValueError: the block breaks the contract of the flow; nothing of it was written.
        """
        started = time.perf_counter()
        block = reject_repeats(checked(block, self.options.features))
        documents, ids = scored_documents(block)
        taken = self._taken(documents, ids)
        if taken:
            block = reject_repeats(block, taken)
            documents, ids = scored_documents(block)
        manifest = {**self._write_documents(documents, ids), **self._write_rejects(reject_rows(block))}
        manifest["seconds"] = time.perf_counter() - started
        return pa.Table.from_pylist([manifest], schema=MANIFEST)

    def _taken(self, documents: pa.Table, ids: Ids) -> dict[int, Origin]:
        """Documents of the same doc_ids that another block has written: to overwrite its part would lose them."""
        receipt = Part(DOCUMENTS.name, self.options.run_id, documents_part_name(ids))
        if not len(ids) or not self.lake.storage.exists(receipt.path):
            return {}
        with self.lake.storage.parquet(receipt.path) as file:
            written = file.read(columns=["doc_id", "source", "row", "key"])
        if _origins(written) == _origins(documents):
            return {}  # our own part, from an attempt before this one
        return dict(zip(written["doc_id"].to_pylist(), _origins(written), strict=True))

    def _write_documents(self, documents: pa.Table, ids: Ids) -> dict[str, object]:
        if not len(ids):
            return dict.fromkeys(("documents", "tokens", "scored", "text_bytes", "bytes_written"), 0)
        options, name = self.options, documents_part_name(ids)
        tokens = at_precision(token_rows(documents, ids, options.features), options.precision)
        receipts = document_rows(documents, ids, keep_text=options.keep_text)
        bytes_written = self._write(TOKENS, name, tokens)
        self._write(DOCUMENTS, name, receipts)
        return {
            "part": name,
            "documents": receipts.num_rows,
            "tokens": tokens.num_rows,
            "scored": pc.sum(receipts["n_scored"]).as_py(),
            "text_bytes": pc.sum(receipts["n_bytes"]).as_py(),
            "bytes_written": bytes_written,
        }

    def _write_rejects(self, rejects: pa.Table) -> dict[str, object]:
        if not rejects.num_rows:
            return {"rejects": 0}
        name = rejects_part_name(zip(rejects["source"].to_pylist(), rejects["row"].to_pylist(), strict=True))
        self._write(REJECTS, name, rejects)
        return {"rejects_part": name, "rejects": rejects.num_rows}

    def _write(self, declared: Table, name: str, table: pa.Table) -> int:
        data = encode(table, declared)
        self.lake.storage.write(Part(declared.name, self.options.run_id, name).path, memoryview(data))
        return int(data.size)


def _origins(table: pa.Table) -> list[Origin]:
    return list(zip(*(table[name].to_pylist() for name in ("source", "row", "key")), strict=True))


def _lengths(documents: pa.Table) -> Ids:
    """Tokens of each document."""
    return np.asarray(pc.list_value_length(documents["token_id"]).to_numpy(), np.int64)


def _check_lists(documents: pa.Table) -> None:
    lists = [field.name for field in documents.schema if pa.types.is_large_list(field.type)]
    for name in lists:
        if documents[name].null_count:
            raise ValueError(f"{documents[name].null_count} documents of a block have no list {name} and no reason")
    lengths = _lengths(documents)
    for name in lists:
        wrong = np.flatnonzero((pc.list_value_length(documents[name]).to_numpy() != lengths) | (lengths == 0))
        if len(wrong):
            key = documents["key"][int(wrong[0])]
            raise ValueError(f"document {key}: list {name} is empty or not as long as its token_id")


class _Measures(NamedTuple):
    n_bytes: int
    n_chars: int
    n_words: int
    zlib_bytes: int
    text_sha256: str


def _measure(text: str) -> _Measures:
    encoded = text.encode()
    return _Measures(
        n_bytes=len(encoded),
        n_chars=len(text),
        n_words=words(text),
        zlib_bytes=len(zlib.compress(encoded)),
        text_sha256=hashlib.sha256(encoded).hexdigest(),
    )
