"""Attention over all segments in one kernel that is generated from its mask: soft-caps, windows and float32 on CUDA.

For the layers that variable-length flash attention does not compute. The block mask is worked out from the segments'
bounds on the host: a query sees the keys from its segment's start (or its window's) up to itself, a contiguous range,
so that the blocks of keys that a block of queries needs are contiguous too. The price: a mask a batch and a window, and
a kernel compiled at the first call.

Shapes: `T` packed tokens, `B` blocks of `BLOCK` tokens.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from operators.attention.layout import Layout

BLOCK = 128


def can_flex(q: Tensor) -> bool:
    """Whether the generated kernel is worth it: on a CPU the segments one at a time are faster."""
    return q.device.type == "cuda" and q.shape[2] % BLOCK == 0


def attend_flex(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None,
                layout: Layout, *, compiled: bool = True) -> Tensor:  # fmt: skip
    """`[1, H, T, d]` in, `[1, T, H, d]` out; `T` a multiple of `BLOCK`."""
    if window not in layout.masks:
        layout.masks[window] = block_mask(layout, window, q.shape[2], q.device)
    kernel = _compiled_flex() if compiled else flex_attention
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # uncompiled, it says that it is slow
        out: Any = kernel(
            q, k, v, score_mod=_soft_cap(softcap), block_mask=layout.masks[window], scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
    found: Tensor = out
    return found.transpose(1, 2).contiguous()


def first_keys(layout: Layout, window: int | None, n_tokens: int) -> np.ndarray:
    """`[T]` int32: the first key that each query sees; rising. Tokens after the last segment see themselves alone."""
    first = np.arange(n_tokens, dtype=np.int32)
    for start, stop in layout.bounds:
        first[start:stop] = start
    return first if window is None else np.maximum(first, np.arange(n_tokens, dtype=np.int32) - (window - 1))


def block_mask(layout: Layout, window: int | None, n_tokens: int, device: torch.device) -> BlockMask:
    """Which blocks of keys each block of queries needs: wholly (no test a key) or partly."""
    first_T = first_keys(layout, window, n_tokens)
    block_B = np.arange(n_tokens // BLOCK)
    low_B = first_T[::BLOCK] // BLOCK  # of a block's first query, which sees furthest back
    whole_B = np.minimum(-(-first_T[BLOCK - 1 :: BLOCK] // BLOCK), block_B)  # all queries see all keys from here
    partial = (block_B >= low_B[:, None]) & ((block_B < whole_B[:, None]) | (block_B == block_B[:, None]))
    whole = (block_B >= whole_B[:, None]) & (block_B < block_B[:, None])
    seen_T = torch.from_numpy(first_T).to(device)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= seen_T[query])

    return BlockMask.from_kv_blocks(
        *_listed(partial, device), *_listed(whole, device), BLOCK_SIZE=BLOCK, mask_mod=visible,
        seq_lengths=(n_tokens, n_tokens),
    )  # fmt: skip


def _listed(chosen_BB: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """(how many key blocks a query block has `[1, 1, B]`, their numbers, the chosen first `[1, 1, B, B]`)."""
    numbers = np.argsort(~chosen_BB, axis=1, kind="stable").astype(np.int32)
    counts = chosen_BB.sum(1).astype(np.int32)
    return torch.from_numpy(counts)[None, None].to(device), torch.from_numpy(numbers)[None, None].to(device)


def _soft_cap(cap: float | None) -> Any:
    if cap is None:
        return None

    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return torch.tanh(score / cap) * cap

    return capped


@functools.cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=True)
