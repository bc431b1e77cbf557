"""Checks tokens parts: values and NULLs by row group, then order, spans, counts and roll-ups against the receipt.

Shapes: `T` rows of the part, `D` documents in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, Part
from operators.verify.faults import Finding, Int64, Kind, wrong_documents
from operators.verify.layout import Expected
from operators.verify.rolled_up import COLUMNS, rollup_findings
from operators.verify.stored import schema_findings
from schemas import DOCUMENTS, TOKENS
from schemas.columns import COMMENTS, PROMPT
from schemas.documents import ROLLUPS
from schemas.flow import statistic_names
from schemas.tokens import HIDDEN, TOPK

_FINITE = ("logprob", "entropy", "logprob_std")

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Tokens:
    """What the checks across rows need of a tokens part, `[T]` each; `in_prompt` is false in runs without prompts.

    `in_comment`: 1, 0, or -1 for NULL, as everywhere in runs that are not on code.
    """

    doc_id: Int64
    position: npt.NDArray[np.int32]
    byte_start: Int64
    n_bytes: npt.NDArray[np.int16]
    is_scored: Flags
    in_prompt: Flags
    in_comment: npt.NDArray[np.int8]

    @property
    def ends(self) -> Int64:
        return self.byte_start + self.n_bytes


def token_findings(lake: Lake, part: Part, expected: Expected, receipts: pa.Table) -> Iterator[Finding]:
    """Findings of a tokens part beside its receipt."""
    has_rollups = set(receipts.column_names).issuperset(c.name for c in DOCUMENTS.group(ROLLUPS))
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        schema = file.schema_arrow
        groups = expected.tokens(schema, receipts.schema)
        faults = schema_findings(TOKENS, schema, groups)
        yield from faults
        if faults:
            return
        pieces, rolled_up = [], []
        for index in range(file.metadata.num_row_groups):
            rows = file.read_row_group(index)
            rows.validate(full=True)
            yield from _value_findings(rows, groups, f"row group {index}: ", scores_first=expected.scores_first)
            pieces.append(_structure(rows))
            rolled_up += [rows.select(COLUMNS)] if has_rollups else []
    if not file.metadata.num_rows:
        yield Kind.COUNT, "no rows"
        return
    tokens = _Tokens(*(np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(_Tokens)))
    yield from _structure_findings(tokens, receipts, rolled_up, groups, from_start=expected.from_start)


def _value_findings(
    rows: pa.Table, groups: list[str], where: str, *, scores_first: bool | None = False
) -> Iterator[Finding]:
    """Types, ranges, NaN and NULLs of some rows of a tokens part."""
    yield from ((Kind.VALUE, where + message) for message in TOKENS.validate(rows))
    for name in _FINITE:
        if pc.any(pc.is_inf(rows[name])).as_py():
            yield Kind.VALUE, f"{where}{TOKENS.name}.{name}: infinite"
    first = _unscored(rows, scores_first)
    place = "at position 0, and nowhere else" if pc.any(first).as_py() else "nowhere in these rows"
    for name in statistic_names(groups):
        if name == HIDDEN or name not in rows.column_names:
            continue  # every fed token has a hidden state: `validate` finds its NULLs; old parts lack later columns
        missing = pc.is_null(rows[name])
        # All logits can be equal: then there is no second largest.
        wrong = pc.and_(first, pc.invert(missing)) if name == "logprob_second" else pc.xor(first, missing)
        count = pc.sum(wrong).as_py()
        if count:
            yield Kind.NULLS, f"{where}{name}: {count} rows; NULL belongs {place}"
    if TOPK in groups:
        yield from _topk_findings(rows, where)
    if HIDDEN in groups and np.isnan(pc.list_flatten(rows[HIDDEN]).to_numpy()).any():
        yield Kind.VALUE, f"{where}{TOKENS.name}.{HIDDEN}: NaN"


def _unscored(rows: pa.Table, scores_first: bool | None) -> pa.ChunkedArray:
    """Which rows have no prediction: a document's first token, unless a prefix was fed. None: as the rows have it."""
    at_start = pc.equal(rows["position"], 0)
    if scores_first is None:
        scores_first = pc.any(pc.and_(at_start, pc.is_valid(rows["logprob"]))).as_py()
    return pc.and_(at_start, not scores_first)


def _topk_findings(rows: pa.Table, where: str) -> Iterator[Finding]:
    lengths = [pc.fill_null(pc.list_value_length(rows[name]), 0) for name in ("topk_id", "topk_logprob")]
    if not lengths[0].equals(lengths[1]):
        yield Kind.COUNT, f"{where}topk_id and topk_logprob are not equally long"
    if any(pc.list_flatten(rows[name]).null_count for name in ("topk_id", "topk_logprob")):
        yield Kind.NULLS, f"{where}NULL inside a top-k list"


def _structure(rows: pa.Table) -> _Tokens:
    has_prompt, on_code = ("in_prompt" in rows.column_names, "in_comment" in rows.column_names)
    return _Tokens(
        doc_id=rows["doc_id"].to_numpy(),
        position=rows["position"].to_numpy(),
        byte_start=rows["byte_start"].to_numpy().astype(np.int64),  # wide enough for the end of any span
        n_bytes=rows["n_bytes"].to_numpy(),
        is_scored=pc.is_valid(rows["logprob"]).to_numpy(),
        in_prompt=rows["in_prompt"].to_numpy() if has_prompt else np.zeros(len(rows), np.bool_),
        in_comment=_codes(rows["in_comment"]) if on_code else np.full(len(rows), -1, np.int8),
    )


