"""Reads pieces of a corpus: files -> Arrow tables of schema `flow.READ`, one row per record, rejects included.

    pieces -> records of raw values -> a verdict each -> blocks of bounded size

Whatever is wrong with a record is a row with a `reason` and NULL text, and the records around it are read. A piece
that breaks off is one `unreadable_shard` row, at the row where reading broke, or -1 if that was the file's first; the
rows before it are kept, though of a compressed file the last few before the break may be lost with it. The pieces
after it are read. Only a failing storage raises (`StorageError`): a retry may help there, and rejecting what could not
be fetched would lose the corpus.

`key` is the user's id as text where `id_column` is given (integers, strings and UUIDs), else `<uri>#<row>`. Who has an
id that records share is decided over the whole corpus before it is read: `read_keys` gives every id, and the caller
names the records that come second. Generated keys are distinct by construction.

Limits besides `max_document_bytes`: a text with its attributes takes at most 1 GiB, an id 4096 bytes, a line of JSON
the larger of 64 MiB and 8 * `max_document_bytes`, a batch of an Arrow file 1 GiB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from operators.identity import doc_id, key_check
from operators.pieces import Piece
from operators.readers import arrow, jsonl, parquet, text
from operators.readers.options import ReadOptions
from operators.readers.record import Fault, Record, RejectedError, UnreadableError
from operators.readers.source import Source, StorageError, open_source
from operators.readers.verdict import Judge, Row, generated_key, user_key
from schemas.flow import READ
from schemas.rejects import Reason

__all__ = ["KEYS", "PLACE_METADATA", "ReadOptions", "StorageError", "doc_id", "read_keys", "read_pieces"]

PLACE_METADATA = b"assay.place"  # of a block's schema: `[piece, share]`, how much of which piece is read by its end

KEYS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("doc_id", pa.int64(), nullable=False),
        pa.field("check", pa.int64(), nullable=False),  # see `operators.identity.key_check`
    ]
)
_KEYS_ROWS = 1 << 16
_KEYS_BATCH_BYTES = 16 << 20  # of whole rows, of which only the id is read


def read_pieces(
    pieces: Iterable[Piece],
    options: ReadOptions,
    *,
    repeats: Mapping[tuple[str, int], tuple[Reason, str]] = {},
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[pa.Table]:
    """The records of all `pieces` in order, as blocks of schema `flow.READ`. Small files share a block.

    Blocks close as `options` say, wherever a file ends: the same pieces and options give the same blocks. How far
    reading was when a block closed stands in its schema's metadata, `PLACE_METADATA`; it is a little ahead, and nothing
    but how much is left may be told from it.

    Args:
        repeats: (source, row) of the records whose key an earlier one has, with reason and detail. A record with
            another fault of its own is rejected for that.
        storage_options: fsspec's options, flat or by protocol.

    Raises:
        ValueError: a piece whose `first_row` is not known.
        StorageError: the storage failed; the blocks yielded so far are good.
    """
    block, place = _Block(options), _Place(-1)
    for index, piece in enumerate(pieces):
        own = _options_for(piece, options)
        judge, place = Judge(piece.shard.uri, own, repeats), _Place(index, piece)
        for record in _records(piece, own, storage_options, place):
            block.add(*judge(record))
            if block.is_full:
                yield place.mark(block.take(), record.row)
    if block:
        yield _Place(place.index).mark(block.take(), 0)


def read_keys(
    piece: Piece, options: ReadOptions, *, storage_options: Mapping[str, Any] | None = None
) -> Iterator[pa.Table]:
    """The ids of a piece's records, as tables of schema `KEYS` of at most 65536 rows, in row order.

    `row` counts from the piece's first record where its number in the file is not known yet. Records without a sound
    id are left out, and a piece that breaks off just ends: its reader rejects them. Text files have no ids:
    of each comes its generated key, which a record elsewhere may have as its id.

    Raises:
        ValueError: `options` name no id column.
        StorageError: the storage failed.
    """
    if options.id_column is None:
        raise ValueError("read_keys needs options with an id_column")
    rows: list[tuple[int, int, int]] = []
    for row, key in _keys(piece, options, options.id_column, storage_options):
        rows.append((row, doc_id(key), key_check(key)))
        if len(rows) == _KEYS_ROWS:
            yield _table(rows, KEYS)
            rows = []
    if rows:
        yield _table(rows, KEYS)


def _keys(
    piece: Piece, options: ReadOptions, column: str, storage_options: Mapping[str, Any] | None
) -> Iterator[tuple[int, str]]:
    if piece.shard.format == "text":
        yield 0, generated_key(piece.shard.uri, 0)
        return
    numbered = replace(piece, first_row=piece.first_row or 0)
    only_ids = ReadOptions(
        text_column=column, max_document_bytes=options.max_document_bytes, block_bytes=_KEYS_BATCH_BYTES
    )
    for record in _records(numbered, only_ids, storage_options):
        try:
            yield record.row, user_key(record.checked(), column)
        except RejectedError:
            continue


def _options_for(piece: Piece, options: ReadOptions) -> ReadOptions:
    if piece.shard.format != "text":
        return options
    return replace(
        options,
        text_template=None,
        prompt_column=None if options.prompt_column is None else text.NO_PROMPT,
        id_column=None,
        label_column=None,
        domain_column=None,
        keep_columns=(),
    )


def _records(
    piece: Piece, options: ReadOptions, storage_options: Mapping[str, Any] | None, place: _Place | None = None
) -> Iterator[Record]:
    first_row = piece.first_row
    if first_row is None:
        raise ValueError(f"{piece.shard.uri}: count the lines before the piece at {piece.start} first")
    # Parquet is read in large steps that jump between columns: reading ahead would fetch most bytes twice.
    scattered = piece.shard.format == "parquet"
    try:
        with open_source(piece.shard.uri, storage_options, scattered=scattered) as source:
            if place is not None:
                place.source = source
            yield from _records_of_format(source, piece, first_row, options)
    except UnreadableError as error:
        row = max(error.row, first_row) if first_row else error.row
        yield Record(row, fault=Fault(Reason.UNREADABLE_SHARD, error.detail))


def _records_of_format(source: Source, piece: Piece, first_row: int, options: ReadOptions) -> Iterator[Record]:
    part: dict[str, Any] = {"start": piece.start, "stop": piece.stop, "first_row": first_row}
    held = {"batch_bytes": options.block_bytes, "batch_rows": options.block_documents}
    match piece.shard.format:
        case "jsonl":
            return jsonl.records(source, max_line_bytes=options.line_limit, **part)
        case "parquet":
            return parquet.records(source, columns=options.columns, required=options.required, **held, **part)
        case "arrow":
            return arrow.records(source, columns=options.columns, required=options.required, **held)
        case "text":
            return text.records(source, column=options.text_column, max_bytes=options.document_limit)


class _Place:
    """How much of a piece is read: its records over those that its footer promises, else its stored bytes."""

    def __init__(self, index: int, piece: Piece | None = None) -> None:
        """`piece`: None for one that is read to its end."""
        self.index, self.piece = index, piece
        self.source: Source | None = None

    def mark(self, block: pa.Table, row: int) -> pa.Table:
        """`block`, whose last record has this row."""
        return block.replace_schema_metadata({PLACE_METADATA: json.dumps([self.index, self._share(row)])})

    def _share(self, row: int) -> float:
        piece, source = self.piece, self.source
        if piece is None or source is None or source.closed:
            return 1.0
        if source.promised is not None:
            done, of = row + 1 - (piece.first_row or 0), source.promised
        else:
            done, of = source.tell() - piece.start, (piece.stop or piece.shard.n_bytes) - piece.start
        return round(min(1.0, max(0.0, done / of)), 6) if of > 0 else 0.0


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
        table = _table(self._rows, READ)
        self._rows, self._bytes = [], 0
        return table


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
