"""Writes scored documents into the lake: one block in, up to three Parquet parts out, one manifest row back.

    block (flow.scored) -> documents, rejects -> tokens part -> documents part (the receipt) -> rejects part

Every name and every byte follows from the block alone: a retried block overwrites its parts with themselves. The price
is that a block is held in memory three times over while it is written (lists, rows, Parquet).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from operators.comments import check_language, in_comment
from operators.identity import doc_id
from operators.lake import Lake, Part, documents_part_name, rejects_part_name
from operators.parquet import encode
from operators.precision import Precision, at_precision
from operators.rows import Ids, document_rows, reject_rows, scored_documents, token_rows
from schemas import DOCUMENTS, FEATURE_GROUPS, REJECTS, TOKENS, Reason, Table, check_run_id, flow

MANIFEST = pa.schema(
    [
        pa.field("part", pa.string()),  # NULL where the block held no document
        pa.field("rejects_part", pa.string()),  # NULL where it held no reject
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("rejects", pa.int64(), nullable=False),
        pa.field("reasons", pa.string()),  # rejects by reason, JSON; NULL where there are none
        pa.field("unreadable", pa.int64(), nullable=False),  # of them, files or pieces that could not be read on
        pa.field("unlexed", pa.int64(), nullable=False),  # documents of a run on code whose comments cannot be told
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),
        pa.field("text_bytes", pa.int64(), nullable=False),
        pa.field("bytes_written", pa.int64(), nullable=False),  # size of the tokens part
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)

Origin = tuple[str, int, str]  # source, row, key


@dataclass(frozen=True)
class WriteOptions:
    """Where and how a run is written. `features`: optional column groups of `tokens` that the blocks carry.

    `prompt`: the blocks carry `prompt_bytes`, and the column group of the prompt is stored. `language`: what the texts
    are written in, or `language_column`: the attribute that says so; with either the group of comments is stored.

    Raises:
        ValueError: a run id that is no name, or a group, precision or language that does not exist.
    """

    lake: Lake
    run_id: str
    features: tuple[str, ...] = ()
    precision: Precision = "compact"
    keep_text: bool = True
    prompt: bool = False
    language: str | None = None
    language_column: str | None = None

    def __post_init__(self) -> None:
        check_run_id(self.run_id)
        unknown = sorted(set(self.features) - set(FEATURE_GROUPS))
        if unknown:
            raise ValueError(f"no column group {unknown} among the features: choose from {', '.join(FEATURE_GROUPS)}")
        if self.precision not in ("compact", "full"):
            raise ValueError(f"precision is {self.precision!r}: choose compact or full")
        if self.language is not None:
            check_language(self.language)
        if self.language is not None and self.language_column is not None:
            raise ValueError("language and language_column: give one of them")

    @property
    def on_code(self) -> bool:
        """Whether comments are told from code."""
        return self.language is not None or self.language_column is not None


def checked(block: pa.Table, features: tuple[str, ...], *, prompt: bool = False) -> pa.Table:
    """`block` in the flow's schema, columns in order and in one chunk each.

    Raises:
        ValueError: a column is missing, not of the flow or of another type; a row without a reason has no key or text,
            or a prompt where there is to be none, or none where there is to be one, or one longer than its text.
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
    _check_prompts(block, prompt=prompt)
    return block.select(expected.names).combine_chunks()


def _check_prompts(block: pa.Table, *, prompt: bool) -> None:
    borders = block["prompt_bytes"]
    inside = pc.and_(pc.greater_equal(borders, 0), pc.less_equal(borders, pc.binary_length(block["text"])))
    wrong = pc.invert(pc.fill_null(inside, False)) if prompt else pc.is_valid(borders)
    rows = pc.indices_nonzero(pc.and_(pc.is_null(block["reason"]), wrong))
    if len(rows):
        fault = "that are no length within their text" if prompt else "in a run without prompts"
        key = block["key"][rows[0].as_py()].as_py()
        raise ValueError(f"{len(rows)} documents of a block have prompt_bytes {fault}, first key {key!r}")


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
        block = reject_repeats(checked(block, self.options.features, prompt=self.options.prompt))
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
            return dict.fromkeys(("documents", "unlexed", "tokens", "scored", "text_bytes", "bytes_written"), 0)
        options, name = self.options, documents_part_name(ids)
        comments = self._in_comment(documents, ids) if options.on_code else None
        tokens = token_rows(documents, ids, options.features, prompt=options.prompt, in_comment=comments)
        tokens = at_precision(tokens, options.precision)
        receipts = document_rows(documents, ids, tokens, keep_text=options.keep_text, prompt=options.prompt)
        bytes_written = self._write(TOKENS, name, tokens)
        self._write(DOCUMENTS, name, receipts)
        return {
            "part": name,
            "documents": receipts.num_rows,
            "unlexed": receipts["comment_tokens"].null_count if options.on_code else 0,
            "tokens": tokens.num_rows,
            "scored": pc.sum(receipts["n_scored"]).as_py(),
            "text_bytes": pc.sum(receipts["n_bytes"]).as_py(),
            "bytes_written": bytes_written,
        }

    def _in_comment(self, documents: pa.Table, ids: Ids) -> pa.Array:
        """The column `in_comment`, in the same documents as in an attempt before this one: lexing has a limit of time.

        Attempts at the same moment do not see each other.
        """
        options, before = self.options, None
        receipt = Part(DOCUMENTS.name, options.run_id, documents_part_name(ids))
        if self.lake.storage.exists(receipt.path):
            with self.lake.storage.parquet(receipt.path) as file:
                written = file.read(columns=["source", "row", "key", "comment_tokens"])
            if _origins(written) == _origins(documents):
                before = pc.is_valid(written["comment_tokens"]).to_pylist()
        return in_comment(documents, language=options.language, language_column=options.language_column, before=before)

    def _write_rejects(self, rejects: pa.Table) -> dict[str, object]:
        if not rejects.num_rows:
            return {"rejects": 0, "unreadable": 0}
        name = rejects_part_name(zip(rejects["source"].to_pylist(), rejects["row"].to_pylist(), strict=True))
        self._write(REJECTS, name, rejects)
        reasons = {count["values"]: count["counts"] for count in pc.value_counts(rejects["reason"]).to_pylist()}
        return {
            "rejects_part": name,
            "rejects": rejects.num_rows,
            "reasons": json.dumps(reasons, sort_keys=True),
            "unreadable": count_unreadable(rejects),
        }

    def _write(self, declared: Table, name: str, table: pa.Table) -> int:
        data = encode(table, declared)
        self.lake.storage.write(Part(declared.name, self.options.run_id, name).path, memoryview(data))
        return int(data.size)


def count_unreadable(rejects: pa.Table) -> int:
    """How many rejects stand for a file or a piece. A document that killed its worker has a key, a file has none."""
    broken = pc.equal(rejects["reason"], Reason.UNREADABLE_SHARD.value)
    killed = pc.and_(pc.equal(rejects["reason"], Reason.KILLED_WORKER.value), pc.is_null(rejects["key"]))
    return int(pc.sum(pc.or_(broken, killed)).as_py() or 0)


def _origins(table: pa.Table) -> list[Origin]:
    return list(zip(*(table[name].to_pylist() for name in ("source", "row", "key")), strict=True))
