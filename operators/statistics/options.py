"""How the head's statistics are computed: by which kernel, over tiles of which shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from operators.statistics.fold import ROW_ALIGNMENT

Kernel = Literal["auto", "torch", "triton"]
KERNELS: tuple[str, ...] = get_args(Kernel)
MAX_TOP_K = 1024


@dataclass(frozen=True)
class TileOptions:
    """`rows`, `columns`: tile shape, None for the device's own. `top_k`: length of the lists of the group `topk`.

    `kernel`: `triton` needs a CUDA device; `auto` takes it there for half-precision weights, and `torch` otherwise.
    `compiled`: of the torch kernel; None compiles where a compiler is found. `deterministic`: no choice is left to a
    measurement, so that equal rows are equal bits on every machine of one kind.
    """

    rows: int | None = None
    columns: int | None = None
    top_k: int = 10
    compiled: bool | None = None
    kernel: Kernel = "auto"
    deterministic: bool = False

    def __post_init__(self) -> None:
        rows, columns = self.rows or ROW_ALIGNMENT, self.columns or 1
        if rows % ROW_ALIGNMENT or rows < 0 or columns < 0 or 0 in (self.rows, self.columns):
            raise ValueError(f"tile {self.rows} x {self.columns}: rows must be a positive multiple of {ROW_ALIGNMENT}")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k is {self.top_k}: it must lie between 1 and {MAX_TOP_K}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r}: choose from {', '.join(KERNELS)}")
