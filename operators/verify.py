"""Checks a lake against everything it promises, and changes nothing. An empty list of faults means sound.

    run -> ledger, layout -> each documents part -> its tokens part -> doc_ids across parts -> rejects -> totals

Reads every byte once, one part at a time (tokens by row group), with Parquet's page checksums on. doc_ids are compared
across parts in passes over ranges of ids, so memory stays bounded however many documents a run has; the price is one
more read of that column for every 16 million documents.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.identity import doc_id
from operators.lake import PART_TABLES, RUNS_FOLDER, Lake, Part, documents_part_name, rejects_part_name, run_folder
from operators.storage import is_temporary
from operators.write import words
from schemas import CORE, DOCUMENTS, FEATURE_GROUPS, REJECTS, TOKENS, Reason, Table, check_run_id
from schemas.flow import statistic_names
from schemas.tokens import HIDDEN, TOPK

IDS_PER_PASS = 1 << 24

# What Parquet and Arrow raise on bytes that are not what they should be; ArrowInvalid is a ValueError.
_BROKEN = (OSError, ValueError, pa.ArrowException)
_FINITE = ("logprob", "entropy", "logprob_std")
_TOTALS = ("documents", "rejects", "tokens", "scored", "text_bytes")

Int64 = npt.NDArray[np.int64]


class Kind(StrEnum):
    """What is wrong, in one word."""

    LEDGER = "ledger"  # run.json missing or broken
    FOREIGN = "foreign"  # a name that does not fit the layout
    TEMPORARY = "temporary"  # left by a write that did not finish
    ORPHAN = "orphan"  # a tokens part without a receipt
    TWIN = "twin"  # a receipt without its tokens part
    UNREADABLE = "unreadable"
    SCHEMA = "schema"
    VALUE = "value"  # out of range, NULL in a column declared NOT NULL, NaN
    NAME = "name"  # a part that is not named by the digest of what it holds
    ORDER = "order"  # rows out of order, or twice
    DUPLICATE = "duplicate"  # a doc_id in two parts
    IDENTITY = "identity"  # doc_id is not the hash of key
    TEXT = "text"  # counts or digest disagree with the text kept
    COUNT = "count"  # tokens and documents disagree
    NULLS = "nulls"  # statistics that are, or are not, NULL where they should be
    POSITION = "position"
    SPAN = "span"  # token spans do not tile the text
    REASON = "reason"
    TOTAL = "total"


@dataclass(frozen=True)
class Fault:
    """One fault of one run; `where` is a path relative to the lake's root."""

    kind: Kind
    run_id: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.message}"


Finding = tuple[Kind, str]


def verify(lake: Lake, run_id: str | None = None) -> list[Fault]:
    """Every fault of one run, or of all runs and of the layout.

    On a run that is being written, its unfinished parts are reported as orphans or temporary files.

    Raises:
        ValueError: `run_id` cannot be a run id.
    """
    if run_id is not None:
        return list(_run_faults(lake, check_run_id(run_id)))
    faults = [Fault(Kind.FOREIGN, "", where, "not part of a lake's layout") for where in _foreign_folders(lake)]
    run_ids = set(lake.run_ids()).union(*(lake.partitions(table) for table in PART_TABLES))
    for each in sorted(run_ids):
        faults += _run_faults(lake, each)
    return faults


# One run


def _run_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    ledger: dict[str, Any] = {}
    try:
        ledger = lake.read_run(run_id)
    except _BROKEN as error:
        yield Fault(Kind.LEDGER, run_id, f"{RUNS_FOLDER}/{run_id}.json", str(error))
    try:
        yield from _layout_faults(lake, run_id)
    except ValueError as error:  # a folder that leads out of the lake: nothing in it is read
        yield Fault(Kind.FOREIGN, run_id, f"run_id={run_id}", str(error))
        return
    totals: Counter[str] = Counter()
    for part in lake.parts(DOCUMENTS.name, run_id):
        yield from _document_faults(lake, part, _features(ledger), totals)
    yield from _duplicate_faults(lake, run_id, totals["documents"])
    for part in lake.parts(REJECTS.name, run_id):
        yield from _reject_faults(lake, part, totals)
    where = f"{RUNS_FOLDER}/{run_id}.json"
    yield from (Fault(kind, run_id, where, message) for kind, message in _ledger_findings(ledger, run_id, totals))


