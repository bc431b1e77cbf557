"""The work that is left in a run, from what its blocks held so far: tokens, in every unit that is not finished.

    stored bytes left, by kind  x  tokens in a stored byte of that kind so far  ->  tokens left

Kinds are what says how much text a stored byte holds: plain, gzip, zstd, Parquet, Arrow. Of a kind that has not come
up yet, a usual ratio to those that have is taken; the rest of a unit is taken to be like what came of it, the more the
more of it came. With a limit, records count instead. What nobody can tell: that the units still unread hold several
times less, or more, than all before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from operators.readers.source import compression_of
from pipelines.units import Unit, stored_bytes

if TYPE_CHECKING:
    from operators.pieces import Piece

# Bytes of text in a stored byte of English prose and code with some metadata around, about: only where nothing of a
# kind has been read yet.
USUAL_TEXT = {"plain": 0.9, "gzip": 2.7, "zstd": 3.0, "parquet": 2.0, "arrow": 0.9}


def kind_of(unit: Unit) -> str:
    """What kind of input a unit is, by its first file."""
    if not unit.pieces:
        return "plain"
    shard = unit.pieces[0].shard
    return shard.format if shard.format in USUAL_TEXT else compression_of(shard.uri) or "plain"


@dataclass
class _Kind:
    """Of a kind of input: stored bytes that are `left`, by unit and in `all`, those `done`, and the `work` in them.
    `begun`: the same two, of units that have come up and are not at their end; `_sums` over these, for each block asks
    and there may be very many of them (a unit whose end was done before stays)."""

    left: dict[int, float] = field(default_factory=dict)
    all: float = 0.0
    done: float = 0.0
    work: float = 0.0
    begun: dict[int, tuple[float, float]] = field(default_factory=dict)
    _sums: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def take(self, unit: int, n_bytes: float, work: float) -> None:
        """A block of a unit took `n_bytes`, all that is left at most, and held `work`."""
        n_bytes = min(n_bytes, self.left[unit])
        self._count(unit, -1)
        self.left[unit] -= n_bytes
        self.all -= n_bytes
        self.done += n_bytes
        self.work += work
        done, held = self.begun.pop(unit, (0.0, 0.0))
        if self.left[unit] > 0:
            self.begun[unit] = (done + n_bytes, held + work)
        self._count(unit, 1)

    def _count(self, unit: int, sign: int) -> None:
        """Add a begun unit to the sums of `work_left`, or take it out again: its own work, what is multiplied by the
        density, and its bytes."""
        if unit in self.begun:
            left, (done, work) = self.left[unit], self.begun[unit]
            share = sign * left / (done + left) if left > 0 else 0.0
            own, by_density, n_bytes = self._sums
            self._sums = own + share * work, by_density + share * left, n_bytes + sign * left
        if not self.begun:
            self._sums = (0.0, 0.0, 0.0)  # and what rounding has left in them

    def work_left(self, density: float) -> float:
        """`density`: work in a stored byte. A unit's own counts as much as the unit is read."""
        own, by_density, n_bytes = self._sums
        return max(0.0, self.all - n_bytes) * density + max(0.0, own + density * by_density)


@dataclass
class WorkLeft:
    """`kinds`: kind by unit. `records`: how many are left, where a limit ends the run. `measure`: what in a manifest is
    work."""

    kinds: Mapping[int, str]
    records: int | None = None
    measure: str = "tokens"
    _by_kind: dict[str, _Kind] = field(default_factory=dict)
    _n_bytes: dict[int, float] = field(default_factory=dict)
    _rows: int = 0
    _work: float = 0.0

    @classmethod
    def of(
        cls,
        units: Sequence[Unit],
        *,
        shares: Mapping[int, float] | None = None,
        records: int | None = None,
        measure: str = "tokens",
    ) -> WorkLeft:
        """What is left of `units`, of which `shares` are done already; units that are finished may be left out."""
        sizes = _sizes(units)
        work = cls({unit.index: kind_of(unit) for unit in units}, records, measure)
        for unit in units:
            n_bytes = float(max(1, sum(sizes[piece] for piece in unit.pieces)))
            work._n_bytes[unit.index] = n_bytes
            left = max(0.0, n_bytes * (1.0 - (shares or {}).get(unit.index, 0.0)))
            kind = work._by_kind.setdefault(work.kinds[unit.index], _Kind())
            kind.left[unit.index] = left
            kind.all += left
        return work

    def add(self, manifest: Mapping[str, Any]) -> float:
        """Take in a block; returns the work that was in it."""
        unit, work = manifest["unit"], float(manifest[self.measure])
        self._rows += int(manifest["rows_in"])
        self._work += work
        kind = self._by_kind.get(self.kinds.get(unit, ""))
        if kind is not None and unit in kind.left:
            n_bytes = (manifest.get("share") or 0.0) * self._n_bytes[unit]
            kind.take(unit, kind.left[unit] if manifest["is_last"] else n_bytes, work)
        return work if self.records is None else float(manifest["rows_in"])

    @property
    def left(self) -> float | None:
        """Work, or records where these are limited; None where nothing came yet that would tell."""
        if self.records is not None:
            return float(max(0, self.records - self._rows))
        usual = sum(USUAL_TEXT[name] * kind.done for name, kind in self._by_kind.items())
        if not usual or not self._work:
            return None
        per_text = sum(kind.work for kind in self._by_kind.values()) / usual
        return sum(
            kind.work_left(kind.work / kind.done if kind.done else per_text * USUAL_TEXT[name])
            for name, kind in self._by_kind.items()
        )

    @property
    def share(self) -> float | None:
        """Of the work, how much is done: at most 0.99 before the end. Of stored bytes where none of them held work."""
        left, done = self.left, self._work if self.records is None else float(self._rows)
        if left is None:
            done, left = (sum(getattr(kind, name) for kind in self._by_kind.values()) for name in ("done", "all"))
        return min(0.99, done / (done + max(0.0, left))) if done else None


def _sizes(units: Sequence[Unit]) -> dict[Piece, float]:
    """Stored bytes of every piece; row groups share those of their file where all of them are there."""
    pieces = [piece for unit in units for piece in unit.pieces]
    sizes = {piece: float(stored_bytes(piece)) for piece in pieces}
    cut: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.shard.format == "parquet" and (piece.start or piece.stop is not None):
            cut.setdefault(piece.shard.uri, []).append(piece)
    for parts in cut.values():
        if any(p.start == 0 for p in parts) and any(p.stop is None for p in parts):
            sizes |= {piece: piece.shard.n_bytes / len(parts) for piece in parts}
    return sizes
