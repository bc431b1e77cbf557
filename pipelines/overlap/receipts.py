"""The receipts of an overlap: what one unit of the corpus came to, whole or not there, so that it counts once.

    <scratch>/matches/<8 digits>.parquet     one unit: counts, the matches of each of its blocks, rejects

A unit is done when its receipt is there. Written again, by a retry or by a second worker, it has the same name and
holds the same. One object a unit: a thousand are listed in a request, and each is read once, at the end. Matches stay
packed, block by block: a corpus that quotes a benchmark everywhere has more bytes of matches than of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake
from operators.overlap import Matches
from operators.storage import ObjectError
from operators.write import count_unreadable
from pipelines.score import RunError

COUNTS = ("rows_in", "documents", "rejects", "unreadable", "text_bytes", "hit_documents", "common")
REJECTED = pa.schema(
    [
        pa.field("side", pa.string(), nullable=False),  # corpus or benchmark
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # -1 for the file as a whole
        pa.field("key", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
    ]
)
RECEIPT = pa.schema(
    [
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        pa.field("matches", pa.large_list(pa.large_binary()), nullable=False),  # as `Matches.encode` gives them
        pa.field("rejected", pa.large_list(pa.struct(list(REJECTED))), nullable=False),
    ]
)
_READERS = 8  # receipts in flight: what an object store takes to answer is mostly waiting
_FOLDER, _NAME = "matches", re.compile(r"(\d{8})\.parquet")


class Receipt(NamedTuple):
    """What a unit, or a block of one, came to. `matches`: of each block that has some. `rejected`: of `REJECTED`."""

    counts: dict[str, int]
    matches: tuple[pa.Buffer, ...]
    rejected: pa.Table

    def blocks(self) -> Iterator[Matches]:
        """The matches, a block at a time; no document is in two."""
        yield from map(Matches.decode, self.matches)

    def row(self) -> pa.Table:
        """As one row of `RECEIPT`."""
        rejects = self.rejected.combine_chunks().to_struct_array().combine_chunks()
        columns = [pa.array([self.counts[name]], pa.int64()) for name in COUNTS]
        packed = pa.array([memoryview(each) for each in self.matches], pa.large_binary())
        columns.append(pa.LargeListArray.from_arrays([0, len(packed)], packed))
        columns.append(pa.LargeListArray.from_arrays([0, len(rejects)], rejects))
        return pa.table([c.cast(f.type) for c, f in zip(columns, RECEIPT, strict=True)], schema=RECEIPT)


def receipt(block: pa.Table, matches: Matches, side: str) -> Receipt:
    """What came of a block of schema `flow.READ`."""
    left = block.filter(pc.is_valid(block["reason"]))
    rejected = pa.concat_tables([rejected_rows(left, side), rejected_rows(matches.refused, side)])
    counts = {
        "rows_in": len(block),
        "documents": matches.counts.documents,
        "rejects": len(rejected),
        "unreadable": count_unreadable(left),
        "text_bytes": matches.counts.n_bytes,
        "hit_documents": matches.counts.hit_documents,
        "common": matches.counts.n_common,
    }
    return Receipt(counts, (matches.encode(),) if matches.counts.hit_documents else (), rejected)


def rejected_rows(left: pa.Table, side: str) -> pa.Table:
    """Rejected records, with the columns of `rejects` at least, as `REJECTED`."""
    columns = [pa.repeat(side, len(left)), *(left[name] for name in REJECTED.names[1:])]
    return pa.table(columns, names=REJECTED.names).cast(REJECTED)


def of_unit(each: Sequence[Receipt]) -> Receipt:
    """The receipt of a unit from those of its blocks."""
    counts = {name: sum(one.counts[name] for one in each) for name in COUNTS}
    rejected = pa.concat_tables([REJECTED.empty_table(), *(one.rejected for one in each)])
    return Receipt(counts, tuple(packed for one in each for packed in one.matches), rejected)


def write_receipt(scratch: Lake, unit: int, made: Receipt) -> None:
    """Keep what came of a unit, whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(made.row(), sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    scratch.storage.write(receipt_path(unit), memoryview(sink.getvalue()))


def read_receipts(scratch: Lake, n_units: int) -> Iterator[Receipt]:
    """What the units 0 to `n_units` - 1 came to, in this order; a few are fetched ahead.

    Raises:
        RunError: a receipt is damaged; it is dropped, so that its unit is compared again next time.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, n_units, _READERS):
            yield from pool.map(lambda unit: _read(scratch, unit), range(start, min(start + _READERS, n_units)))


def _read(scratch: Lake, unit: int) -> Receipt:
    path = receipt_path(unit)
    try:
        data = scratch.storage.read(path)  # whole: one request, where ranges would be three
        rows = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        return _of_row(rows.cast(RECEIPT))
    except ObjectError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException):
        scratch.storage.delete(path)
        where = scratch.storage.uri(path)
        raise RunError(f"{where} is damaged and was dropped: repeat the command, its unit is compared again") from None


def _of_row(row: pa.Table) -> Receipt:
    """`Receipt.row` read again."""
    counts = {name: row[name][0].as_py() for name in COUNTS}
    rejected = pa.Table.from_struct_array(row["rejected"][0].values).cast(REJECTED)
    return Receipt(counts, tuple(packed.as_buffer() for packed in row["matches"][0].values), rejected)


def finished_units(scratch: Lake) -> frozenset[int]:
    """The units that have a receipt."""
    names = (_NAME.fullmatch(name) for name in scratch.storage.list(_FOLDER))
    return frozenset(int(match[1]) for match in names if match)


def receipt_path(unit: int) -> str:
    """Where the receipt of a unit lies in the scratch lake."""
    return f"{_FOLDER}/{unit:08d}.parquet"