def _foreign_folders(lake: Lake) -> list[str]:
    """Names in the tables' and runs' folders that belong to no run."""
    foreign = []
    for table in PART_TABLES:
        known = {f"run_id={run_id}/" for run_id in lake.partitions(table)}
        foreign += [f"{table}/{name}" for name in lake.storage.list(table) if name not in known]
    known = {f"{run_id}.json" for run_id in lake.run_ids()}
    ledgers = (name for name in lake.storage.list(RUNS_FOLDER) if not is_temporary(name))
    return foreign + [f"{RUNS_FOLDER}/{name}" for name in ledgers if name not in known]


def _layout_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    for table in PART_TABLES:
        known = {part.path for part in lake.parts(table, run_id)}
        paths = [f"{run_folder(table, run_id)}/{name}" for name in lake.storage.list(run_folder(table, run_id))]
        for path in paths:
            if path not in known and not is_temporary(path.rsplit("/", 1)[1]):
                yield Fault(Kind.FOREIGN, run_id, path, "not a part: expected <32 hexadecimal digits>.parquet")
    for path in lake.temporaries(run_id):
        yield Fault(Kind.TEMPORARY, run_id, path, "left by a write that did not finish")
    for part in lake.orphans(run_id):
        yield Fault(Kind.ORPHAN, run_id, part.path, "a tokens part without a documents part of the same name")


def _ledger_findings(ledger: dict[str, Any], run_id: str, found: Counter[str]) -> Iterator[Finding]:
    if ledger.get("run_id", run_id) != run_id:
        yield Kind.LEDGER, f"is the ledger of run {ledger['run_id']!r}"
    if ledger.get("state") != "finished":
        return  # the totals of a run under way promise nothing
    totals = ledger.get("totals")
    if not isinstance(totals, dict):
        yield Kind.TOTAL, "a finished run without totals"
        return
    for name in _TOTALS:
        if totals.get(name) != found[name]:
            yield Kind.TOTAL, f"{name} is {totals.get(name)}, its parts hold {found[name]}"
    rows_in, verdicts = totals.get("rows_in"), found["documents"] + found["rejects"]
    if rows_in != verdicts:
        yield Kind.TOTAL, f"rows_in is {rows_in}, documents + rejects is {verdicts}"


def _features(ledger: dict[str, Any]) -> list[str] | None:
    """The column groups a run says it keeps; None where its ledger does not say, or names one that does not exist."""
    config = ledger.get("config")
    features = ledger.get("features", config.get("features") if isinstance(config, dict) else None)
    known = isinstance(features, list) and set(features) <= set(FEATURE_GROUPS)
    return features if known else None


