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

from operators.pieces import Piece, count_lines, numbered
from operators.read import ReadOptions, read_keys
from pipelines.claims import Claims
from pipelines.probe import Dying
from pipelines.units import Unit

LINES = pa.schema([(name, pa.int64()) for name in ("unit", "piece", "lines")])


class LinesStep:
    """unit -> how many lines begin in each piece of it that is cut out of a JSON Lines file."""

    def __init__(self, storage_options: Mapping[str, Any] | None, claims: Claims, dying: Dying) -> None:
        self.storage_options, self.claims, self.dying = storage_options, claims, dying

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        unit.check_here()
        with self.dying.reading(unit.index, "count", self.claims):
            counts = [
                {"unit": unit.index, "piece": place, "lines": self._lines(piece)}
                for place, piece in enumerate(unit.pieces)
                if _is_cut(piece)
            ]
        yield pa.Table.from_pylist(counts, schema=LINES)

    def _lines(self, piece: Piece) -> int:
        return 0 if piece.shard.uri in self.dying.killers else count_lines(piece, self.storage_options)


class KeysStep:
    """unit -> tables of `operators.repeats.KEYS`."""

    def __init__(
        self, options: ReadOptions, storage_options: Mapping[str, Any] | None, claims: Claims, dying: Dying
    ) -> None:
        self.options, self.storage_options, self.claims, self.dying = options, storage_options, claims, dying

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        unit.check_here()
        with self.dying.reading(unit.index, "compare", self.claims):
            yield from self._keys(unit)

    def _keys(self, unit: Unit) -> Iterator[pa.Table]:
        last = len(unit.pieces) - 1
        for place, piece in enumerate(unit.pieces):
            if piece.shard.uri in self.dying.killers:
                continue
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
    """The units with every piece's `first_row` known; pieces in which no line begins are left out."""
    counted = {(row["unit"], row["piece"]): row["lines"] for row in lines.to_pylist()}
    cut: dict[str, list[tuple[Piece, int]]] = {}
    for unit in units:
        for place, piece in enumerate(unit.pieces):
            if _is_cut(piece):
                cut.setdefault(piece.shard.uri, []).append((piece, counted[unit.index, place]))
    known = {(p.shard.uri, p.start): p for pairs in cut.values() for p in numbered(*zip(*pairs, strict=True))}
    return [replace(unit, pieces=tuple(_known(unit, known))) for unit in units]


def _known(unit: Unit, known: Mapping[tuple[str, int], Piece]) -> Iterator[Piece]:
    for piece in unit.pieces:
        if not _is_cut(piece):
            yield piece
        elif (placed := known.get((piece.shard.uri, piece.start))) is not None:
            yield placed


def _is_cut(piece: Piece) -> bool:
    return piece.shard.format == "jsonl" and (piece.start > 0 or piece.stop is not None)