def _codes(flags: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    return np.asarray(flags.cast(pa.int8()).fill_null(-1).to_numpy())


def _structure_findings(
    tokens: _Tokens,
    receipts: pa.Table,
    rolled_up: list[pa.Table],
    groups: list[str],
    *,
    from_start: bool | None = True,
) -> Iterator[Finding]:
    """Order, positions, spans, counts and roll-ups of a tokens part against its receipt.

    `rolled_up`: the statistics behind the roll-ups by row group, empty where the receipt has none. `from_start`: spans
    begin where the text does; False and None: perhaps behind an offset.
    """
    ids, position = tokens.doc_id, tokens.position
    same = ids[1:] == ids[:-1]
    if np.any((ids[1:] < ids[:-1]) | (same & (position[1:] <= position[:-1]))):
        yield Kind.ORDER, "rows do not ascend by doc_id and position"
        return  # the other checks need each document in one piece
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    lengths = np.diff(np.append(starts, len(ids)))
    yield from _count_findings(tokens, starts, lengths, receipts, groups)
    expected = np.arange(len(ids)) - np.repeat(starts, lengths)
    yield from wrong_documents(Kind.POSITION, "positions are not 0 to n-1", ids[position != expected])
    gaps = np.concatenate([[False], same & (tokens.byte_start[1:] != tokens.ends[:-1])])
    gaps[starts] = tokens.byte_start[starts] != 0 if from_start else tokens.byte_start[starts] < 0
    yield from wrong_documents(Kind.SPAN, "token spans leave gaps or overlap", ids[gaps])
    yield from _end_findings(ids[starts], tokens.ends[starts + lengths - 1], receipts)
    if PROMPT in groups:
        yield from _prompt_findings(tokens, ids[starts], lengths, receipts)
    if COMMENTS in groups:
        yield from _comment_findings(tokens, starts)
    if rolled_up:
        yield from rollup_findings(pa.concat_tables(rolled_up), receipts)


def _end_findings(found: Int64, ends: Int64, receipts: pa.Table) -> Iterator[Finding]:
    """`found`: the doc_id of each document in a tokens part `[D]`, `ends`: where its last token ends `[D]`."""
    _, here, there = np.intersect1d(found, receipts["doc_id"].to_numpy(), return_indices=True)
    wrong = ends[here] != receipts["n_bytes"].to_numpy()[there]
    yield from wrong_documents(Kind.SPAN, "token spans do not end where the text does", found[here][wrong])


def _prompt_findings(tokens: _Tokens, found: Int64, lengths: Int64, receipts: pa.Table) -> Iterator[Finding]:
    _, here, there = np.intersect1d(found, receipts["doc_id"].to_numpy(), return_indices=True)
    borders = np.full(len(found), -1, np.int64)  # of a document without a receipt, reported as such
    borders[here] = receipts["prompt_bytes"].to_numpy()[there]
    border = np.repeat(borders, lengths)
    inside = (border > 0) & (tokens.ends <= border)
    wrong = (border >= 0) & (inside != tokens.in_prompt)
    yield from wrong_documents(Kind.PROMPT, "in_prompt is not what spans and prompt_bytes say", tokens.doc_id[wrong])


def _comment_findings(tokens: _Tokens, starts: Int64) -> Iterator[Finding]:
    """The flags are not made again from the text: lexers change, and what they said at the time of the run stands."""
    flags, ids = tokens.in_comment, tokens.doc_id
    lowest, highest = np.minimum.reduceat(flags, starts), np.maximum.reduceat(flags, starts)
    mixed = (lowest < 0) & (highest >= 0)
    yield from wrong_documents(Kind.NULLS, "in_comment is NULL for a part of the tokens", ids[starts][mixed])
    empty = (flags > 0) & (tokens.n_bytes == 0)
    yield from wrong_documents(Kind.COMMENT, "tokens of no bytes lie in a comment", ids[empty])


def _count_findings(
    tokens: _Tokens, starts: Int64, lengths: Int64, receipts: pa.Table, groups: list[str]
) -> Iterator[Finding]:
    found, stated = tokens.doc_id[starts], receipts["doc_id"].to_numpy()
    yield from wrong_documents(Kind.COUNT, "no tokens", np.setdiff1d(stated, found))
    yield from wrong_documents(Kind.COUNT, "no row in the documents part", np.setdiff1d(found, stated))
    _, here, there = np.intersect1d(found, stated, return_indices=True)
    counts = {"n_tokens": lengths, "n_scored": np.add.reduceat(tokens.is_scored.astype(np.int64), starts)}
    if PROMPT in groups:
        counts["prompt_tokens"] = np.add.reduceat(tokens.in_prompt.astype(np.int64), starts)
    if COMMENTS in groups:
        unknown = np.minimum.reduceat(tokens.in_comment, starts) < 0
        counts["comment_tokens"] = np.where(unknown, -1, np.add.reduceat(tokens.in_comment.astype(np.int64), starts))
    for name, count in counts.items():
        wrong = count[here] != receipts[name].fill_null(-1).to_numpy()[there]
        yield from wrong_documents(Kind.COUNT, f"{name} is not the number of rows", found[here][wrong])