def _duplicate_faults(lake: Lake, run_id: str, documents: int) -> Iterator[Fault]:
    passes = max(1, -(-documents // IDS_PER_PASS))
    bounds = np.linspace(0, 2.0**63, passes + 1)
    bounds[-1] = np.inf
    for low, high in pairwise(bounds):
        ids, counts = np.unique(_ids_between(lake, run_id, low, high), return_counts=True)
        for repeated, count in zip(ids[counts > 1], counts[counts > 1], strict=True):
            where = run_folder(DOCUMENTS.name, run_id)
            yield Fault(Kind.DUPLICATE, run_id, where, f"doc_id {repeated} is there {count} times")


def _ids_between(lake: Lake, run_id: str, low: float, high: float) -> Int64:
    found = [np.empty(0, np.int64)]
    for part in lake.parts(DOCUMENTS.name, run_id):
        try:
            with lake.storage.parquet(part.path) as file:
                ids = file.read(columns=["doc_id"])["doc_id"].to_numpy()
        except (*_BROKEN, KeyError):
            continue  # reported with the part
        found.append(ids[(ids >= low) & (ids < high)])
    return np.concatenate(found)


# One part


def _placed(part: Part, findings: Iterable[Finding]) -> Iterator[Fault]:
    """Findings of a part as faults; that it cannot be read is one more."""
    try:
        for kind, message in findings:
            yield Fault(kind, part.run_id, part.path, message)
    except _BROKEN as error:
        yield Fault(Kind.UNREADABLE, part.run_id, part.path, f"{type(error).__name__}: {error}")


def _document_faults(lake: Lake, part: Part, features: list[str] | None, totals: Counter[str]) -> Iterator[Fault]:
    """Faults of a documents part and of its tokens twin; adds to `totals`."""
    tables: list[pa.Table] = []
    yield from _placed(part, _table_findings(lake, DOCUMENTS, part, tables))
    for receipts in tables:
        totals["documents"] += receipts.num_rows
        for total, column in (("tokens", "n_tokens"), ("scored", "n_scored"), ("text_bytes", "n_bytes")):
            totals[total] += pc.sum(receipts[column]).as_py() or 0
        yield from _placed(part, _document_findings(part, receipts))
        twin = Part(TOKENS.name, part.run_id, part.name)
        if lake.storage.exists(twin.path):
            yield from _placed(twin, _token_findings(lake, twin, features, receipts))
        else:
            yield Fault(Kind.TWIN, part.run_id, part.path, f"there is no {twin.path}")


def _reject_faults(lake: Lake, part: Part, totals: Counter[str]) -> Iterator[Fault]:
    tables: list[pa.Table] = []
    yield from _placed(part, _table_findings(lake, REJECTS, part, tables))
    for rejects in tables:
        totals["rejects"] += rejects.num_rows
        yield from _placed(part, _reject_findings(part, rejects))


def _table_findings(lake: Lake, declared: Table, part: Part, tables: list[pa.Table]) -> Iterator[Finding]:
    """Schema, types and ranges of a part; appends its table to `tables` where the schema is the declared one."""
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        faults = _schema_findings(declared, file.schema_arrow, [])
        yield from faults
        if faults:
            return
        table = file.read()
    table.validate(full=True)
    tables.append(table)
    yield from ((Kind.VALUE, message) for message in declared.validate(table))


def _document_findings(part: Part, receipts: pa.Table) -> Iterator[Finding]:
    ids = receipts["doc_id"].to_numpy()
    if documents_part_name(ids) != part.name:
        yield Kind.NAME, f"its doc_ids make the name {documents_part_name(ids)}"
    if np.any(ids[1:] <= ids[:-1]):
        yield Kind.ORDER, "doc_ids do not ascend"
    yield from _row_findings(receipts)


def _reject_findings(part: Part, rejects: pa.Table) -> Iterator[Finding]:
    records = list(zip(rejects["source"].to_pylist(), rejects["row"].to_pylist(), strict=True))
    if rejects_part_name(records) != part.name:
        yield Kind.NAME, f"its records make the name {rejects_part_name(records)}"
    if any(after <= before for before, after in pairwise(records)):
        yield Kind.ORDER, "records do not ascend by source and row"
    unknown = sorted(set(rejects["reason"].to_pylist()) - set(Reason))
    if unknown:
        yield Kind.REASON, f"unknown reasons {unknown}"


def _schema_findings(table: Table, schema: pa.Schema, groups: Iterable[str]) -> list[Finding]:
    expected = table.arrow(groups)
    if schema.equals(expected) and (schema.metadata or {}).get(b"assay.table") == table.name.encode():
        return []
    odd = [f.name for f in schema if f.name not in expected.names or not f.equals(expected.field(f.name))]
    missing = [name for name in expected.names if name not in schema.names]
    return [(Kind.SCHEMA, f"not the schema of {table.name}: missing {missing}, not as declared {odd}")]


def _row_findings(receipts: pa.Table) -> Iterator[Finding]:
    """Each document against its own key and text."""
    wrong: dict[tuple[Kind, str], list[str]] = {}
    names = ("key", "doc_id", "text", "n_bytes", "n_chars", "n_words", "text_sha256")
    for key, identity, text, *stated in zip(*(receipts[name].to_pylist() for name in names), strict=True):
        if key is not None and doc_id(key) != identity:
            wrong.setdefault((Kind.IDENTITY, "doc_id is not the hash of key"), []).append(key)
        if text is None:
            continue
        encoded = text.encode()
        found = [len(encoded), len(text), words(text), hashlib.sha256(encoded).hexdigest()]
        for name, is_stated, is_found in zip(names[3:], stated, found, strict=True):
            if is_stated != is_found:
                wrong.setdefault((Kind.TEXT, f"{name} is not that of the text"), []).append(key)
    for (kind, message), keys in wrong.items():
        yield kind, f"{message} in {len(keys)} documents, first key {keys[0]!r}"


# Tokens


@dataclass(frozen=True)
class _Tokens:
    """What the checks across rows need of a tokens part, an entry a row."""

    doc_id: Int64
    position: npt.NDArray[np.int32]
    byte_start: Int64
    n_bytes: npt.NDArray[np.int16]
    is_scored: npt.NDArray[np.bool_]


def _token_findings(lake: Lake, part: Part, features: list[str] | None, receipts: pa.Table) -> Iterator[Finding]:
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        schema = file.schema_arrow
        groups = _groups_of(schema) if features is None else features
        faults = _schema_findings(TOKENS, schema, groups)
        yield from faults
        if faults:
            return
        pieces = []
        for index in range(file.metadata.num_row_groups):
            rows = file.read_row_group(index)
            rows.validate(full=True)
            yield from _value_findings(rows, groups, f"row group {index}: ")
            pieces.append(_structure(rows))
    if not file.metadata.num_rows:
        yield Kind.COUNT, "no rows"
        return
    tokens = _Tokens(*(np.concatenate([getattr(p, name) for p in pieces]) for name in _Tokens.__dataclass_fields__))
    yield from _structure_findings(tokens, receipts)


def _groups_of(schema: pa.Schema) -> list[str]:
    """The column groups a file has columns of: what a run without a sound ledger is held to."""
    return sorted({c.group for c in TOKENS.columns if c.name in schema.names} - {CORE})


def _value_findings(rows: pa.Table, groups: list[str], where: str) -> Iterator[Finding]:
    """Types, ranges, NaN and NULLs of some rows of a tokens part."""
    yield from ((Kind.VALUE, where + message) for message in TOKENS.validate(rows))
    for name in _FINITE:
        if pc.any(pc.is_inf(rows[name])).as_py():
            yield Kind.VALUE, f"{where}{TOKENS.name}.{name}: infinite"
    first = pc.equal(rows["position"], 0)
    for name in statistic_names(groups):
        if name == HIDDEN:
            continue  # every fed token has a hidden state; `validate` finds its NULLs
        missing = pc.is_null(rows[name])
        # All logits can be equal: then there is no second largest.
        wrong = pc.and_(first, pc.invert(missing)) if name == "logprob_second" else pc.xor(first, missing)
        count = pc.sum(wrong).as_py()
        if count:
            yield Kind.NULLS, f"{where}{name}: {count} rows; NULL belongs at position 0, and nowhere else"
    if TOPK in groups:
        yield from _topk_findings(rows, where)
    if HIDDEN in groups and np.isnan(pc.list_flatten(rows[HIDDEN]).to_numpy()).any():
        yield Kind.VALUE, f"{where}{TOKENS.name}.{HIDDEN}: NaN"


def _topk_findings(rows: pa.Table, where: str) -> Iterator[Finding]:
    lengths = [pc.fill_null(pc.list_value_length(rows[name]), 0) for name in ("topk_id", "topk_logprob")]
    if not lengths[0].equals(lengths[1]):
        yield Kind.COUNT, f"{where}topk_id and topk_logprob are not equally long"
    if any(pc.list_flatten(rows[name]).null_count for name in ("topk_id", "topk_logprob")):
        yield Kind.NULLS, f"{where}NULL inside a top-k list"


def _structure(rows: pa.Table) -> _Tokens:
    return _Tokens(
        doc_id=rows["doc_id"].to_numpy(),
        position=rows["position"].to_numpy(),
        byte_start=rows["byte_start"].to_numpy().astype(np.int64),  # wide enough for the end of any span
        n_bytes=rows["n_bytes"].to_numpy(),
        is_scored=pc.is_valid(rows["logprob"]).to_numpy(),
    )


def _structure_findings(tokens: _Tokens, receipts: pa.Table) -> Iterator[Finding]:
    """Order, positions, spans and counts of a tokens part against its receipt."""
    ids, position = tokens.doc_id, tokens.position
    same = ids[1:] == ids[:-1]
    if np.any((ids[1:] < ids[:-1]) | (same & (position[1:] <= position[:-1]))):
        yield Kind.ORDER, "rows do not ascend by doc_id and position"
        return  # the other checks need each document in one piece
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    lengths = np.diff(np.append(starts, len(ids)))
    yield from _count_findings(tokens, starts, lengths, receipts)
    expected = np.arange(len(ids)) - np.repeat(starts, lengths)
    yield from _wrong_documents(Kind.POSITION, "positions are not 0 to n-1", ids[position != expected])
    ends = tokens.byte_start + tokens.n_bytes
    gaps = np.concatenate([[False], same & (tokens.byte_start[1:] != ends[:-1])])
    gaps[starts] = tokens.byte_start[starts] != 0
    yield from _wrong_documents(Kind.SPAN, "token spans leave gaps or overlap", ids[gaps])
    yield from _end_findings(ids[starts], ends[starts + lengths - 1], receipts)


def _end_findings(found: Int64, ends: Int64, receipts: pa.Table) -> Iterator[Finding]:
    """`found`: the doc_id of each document in a tokens part, `ends`: where its last token ends."""
    _, here, there = np.intersect1d(found, receipts["doc_id"].to_numpy(), return_indices=True)
    wrong = ends[here] != receipts["n_bytes"].to_numpy()[there]
    yield from _wrong_documents(Kind.SPAN, "token spans do not end where the text does", found[here][wrong])


def _count_findings(tokens: _Tokens, starts: Int64, lengths: Int64, receipts: pa.Table) -> Iterator[Finding]:
    found, stated = tokens.doc_id[starts], receipts["doc_id"].to_numpy()
    yield from _wrong_documents(Kind.COUNT, "no tokens", np.setdiff1d(stated, found))
    yield from _wrong_documents(Kind.COUNT, "no row in the documents part", np.setdiff1d(found, stated))
    _, here, there = np.intersect1d(found, stated, return_indices=True)
    scored = np.add.reduceat(tokens.is_scored.astype(np.int64), starts)
    for name, counts in (("n_tokens", lengths), ("n_scored", scored)):
        wrong = counts[here] != receipts[name].to_numpy()[there]
        yield from _wrong_documents(Kind.COUNT, f"{name} is not the number of rows", found[here][wrong])


def _wrong_documents(kind: Kind, message: str, doc_ids: Int64) -> Iterator[Finding]:
    """One finding for all documents that share a fault."""
    unique = np.unique(doc_ids)
    if len(unique):
        yield kind, f"{message} in {len(unique)} documents, first doc_id {unique[0]}"
