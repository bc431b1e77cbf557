"""Attention one segment at a time by torch's scaled dot-product attention: any device, any dtype, any layer.

A segment's result is what it would be with no neighbours, bit for bit on a CPU. No `[T, T]` mask exists for plain
causal layers; layers with a sliding window build one of `[L, L]` for segments longer than the window. The price: one
call a segment a layer. Shapes: `H` heads, `T` packed tokens, `L` tokens of a segment, `d` head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from operators.attention.layout import Layout


def attend_segments(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None,
                    layout: Layout) -> Tensor:  # fmt: skip
    """`[1, H, T, d]` in, `[1, T, H, d]` out."""
    out = torch.empty(1, q.shape[2], q.shape[1], v.shape[3], dtype=q.dtype, device=q.device)
    for start, stop in layout.bounds:
        one_q, one_k, one_v = (x[:, :, start:stop] for x in (q, k, v))
        out[:, start:stop] = attend_one(one_q, one_k, one_v, scaling, window, softcap).transpose(1, 2)
    return out


def attend_one(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    """Causal attention of one segment, `[1, H, L, d]` in and out."""
    length = q.shape[2]
    mask = _window_mask(length, window, q.device) if window is not None and length > window else None
    if softcap is not None:
        return _soft_capped(q, k, v, scaling, softcap, mask)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )


def _window_mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """`[L, L]` bool: query i sees keys i - window + 1 .. i (all keys up to i where there is no window)."""
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


def _soft_capped(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, cap: float, mask: Tensor | None) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[3] ** -0.5)
    scores = torch.tanh(scores / cap) * cap
    seen = _window_mask(q.shape[2], None, q.device) if mask is None else mask
    weights = scores.masked_fill(~seen, -torch.inf).float().softmax(-1)
    return weights.to(q.dtype) @ v
