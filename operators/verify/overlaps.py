"""Checks overlaps: names, that a finished one has its three tables, and that these agree with each other and its job.

job.json -> overlap_items -> overlap_spans (of those items) -> decontamination (of those documents) -> totals

Tables are read by row group; what is compared across them are ids, eight bytes each.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.identity import doc_id
from operators.lake import (
    PROGRESS_FOLDER,
    Lake,
    overlap_job_path,
    overlap_path,
    overlap_progress,
    overlap_rejects_path,
)
from operators.storage import is_temporary
from operators.verify.faults import Fault, Finding, Int64, Kind, placed_at
from operators.verify.stored import schema_findings
from schemas import DECONTAMINATION, OVERLAP_ITEMS, OVERLAP_SPANS, OVERLAP_TABLES, Table
from schemas.overlaps import check_overlap

_PARTITION = "overlap="
_IN_PROGRESS = re.compile(
    r"job\.json|matches/\d{8}\.parquet|index/(files\.json|\d{4}-\d{6})"
    r"|progress/run_id=(corpus|benchmark)/((shards|units|repeats-\d{8})\.parquet|claims\.json)"
)
_BATCH = 1 << 16
_MISSING = "is missing, though its overlap is finished"


@dataclass
class _Held:
    """What the tables of one overlap hold. `totals`: as the job counts them."""

    items: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    documents: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    totals: Counter[str] = field(default_factory=Counter)


def overlap_faults(lake: Lake) -> Iterator[Fault]:
    """Faults of everything in the folders of overlaps; they belong to no run."""
    names: set[str] = set()
    for table in OVERLAP_TABLES:
        for entry in lake.storage.list(table.name):
            if _is_overlap(entry):
                names.add(entry[:-1].removeprefix(_PARTITION))
            elif (table, entry) != (OVERLAP_ITEMS, f"{PROGRESS_FOLDER}/"):
                yield _foreign(f"{table.name}/{entry}")
    under_way = set()
    for entry in lake.storage.list(f"{OVERLAP_ITEMS.name}/{PROGRESS_FOLDER}"):
        if _is_overlap(entry):
            under_way.add(entry[:-1].removeprefix(_PARTITION))
        else:
            yield _foreign(f"{OVERLAP_ITEMS.name}/{PROGRESS_FOLDER}/{entry}")
    for name in sorted(names):
        yield from _layout_faults(lake, name)
        yield from _faults(lake, name, name in under_way)
    for name in sorted(under_way):
        yield from _progress_faults(lake, name)


def _is_overlap(entry: str) -> bool:
    try:
        check_overlap(entry[:-1].removeprefix(_PARTITION))
    except ValueError:
        return False
    return entry.startswith(_PARTITION) and entry.endswith("/")


def _foreign(where: str) -> Fault:
    return Fault(Kind.FOREIGN, "", where, "not part of a lake's layout")


def _layout_faults(lake: Lake, name: str) -> Iterator[Fault]:
    """Names in the folders of one overlap."""
    known = {overlap_job_path(name), overlap_rejects_path(name), *(overlap_path(t.name, name) for t in OVERLAP_TABLES)}
    for table in OVERLAP_TABLES:
        folder = overlap_path(table.name, name).rpartition("/")[0]
        for entry in lake.storage.list(folder):
            path = f"{folder}/{entry}"
            if is_temporary(entry):
                yield Fault(Kind.TEMPORARY, "", path, "left by a write that did not finish")
            elif path not in known:
                yield _foreign(path)


def _progress_faults(lake: Lake, name: str) -> Iterator[Fault]:
    folder = overlap_progress(name)
    message = "left by an overlap that did not finish: the same `assay overlap` goes on, or clears it"
    yield Fault(Kind.TEMPORARY, "", folder, message)
    for path in sorted(lake.storage.find(folder)):
        inside = path.removeprefix(f"{folder}/")
        if not _IN_PROGRESS.fullmatch(inside) and not is_temporary(inside.rpartition("/")[2]):
            yield Fault(Kind.FOREIGN, "", path, "not a file that an overlap keeps of its progress")


def _faults(lake: Lake, name: str, is_under_way: bool) -> Iterator[Fault]:
    """A finished overlap against its job; of another one only that it is not finished."""
    where = overlap_job_path(name)
    try:
        job = json.loads(lake.storage.read(where))
        totals = dict(job["totals"])
    except FileNotFoundError:
        if not is_under_way:  # said of its progress otherwise
            yield Fault(Kind.LEDGER, "", where, "is missing: the tables beside it are of an overlap that never ended")
        return
    except (ValueError, KeyError, TypeError) as error:
        yield Fault(Kind.LEDGER, "", where, f"is no job of an overlap: {type(error).__name__}: {error}")
        return
    if job.get("overlap") != name:
        yield Fault(Kind.LEDGER, "", where, f"is the job of overlap {job.get('overlap')!r}")
    held, n_faults = _Held(), 0
    for declared, findings in _CHECKS:
        path = overlap_path(declared.name, name)
        for fault in placed_at(lake, path, _table_findings(lake, path, declared, findings, held), missing=_MISSING):
            n_faults += 1
            yield fault
    if not n_faults:
        yield from placed_at(lake, where, _total_findings(totals, held))
    if lake.storage.exists(rejects := overlap_rejects_path(name)):
        yield from placed_at(lake, rejects, _reject_findings(lake, rejects, totals))


Check = Callable[[pa.Table, _Held], Iterable[Finding]]


def _table_findings(lake: Lake, path: str, declared: Table, check: Check, held: _Held) -> Iterator[Finding]:
    """Schema, values and order of a table, and what `check` finds in each of its batches; a finding is told once."""
    told: set[Finding] = set()
    with lake.storage.parquet(path, verify_checksums=True) as file:
        faults = schema_findings(declared, file.schema_arrow, ())
        yield from faults
        if faults:
            return
        last: tuple[Any, ...] | None = None
        for batch in file.iter_batches(batch_size=_BATCH):
            rows = pa.Table.from_batches([batch])
            rows.validate(full=True)
            found = [(Kind.VALUE, message) for message in declared.validate(rows)]
            keys = list(zip(*(rows[name].to_pylist() for name in declared.sorted_by), strict=True))
            ordered = [*([] if last is None else [last]), *keys]
            if any(a >= b for a, b in pairwise(ordered)):
                found.append((Kind.ORDER, "rows are out of order, or there twice"))
            last = ordered[-1] if ordered else None
            held.totals[declared.name] += len(rows)
            for finding in [*found, *check(rows, held)]:
                if finding not in told:
                    told.add(finding)
                    yield finding


def _item_findings(rows: pa.Table, held: _Held) -> Iterator[Finding]:
    yield from _identity(rows, "item_id")
    seen, grams = rows["n_seen"].to_numpy(), rows["n_ngrams"].to_numpy()
    shares = rows["share_seen"].to_numpy(zero_copy_only=False)
    if np.any(seen > grams):
        yield Kind.COUNT, "more n-grams are seen than there are"
    if np.any((seen > 0) & (np.minimum(rows["longest_match"].to_numpy(), rows["n_documents"].to_numpy()) == 0)):
        yield Kind.COUNT, "n-grams are seen, but no match is, or no document"
    with np.errstate(invalid="ignore"):
        expected = np.where(grams > 0, seen / np.maximum(grams, 1), np.nan)
    if not np.array_equal(shares, expected, equal_nan=True):
        yield Kind.VALUE, "share_seen is not n_seen / n_ngrams, or not NULL where there are none"
    whole = rows.filter(pc.equal(rows["part"], "all"))
    held.items = np.union1d(held.items, whole["item_id"].to_numpy())
    held.totals["items"] += len(whole)
    if set(pc.unique(rows["part"]).to_pylist()) - {"input", "answer", "across", "all"}:
        yield Kind.VALUE, "a part that is none of input, answer, across and all"


def _span_findings(rows: pa.Table, held: _Held) -> Iterator[Finding]:
    yield from _identity(rows, "doc_id")
    if not pc.all(pc.equal(pc.binary_length(rows["text"]), rows["n_bytes"])).as_py() and len(rows):
        yield Kind.SPAN, "n_bytes is not the length of the text"
    if len(rows) and not np.all(np.isin(rows["item_id"].to_numpy(), held.items)):
        yield Kind.IDENTITY, "a match of an item that overlap_items does not have"
    held.documents = np.union1d(held.documents, rows["doc_id"].to_numpy())


def _cut_findings(rows: pa.Table, held: _Held) -> Iterator[Finding]:
    yield from _identity(rows, "doc_id")
    ids, start, size = (rows[name].to_numpy() for name in ("doc_id", "byte_start", "n_bytes"))
    if np.any(start + size > rows["document_bytes"].to_numpy()):
        yield Kind.SPAN, "a stretch ends after its document"
    if np.any((ids[1:] == ids[:-1]) & (start[1:] < (start + size)[:-1])):
        yield Kind.SPAN, "stretches of a document overlap"
    held.documents = np.setdiff1d(held.documents, ids)  # left at the end: documents with a match and nothing to cut


def _identity(rows: pa.Table, column: str) -> Iterator[Finding]:
    found: npt.NDArray[np.int64] = np.array([doc_id(key) for key in rows["key"].to_pylist()], np.int64)
    if not np.array_equal(found, rows[column].to_numpy()):
        yield Kind.IDENTITY, f"{column} is not the hash of key"


def _total_findings(totals: dict[str, Any], held: _Held) -> Iterator[Finding]:
    if len(held.documents):
        yield Kind.COUNT, f"{len(held.documents)} documents have a match and nothing to cut"
    counted = {"items": "items", "spans": OVERLAP_SPANS.name, "cuts": DECONTAMINATION.name}
    for name, found in counted.items():
        if totals.get(name) != held.totals[found]:
            yield Kind.TOTAL, f"{name} is {totals.get(name)}, the tables hold {held.totals[found]}"
    rows_in, verdicts = totals.get("rows_in"), totals.get("documents", 0) + totals.get("rejects", 0)
    if rows_in != verdicts:
        yield Kind.TOTAL, f"rows_in is {rows_in}, documents + rejects is {verdicts}"


def _reject_findings(lake: Lake, path: str, totals: dict[str, Any]) -> Iterator[Finding]:
    with lake.storage.parquet(path, verify_checksums=True) as file:
        found = sum(len(batch) for batch in file.iter_batches(columns=["reason"]))
    expected = totals.get("rejects", 0) + totals.get("items_rejected", 0)
    if found != expected:
        yield Kind.TOTAL, f"{expected} records were rejected, {found} are listed"


_CHECKS: tuple[tuple[Table, Check], ...] = (
    (OVERLAP_ITEMS, _item_findings),
    (OVERLAP_SPANS, _span_findings),
    (DECONTAMINATION, _cut_findings),
)
