"""The pass before scoring, where a run needs one: rows of cut JSON Lines files, and records whose id is not their own.

    units with a cut JSON Lines file --> lines of each piece --> first_row of each piece
    all units, if ids are given -------> keys of each record --> the first in input order has it; the others are repeats

Only newlines and the id column are read. What is found is kept beside the run's journal, so a resumed run reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, progress_folder
from operators.pieces import count_lines
from operators.read import ReadOptions, read_keys
from pipelines.journal import read_table, write_table
from pipelines.units import Unit
from schemas.rejects import Reason

ROWS_PER_FILE = 1 << 20
LINES = pa.schema([(name, pa.int64()) for name in ("unit", "piece", "lines")])
STORED_REPEATS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("is_collision", pa.bool_(), nullable=False),
        pa.field("first_source", pa.string(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
    ]
)
Repeats = dict[tuple[str, int], tuple[Reason, str]]


class LinesStep:
    """unit -> how many lines begin in each piece of it that is cut out of a JSON Lines file."""

    def __init__(self, storage_options: Mapping[str, Any] | None) -> None:
        self.storage_options = storage_options

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        counts = [
            {"unit": unit.index, "piece": place, "lines": count_lines(piece, self.storage_options)}
            for place, piece in enumerate(unit.pieces)
            if _is_cut(piece)
        ]
        yield pa.Table.from_pylist(counts, schema=LINES)


class KeysStep:
    """unit -> tables of `operators.repeats.KEYS`."""

    def __init__(self, options: ReadOptions, storage_options: Mapping[str, Any] | None) -> None:
        self.options, self.storage_options = options, storage_options

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        last = len(unit.pieces) - 1
        for place, piece in enumerate(unit.pieces):
            for keys in read_keys(piece, self.options, storage_options=self.storage_options):
                kept = keys
                if unit.stop is not None and place == last:
                    kept = keys.filter(pc.less(keys["row"], unit.stop))
                constant = {"unit": unit.index, "piece": place}
                for name, value in constant.items():
                    kept = kept.append_column(name, pa.array([value] * len(kept), pa.int64()))
                yield kept
                if len(kept) < len(keys):
                    return


def units_to_count(units: Iterable[Unit]) -> list[Unit]:
    """The units with pieces whose first row only counting tells."""
    return [unit for unit in units if any(_is_cut(piece) for piece in unit.pieces)]


def with_first_rows(units: Sequence[Unit], lines: pa.Table) -> list[Unit]:
    """The units with every piece's `first_row` known, from the lines of the pieces before it."""
    counted = {(row["unit"], row["piece"]): row["lines"] for row in lines.to_pylist()}
    placed, reached = [], ("", 0)
    for unit in units:
        pieces = []
        for place, piece in enumerate(unit.pieces):
            if (unit.index, place) not in counted:
                pieces.append(piece)
                continue
            uri, row = reached if reached[0] == piece.shard.uri else (piece.shard.uri, 0)
            lines = counted[unit.index, place]
            if lines or not row:  # a later piece in which no line begins has no row of its own to be rejected at
                pieces.append(replace(piece, first_row=row))
            reached = (uri, row + lines)
        placed.append(replace(unit, pieces=tuple(pieces)))
    return placed


def find_repeats(
    lake: Lake, run_id: str, units: Sequence[Unit], keys: Iterable[pa.Table]
) -> dict[int, tuple[int, ...]]:
    """Compare the keys of the whole input and store the repeats; returns the numbers of their files by unit."""
    from operators.repeats import RepeatFinder

    numbers: dict[int, tuple[int, ...]] = {}
    with RepeatFinder() as finder:
        for table in keys:
            finder.add(table)
        for number, rows in enumerate(_files(_named(batch, units) for batch in finder.repeats())):
            write_table(lake, _repeats_path(run_id, number), rows)
            for unit in pc.unique(rows["unit"]).to_pylist():
                numbers[unit] = (*numbers.get(unit, ()), number)
    return numbers


def stored_repeats(lake: Lake, run_id: str, n_files: int) -> dict[int, tuple[int, ...]] | None:
    """The numbers of the files by unit, of an earlier attempt; None where one of them is gone."""
    numbers: dict[int, tuple[int, ...]] = {}
    for number in range(n_files):
        rows = read_table(lake, _repeats_path(run_id, number))
        if rows is None:
            return None
        for unit in pc.unique(rows["unit"]).to_pylist():
            numbers[unit] = (*numbers.get(unit, ()), number)
    return numbers


def read_repeats(lake: Lake, run_id: str, unit: int, numbers: Iterable[int]) -> Repeats:
    """The repeats of one unit, as the reader wants them.

    Raises:
        FileNotFoundError: a file of them is gone: to go on would score a document twice.
    """
    repeats: Repeats = {}
    for number in numbers:
        path = _repeats_path(run_id, number)
        rows = read_table(lake, path)
        if rows is None:
            raise FileNotFoundError(f"{lake.storage.uri(path)} is gone: repeat the command, the run makes it again")
        for row in rows.filter(pc.equal(rows["unit"], unit)).to_pylist():
            first = f"{row['first_source']}#{row['first_row']}"
            reason = Reason.HASH_COLLISION if row["is_collision"] else Reason.DUPLICATE_KEY
            what = "another key of the same doc_id" if row["is_collision"] else "the same key"
            repeats[row["source"], row["row"]] = (reason, f"{first} has {what} and comes first")
    return repeats


def _is_cut(piece: Any) -> bool:
    return piece.shard.format == "jsonl" and (piece.start > 0 or piece.stop is not None)


def _named(batch: pa.RecordBatch, units: Sequence[Unit]) -> pa.Table:
    """Repeats with the names of the files that their places stand for."""
    names = {
        column: [
            units[unit].pieces[piece].shard.uri
            for unit, piece in zip(batch[f"{prefix}unit"].to_pylist(), batch[f"{prefix}piece"].to_pylist(), strict=True)
        ]
        for column, prefix in (("source", ""), ("first_source", "first_"))
    }
    same = {name: batch[name] for name in ("unit", "row", "is_collision", "first_row")}
    return pa.table({**same, **names}).select(STORED_REPEATS.names).cast(STORED_REPEATS)


def _files(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= ROWS_PER_FILE:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _repeats_path(run_id: str, number: int) -> str:
    return f"{progress_folder(run_id)}/repeats-{number:08d}.parquet"
