"""What scoring may hold at once, and the next smaller budget where memory ran out.

    batch of windows -> smaller batches -> ... -> one window a batch -> smaller head tiles -> nothing smaller: stop

No number depends on the budget: which windows share a batch and which rows share a tile changes no bit in float32 on a
CPU, and no more than rounding elsewhere. The price of a smaller one is speed alone.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import NamedTuple

import torch

from operators.statistics import ROW_ALIGNMENT
from operators.windows import MIN_BATCH_TOKENS, Segment, pack

MIN_TILE_ROWS = 128  # below, a tile takes a few MiB at the most, and the products have lost their speed


class Budget(NamedTuple):
    """`batch_tokens`: fed in one forward pass, unless a single window is longer. `tile_rows`: of the head's tile."""

    batch_tokens: int
    tile_rows: int


def free_caches(device: torch.device) -> None:
    """Give back what is unused. Call it outside the `except` block: there the traceback keeps every tensor alive."""
    gc.collect()  # a traceback can be part of a cycle
    if device.type == "cuda":
        torch.cuda.empty_cache()


def fewer_rows(tile_rows: int) -> int:
    """Half the rows of the head's tile, `MIN_TILE_ROWS` at the least."""
    return max(MIN_TILE_ROWS, tile_rows // 2 // ROW_ALIGNMENT * ROW_ALIGNMENT)


def smaller(budget: Budget, segments: Sequence[Segment]) -> Budget | None:
    """The next smaller budget that changes something for these segments; None where there is none."""
    least = max([MIN_BATCH_TOKENS, *map(len, segments)])
    largest = max((sum(map(len, batch)) for batch in pack(segments, budget.batch_tokens)), default=0)
    if largest > least:
        return budget._replace(batch_tokens=max(least, largest // 2))
    rows = fewer_rows(budget.tile_rows)
    return budget._replace(tile_rows=rows) if rows < budget.tile_rows else None
