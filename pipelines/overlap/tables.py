"""Adds up the receipts of an overlap and writes its tables, each whole, in the order that the schema declares.

    receipts in unit order -> totals of items -----------------------------------> overlap_items
                           -> matches, cuts -> ranges of doc_id on this machine -> overlap_spans, decontamination
                           -> rejects -------------------------------------------> rejects.parquet

Memory: eight receipts as they are stored, the matches of a block, a million rows that are sorted, and the totals of the
items. Disk of this machine: the rows of both tables, uncompressed, and a table on its way to the lake.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake, overlap_path, overlap_rejects_path
from operators.overlap import Matches, Totals
from pipelines.overlap.receipts import REJECTED, Receipt, read_receipts
from pipelines.score import RunError
from schemas import DECONTAMINATION, OVERLAP_ITEMS, OVERLAP_SPANS, Table
from schemas.rejects import Reason

_RANGE_BITS = 57  # of a 63-bit doc_id: what is left above them makes 64 ranges
_ROWS_AT_ONCE = 1 << 20  # sorted in memory
_ROW_GROUP = 1 << 16
_OF_MATCHES = ("spans", "cuts", "cut_bytes", "dropped_documents")


class SortedRows:
    """Rows of one table that come in any order of documents, given back in the order that the table declares.

    They lie in files of `folder` meanwhile, a file a range of doc_id.
    """

    def __init__(self, folder: Path, declared: Table) -> None:
        self.folder, self.declared = folder, declared
        self._held, self._n_held = [declared.arrow().empty_table()], 0
        self._writers: dict[int, Any] = {}
        self._stack = ExitStack()

    def add(self, rows: pa.Table) -> None:
        self._held.append(rows)
        self._n_held += len(rows)
        if self._n_held >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        rows = pa.concat_tables(self._held).sort_by("doc_id")
        self._held, self._n_held = [rows.slice(0, 0)], 0
        ranges = rows["doc_id"].to_numpy() >> _RANGE_BITS
        for number in np.unique(ranges).tolist():
            start, stop = np.searchsorted(ranges, [number, number + 1]).tolist()
            self._writer(number).write_table(rows.slice(start, stop - start))

    def __iter__(self) -> Iterator[pa.Table]:
        self._flush()
        self._stack.close()
        order = [(name, "ascending") for name in self.declared.sorted_by]
        for number in sorted(self._writers):
            with pa.memory_map(str(self._path(number))) as file, pa.ipc.open_stream(file) as reader:
                rows = reader.read_all()
            ids = rows["doc_id"].to_numpy()
            bounds = np.unique(np.sort(ids)[::_ROWS_AT_ONCE])
            for start, stop in zip(bounds, [*bounds[1:], None], strict=True):
                chosen = (ids >= start) & (True if stop is None else ids < stop)
                yield (rows.filter(pa.array(chosen)) if len(bounds) > 1 else rows).sort_by(order)

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            writer = pa.ipc.new_stream(str(self._path(number)), self.declared.arrow())
            self._writers[number] = self._stack.enter_context(writer)
        return self._writers[number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.declared.name}-{number:02d}.arrow"


@dataclass
class Tally:
    """Rejects by reason, and of each reason the first with its place."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, rejected: pa.Table) -> None:
        """Add rows of schema `REJECTED`."""
        tallied = rejected.group_by("reason", use_threads=False).aggregate([("reason", "count")])
        self.reasons.update(dict(zip(*(tallied[name].to_pylist() for name in ("reason", "reason_count")), strict=True)))
        for reason in set(tallied["reason"].to_pylist()) - self.first.keys():
            row = rejected.slice(pc.index(rejected["reason"], reason).as_py(), 1).to_pylist()[0]
            place = row["source"] if row["row"] < 0 else f"{row['source']}#{row['row']}"
            self.first[reason] = f"{place}: {row['detail'] or reason}"

    @property
    def said(self) -> str:
        """In one line: how many of which reason, and the first of each."""
        each = (f"{n:,} {reason}, the first {self.first[reason]}" for reason, n in sorted(self.reasons.items()))
        return "; ".join(each)

    def to_json(self) -> dict[str, dict[str, Any]]:
        return {reason: {"n": n, "first": self.first[reason]} for reason, n in sorted(self.reasons.items())}


