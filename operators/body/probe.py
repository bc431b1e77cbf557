"""Finds out, on the loaded weights, whether packing is exact and whether rows keep their bits among other neighbours.

Both are established by trying, on random tokens, because neither follows from a family's name: recurrent layers ignore
the segments, experts multiply in the shape of the batch, libraries choose another order of sums for another shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from operators.body.frame import Bounds

Hidden = Callable[[Tensor, Bounds], Tensor]

_SHORT = (1, 37, 2, 5)


def packing_obstacle(config: Any, device: torch.device) -> str | None:
    """What in the config forbids packing although a short probe would not show it."""
    rope = repr(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None))
    if "longrope" in rope or "dynamic" in rope:
        return "its rotary positions depend on the longest sequence of a batch"
    if "chunked" in repr(getattr(config, "layer_types", None)) or getattr(config, "attention_chunk_size", None):
        return "its attention is chunked"
    experts = any(getattr(config, n, None) for n in ("num_experts", "num_local_experts", "n_routed_experts"))
    if experts and device.type == "cpu":
        return "its experts' products take the shape of the batch, and rows would round with their neighbours"
    return None


def probe_ids(n: int, vocab_size: int, seed: int | None = None) -> Tensor:
    """`[n]` random ids on the host, the same every time."""
    return torch.randint(0, vocab_size, (n,), generator=torch.Generator().manual_seed(n if seed is None else seed))


def bounds_of(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Bounds of segments of these lengths in a row."""
    return list(itertools.pairwise([0, *itertools.accumulate(lengths)]))


def probe_bounds(n_tokens: int) -> list[tuple[int, int]]:
    """A segment of `n_tokens` tokens and short ones, single tokens among them."""
    return bounds_of([n_tokens, *(min(n, n_tokens) for n in _SHORT)])


def moved_rows(hidden: Hidden, vocab_size: int, n_tokens: int, room: int, longest: int) -> int:
    """Rows of a segment of `n_tokens` tokens that change their bits with its place or its neighbours; 0 is wanted.

    `room`: tokens that a batch may hold, at least `n_tokens`. `longest`: of a neighbour's tokens. The segment runs
    alone, first, in the middle and last, between neighbours of several lengths, in batches that are nearly empty and
    nearly full.
    """
    segment = probe_ids(n_tokens, vocab_size)
    alone = hidden(segment, [(0, n_tokens)]).clone()
    moved = torch.zeros(n_tokens, dtype=torch.bool, device=alone.device)
    for trial, (before, after) in enumerate(_neighbours(room - n_tokens, longest)):
        bounds = bounds_of([*before, n_tokens, *after])
        start = bounds[len(before)][0]
        ids = probe_ids(bounds[-1][1], vocab_size, seed=1000 + trial)
        ids[start : start + n_tokens] = segment
        moved |= (hidden(ids, bounds)[start : start + n_tokens] != alone).any(1)
    return int(moved.sum())


def _neighbours(room: int, longest: int) -> list[tuple[list[int], list[int]]]:
    """Lengths before and after the segment, each at most `longest`, together at most `room` tokens."""
    half, rest = room // 2, room - room // 2
    tried = [([], [1]), ([1], []), ([3, 1], [7]), ([half], [rest]), ([rest], [half - 1, 1]), ([], [room])]
    tried += [([5] * (half // 5), [11] * (rest // 11)), ([17], [1] * min(rest, 24))]
    cut = [(_cut(before, longest), _cut(after, longest)) for before, after in tried]
    return [(before, after) for before, after in cut if 0 < sum(before) + sum(after) <= room]


def _cut(lengths: Sequence[int], longest: int) -> list[int]:
    """The same tokens in segments of at most `longest`."""
    return [min(longest, n - start) for n in lengths for start in range(0, n, longest)]
