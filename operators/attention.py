"""Attention per segment: packed documents share the linear layers and never see each other.

Registered with transformers as one more attention implementation. Queries, keys and values of all packed segments
arrive as one row `[1, H, T, d]`; each segment is attended to alone, causally, by torch's scaled dot-product attention,
so that a segment's result is what it would be with no neighbours. No `[T, T]` mask exists for plain causal layers;
layers with a sliding window build one of `[L, L]` for segments longer than the window. The price: one call a segment a
layer.

Shapes: `H` heads, `T` packed tokens, `L` tokens of a segment, `d` head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

IMPLEMENTATION = "assay_segments"

# Arguments that change no number in scoring; any other argument with a value makes the model take the unpacked path.
_HARMLESS = {
    *("cache_position", "cu_seq_lens_q", "is_causal", "layer_idx", "output_attentions", "output_hidden_states"),
    *("past_key_values", "position_embeddings", "position_ids", "return_dict", "target_dtype", "use_cache"),
}

_bounds: ContextVar[Sequence[tuple[int, int]]] = ContextVar("segment_bounds")


_calls: ContextVar[list[str] | None] = ContextVar("calls", default=None)


class UnsupportedAttentionError(RuntimeError):
    """A model asks its attention for something that this implementation does not compute."""


@contextlib.contextmanager
def segments_of(bounds: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Within, attention runs over the half-open token ranges `bounds` of the packed row, which must tile it."""
    token = _bounds.set(bounds)
    try:
        yield
    finally:
        _bounds.reset(token)


@contextlib.contextmanager
def count_calls() -> Iterator[list[str]]:
    """Within, the list grows by one entry for every layer that comes here: some models ignore the setting."""
    calls: list[str] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def segment_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `[1, H, T, d]` in, `([1, T, H, d], None)` out.

    Raises:
        UnsupportedAttentionError: a mask, a dropout, a non-causal layer, or an argument unknown here (sinks, biases).
    """
    unknown = [k for k, v in kwargs.items() if k not in _HARMLESS and v is not None and v is not False]
    if attention_mask is not None or dropout or unknown or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError(
            f"{type(module).__name__}: mask, dropout, non-causal layer or arguments {unknown}"
        )
    calls = _calls.get()
    if calls is not None:
        calls.append(type(module).__name__)
    out = torch.empty(1, query.shape[2], query.shape[1], value.shape[3], dtype=query.dtype, device=query.device)
    for start, stop in _bounds.get():
        q, k, v = (x[:, :, start:stop] for x in (query, key, value))
        out[:, start:stop] = _attend(q, k, v, scaling, sliding_window, softcap).transpose(1, 2)
    return out, None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
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


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Masks follow from the segments, so none is built."""


def register() -> None:
    """Make the implementation known to transformers under `IMPLEMENTATION`; calling it again changes nothing."""
    AttentionInterface.register(IMPLEMENTATION, segment_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
