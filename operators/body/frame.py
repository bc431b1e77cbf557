"""Batches of fixed sizes, in buffers that keep their addresses: what a recorded forward pass needs.

A batch is filled up with filler segments, and its list of segments with empty ones:

    fed         a a a b b c c c c . . . .        `.` filler, its rows are dropped
    cumulative  0 3 5 9 13 13 13 13 13           a constant number of entries

Sizes are eighths of the largest, so that the last batch of a block wastes little. The price of a finer grid would be
one recording a size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from operators.attention import Layout, Path
from operators.staging import Uploads

BLOCK = 128  # tokens; attention kernels work on blocks of this many
_STEPS = 8
_FEWEST_SLOTS = 16  # empty segments cost a little in every layer: four times more slots only when they are needed

Bounds = Sequence[tuple[int, int]]


class Size(NamedTuple):
    """`tokens` of a batch, fillers included; `slots` for its segments."""

    tokens: int
    slots: int


@dataclass(frozen=True)
class Sizes:
    """The sizes in use. `largest`, `longest`: tokens of a batch and of a segment; `only_largest`: no other size."""

    largest: int
    longest: int
    only_largest: bool = False

    @classmethod
    def of(cls, batch_tokens: int, longest: int, *, only_largest: bool = False) -> Sizes:
        """Sizes for batches of `batch_tokens` in which a single segment may be longer, of `longest`."""
        return cls(rounded_up(max(batch_tokens, longest), BLOCK), longest, only_largest)

    def fit(self, bounds: Bounds) -> Size | None:
        """The smallest size that holds these segments and their fillers; None where none does or half were filler."""
        n_tokens = bounds[-1][1]
        if n_tokens > self.largest or max(b - a for a, b in bounds) > self.longest:
            return None
        step = self.largest if self.only_largest else rounded_up(-(-self.largest // _STEPS), BLOCK)
        tokens = min(rounded_up(n_tokens, step), self.largest)
        if tokens > 2 * n_tokens and not self.only_largest:
            return None
        needed, slots = len(bounds) + -(-(tokens - n_tokens) // self.longest), _FEWEST_SLOTS
        while slots < needed:
            slots *= 4
        return Size(tokens, slots)


def rounded_up(n: int, multiple: int) -> int:
    """The smallest multiple that is not below `n`."""
    return -(-n // multiple) * multiple


def filled(bounds: Bounds, n_tokens: int, longest: int) -> list[tuple[int, int]]:
    """`bounds` and fillers of at most `longest` tokens each, up to `n_tokens`."""
    edges = [*range(bounds[-1][1], n_tokens, longest), n_tokens]
    return [*bounds, *itertools.pairwise(edges)] if len(edges) > 1 else list(bounds)


def positions_of(bounds: Bounds) -> np.ndarray:
    """`[T]` int64: the place of each token in its segment."""
    starts, stops = np.array(bounds, dtype=np.int64).T
    positions: np.ndarray = np.arange(bounds[-1][1], dtype=np.int64) - np.repeat(starts, stops - starts)
    return positions


def cumulative_of(bounds: Bounds, slots: int) -> np.ndarray:
    """`[slots + 1]` int32: starts of the segments, then the number of tokens again and again."""
    cumulative = np.full(slots + 1, bounds[-1][1], dtype=np.int32)
    cumulative[: len(bounds)] = [start for start, _ in bounds]
    return cumulative


class Frame:
    """The input buffers of one size."""

    def __init__(self, size: Size, uploads: Uploads) -> None:
        self.size, self._uploads = size, uploads
        self.ids = torch.zeros(size.tokens, dtype=torch.long, device=uploads.device)
        self.positions = torch.zeros(size.tokens, dtype=torch.long, device=uploads.device)
        self.cumulative = torch.zeros(size.slots + 1, dtype=torch.int32, device=uploads.device)

    def fill(self, ids_T: Tensor, bounds: Bounds, longest: int, paths: tuple[Path, ...], one_split: bool) -> Layout:
        """Write a batch into the buffers; `ids_T` may lie on the host or on the device.

        The longest segment is stated as `longest` whatever this batch holds: a recording keeps the number.
        """
        every = filled(bounds, self.size.tokens, longest)
        n = ids_T.shape[0]
        if ids_T.device == self.ids.device:
            self.ids[:n] = ids_T
        else:
            self._uploads.into(ids_T, self.ids[:n])
        self.ids[n:] = 0
        self._uploads.into(torch.from_numpy(positions_of(every)), self.positions)
        self._uploads.into(torch.from_numpy(cumulative_of(every, self.size.slots)), self.cumulative)
        return Layout(every, longest, self.cumulative, paths, one_split)
