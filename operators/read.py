"""Reads a shard: a file -> Arrow tables of schema `flow.READ`, one row per record, documents and rejects together.

    shard -> records of raw values -> a verdict each -> blocks of bounded size

Whatever is wrong with a record is a row with a `reason` and NULL text, and the records around it are read. A shard
that breaks off is one `unreadable_shard` row, at the row where reading broke, or -1 if that was the first; the rows
before it are kept, though of a compressed file the last few before the break may be lost with it. Only a failing
storage raises (`StorageError`): a retry may help there, and rejecting what could not be fetched would lose the corpus.

`key` is the user's id as text where `id_column` is given (integers, strings and UUIDs; the first document of a shard
with an id has it, later ones are rejects), else `<uri>#<row>`. Ids are compared within a shard, by 64-bit hash;
generated keys are distinct by construction and not compared. Repeats across shards are for whoever sees them all.

Limits besides `max_document_bytes`: a text with its attributes takes at most 1 GiB, an id 4096 bytes, a line of JSON
the larger of 64 MiB and 8 * `max_document_bytes`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from operators.identity import doc_id
from operators.readers import jsonl, parquet, text
from operators.readers.options import ReadOptions
from operators.readers.record import Fault, Record, UnreadableError
from operators.readers.source import Source, StorageError, open_source
from operators.readers.verdict import Judge, Row
from operators.shards import Shard
from schemas.flow import READ
from schemas.rejects import Reason

__all__ = ["ReadOptions", "StorageError", "doc_id", "read_shard"]


def read_shard(
    shard: Shard,
    options: ReadOptions,
    *,
    done: Container[int] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[pa.Table]:
    """The records of `shard` in row order, as blocks of schema `flow.READ`.

    Args:
        done: rows that are not yielded again. Where the user gives ids they are still read: a repeated id stays a
            reject after a resume, even if the first document that used it is done.
        storage_options: fsspec's options for the shard's URI.

    Raises:
        StorageError: the storage failed; the blocks yielded so far are good.
    """
    if shard.format == "text":
        options = replace(options, id_column=None, label_column=None, domain_column=None, keep_columns=())
    judge = Judge(shard.uri, options)
    block = _Block(options)
    for record in _records(shard, options, done if options.id_column is None else (), storage_options):
        row, n_bytes = judge(record)
        if record.row in done:
            continue
        block.add(row, n_bytes)
        if block.is_full:
            yield block.take()
    if block:
        yield block.take()


def _records(
    shard: Shard, options: ReadOptions, skip: Container[int], storage_options: Mapping[str, Any] | None
) -> Iterator[Record]:
    # Parquet is read in large steps that jump between columns: fsspec's read-ahead would fetch most bytes twice.
    how = {"cache_type": "none"} if shard.format == "parquet" else {}
    try:
        with open_source(shard.uri, storage_options, **how) as source:
            yield from _records_of_format(source, shard, options, skip)
    except UnreadableError as error:
        yield Record(error.row, fault=Fault(Reason.UNREADABLE_SHARD, error.detail))


def _records_of_format(source: Source, shard: Shard, options: ReadOptions, skip: Container[int]) -> Iterator[Record]:
    if shard.format == "jsonl":
        return jsonl.records(source, max_line_bytes=options.line_limit, skip=skip)
    if shard.format == "text":
        return text.records(source, column=options.text_column, max_bytes=options.document_limit, skip=skip)
    return parquet.records(
        source,
        columns=options.columns,
        batch_bytes=options.block_bytes,
        batch_rows=options.block_documents,
        skip=skip,
    )


class _Block:
    """Rows on their way into one table."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._rows: list[Row] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._rows)

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._options.block_bytes or len(self._rows) >= self._options.block_documents

    def add(self, row: Row, n_bytes: int) -> None:
        self._rows.append(row)
        self._bytes += n_bytes

    def take(self) -> pa.Table:
        columns = zip(*self._rows, strict=True)
        table = pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, READ, strict=True)], schema=READ
        )
        self._rows, self._bytes = [], 0
        return table
