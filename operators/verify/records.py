"""Checks across the parts of a run that nothing is there twice: no doc_id, and no input record.

    parts -> hashes in passes over their range -> those that occur twice -> the rows behind them, by name

A doc_id is a hash already; a record is one of its source and row. Hashes spread evenly, so a pass over a part of their
range holds its share of the rows. Two records of one hash are compared themselves before they are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from operators.lake import Lake, Part, run_folder
from operators.verify.faults import Fault, Int64, Kind
from schemas import DOCUMENTS

HASHES_PER_PASS = 1 << 24
MAX_NAMED = 100  # reported one by one in a pass; more are counted

Read = Callable[[Part], Int64]


def repeated_documents(lake: Lake, run_id: str, parts: list[Part], n_rows: int) -> Iterator[Fault]:
    """The doc_ids that more than one row of the documents `parts` of a run has; `n_rows`: of all of them."""

    def ids(part: Part) -> Int64:
        return np.asarray(_columns(lake, part, "doc_id")["doc_id"].to_numpy(), np.int64)

    where = run_folder(DOCUMENTS.name, run_id)
    for repeated, counts in _repeats(parts, n_rows, ids):
        for value, count in zip(repeated[:MAX_NAMED], counts, strict=False):
            yield Fault(Kind.DUPLICATE, run_id, where, f"doc_id {value} is there {count} times")
        if len(repeated) > MAX_NAMED:
            message = f"{len(repeated) - MAX_NAMED} more doc_ids are there more than once"
            yield Fault(Kind.DUPLICATE, run_id, where, message)


def repeated_records(lake: Lake, run_id: str, parts: list[Part], n_rows: int) -> Iterator[Fault]:
    """The records that more than one row of the documents and rejects `parts` of a run claims."""

    def hashes(part: Part) -> Int64:
        return record_hashes(_columns(lake, part, "source", "row"))

    for repeated, _ in _repeats(parts, n_rows, hashes):
        yield from _named(lake, parts, repeated[:MAX_NAMED])
        if len(repeated) > MAX_NAMED:
            message = f"about {len(repeated) - MAX_NAMED} more records have more than one verdict"
            yield Fault(Kind.RECORD, run_id, run_folder(DOCUMENTS.name, run_id), message)


def _named(lake: Lake, parts: list[Part], hashes: Int64) -> Iterator[Fault]:
    """Read the rows of these hashes, and report the records that really are the same."""
    if not len(hashes):
        return
    verdicts: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for part in parts:
        rows = _columns(lake, part, "source", "row")
        rows = rows.filter(pa.array(np.isin(record_hashes(rows), hashes)))
        for record in zip(rows["source"].to_pylist(), rows["row"].to_pylist(), strict=True):
            verdicts[record].append(part)
    for (source, row), holders in verdicts.items():
        if len(holders) > 1:
            others = ", ".join(sorted({part.path for part in holders[:-1]})[:3])
            message = f"record {row} of {source!r} has {len(holders)} verdicts, also in {others}"
            yield Fault(Kind.RECORD, holders[-1].run_id, holders[-1].path, message)


def record_hashes(rows: pa.Table) -> Int64:
    """63-bit hash of the columns `source` and `row`, an entry a row."""
    if not rows.num_rows:
        return np.empty(0, np.int64)
    sources = rows["source"].combine_chunks().dictionary_encode()  # a part has few: each is hashed once
    digests = [xxh3_64_intdigest(source.encode()) for source in sources.dictionary.to_pylist()]
    source_hash = np.array(digests, np.uint64)[sources.indices.to_numpy()]
    mixed = _mixed(source_hash ^ _mixed(rows["row"].to_numpy().astype(np.uint64)))
    return (mixed >> np.uint64(1)).astype(np.int64)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): a bijection in which every bit moves all others."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _repeats(parts: list[Part], n_rows: int, read: Read) -> Iterator[tuple[Int64, Int64]]:
    """For each pass, the hashes of `read` that occur more than once in all `parts`, and how often."""
    passes = max(1, -(-n_rows // HASHES_PER_PASS))
    bounds = np.linspace(0, 2.0**63, passes + 1)
    bounds[0], bounds[-1] = -np.inf, np.inf
    for low, high in pairwise(bounds):
        held = [np.empty(0, np.int64)]
        for part in parts:
            hashes = read(part)
            held.append(hashes[(hashes >= low) & (hashes < high)])
        values, counts = np.unique(np.concatenate(held), return_counts=True)
        yield values[counts > 1], counts[counts > 1]


def _columns(lake: Lake, part: Part, *names: str) -> pa.Table:
    with lake.storage.parquet(part.path) as file:
        return file.read(columns=list(names))
