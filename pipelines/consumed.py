"""For which share of its unit's stored bytes a block stands: what tells, of compressed files too, how much is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate

import pyarrow as pa

from operators.pieces import Piece
from operators.read import PLACE_METADATA
from pipelines.units import stored_bytes


class Consumed:
    """Call `by` with the blocks of a unit in order, and `rest` for the last: the shares are at least 0 and make 1."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        sizes = [max(1, stored_bytes(piece)) for piece in pieces]
        self._ends = [0, *accumulate(sizes)]
        self._done = 0.0

    def by(self, block: pa.Table) -> float:
        """The share of a block as `operators.read.read_pieces` gave it; 0 where it does not say."""
        before = self._done
        place = (block.schema.metadata or {}).get(PLACE_METADATA)
        if place is not None and self._ends[-1]:
            index, share = json.loads(place)
            start, end = self._ends[index], self._ends[index + 1]
            self._done = min(1.0, max(before, (start + share * (end - start)) / self._ends[-1]))
        return self._done - before

    def rest(self) -> float:
        """What the blocks before left."""
        return 1.0 - self._done