@dataclass
class Added:
    """What the receipts come to, apart from the tables; and the rejects of either side."""

    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_OF_MATCHES, 0)))
    corpus: Tally = field(default_factory=Tally)
    benchmark: Tally = field(default_factory=Tally)

    def add(self, receipt: Receipt) -> None:
        """Add a unit, without its matches."""
        self.counts.update(receipt.counts)
        self.corpus.add(receipt.rejected)

    def add_matches(self, matches: Matches) -> None:
        """Add the matches of a block."""
        cuts = matches.cuts
        dropped = pc.unique(cuts["doc_id"].filter(cuts["drop_document"]))
        found = (len(matches.spans), len(cuts), pc.sum(cuts["n_bytes"]).as_py() or 0, len(dropped))
        self.counts.update(dict(zip(_OF_MATCHES, found, strict=True)))


def write_tables(
    lake: Lake, scratch: Lake, name: str, n_units: int, totals: Totals, rejected: pa.Table, folder: Path
) -> Added:
    """Write the three tables and the rejects of an overlap, from the receipts of units 0 to `n_units` - 1.

    Args:
        totals: fresh ones of the benchmark's index.
        rejected: those of the benchmark.
        folder: an empty one of this machine, for what is put in order.

    Raises:
        RunError: a receipt is damaged; it is dropped, so that its unit is compared again next time.
        NothingReadError: no document of the corpus could be read; nothing is written then.
    """
    added = Added()
    added.benchmark.add(rejected)
    spans, cuts = SortedRows(folder, OVERLAP_SPANS), SortedRows(folder, DECONTAMINATION)
    rejects = folder / "rejects.parquet"
    with pq.ParquetWriter(rejects, REJECTED, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(rejected)
        n_blocks = itertools.count()
        for receipt in read_receipts(scratch, n_units):
            added.add(receipt)
            for matches in receipt.blocks():
                added.add_matches(matches)
                totals.add(next(n_blocks), matches)
                spans.add(matches.spans)
                cuts.add(matches.cuts)
            if len(receipt.rejected):
                writer.write_table(receipt.rejected)
    _check(added)
    for rows in (spans, cuts):
        _write(lake, name, rows.declared, rows, folder)
    if len(rejected) or added.counts["rejects"]:
        lake.storage.write_file(overlap_rejects_path(name), rejects)
    _write(lake, name, OVERLAP_ITEMS, totals.overlaps(), folder)
    return added


def _check(added: Added) -> None:
    counts = added.counts
    if counts["rows_in"] != counts["documents"] + counts["rejects"]:
        raise RunError(
            f"{counts['rows_in']:,} records were read, but {counts['documents']:,} documents and "
            f"{counts['rejects']:,} rejects came out: report this as a defect"
        )
    if not counts["documents"]:
        said = added.corpus.said or "the corpus holds no record"
        is_column = Reason.MISSING_TEXT.value in said
        hint = "; --corpus-text-column says which column holds the text" if is_column else ""
        raise NothingReadError(f"no document was compared; {said}{hint}")


class NothingReadError(RunError):
    """The corpus has no document that could be compared: another command is needed, there is nothing to resume."""


def _write(lake: Lake, name: str, declared: Table, tables: Iterable[pa.Table], folder: Path) -> None:
    path, schema = folder / f"{declared.name}.parquet", declared.arrow()
    order = pq.SortingColumn.from_ordering(schema, [(column, "ascending") for column in declared.sorted_by])
    how = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True, "sorting_columns": order}
    with pq.ParquetWriter(path, schema, **how) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
    lake.storage.write_file(overlap_path(declared.name, name), path)
