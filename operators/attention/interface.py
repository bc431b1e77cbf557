"""transformers' attention interface to our paths: checks what a layer asks for and takes the first path that can.

    varlen    one call, half precision on CUDA
    flex      one generated kernel, CUDA: soft-caps, float32
    segments  one call a segment, everywhere

In a compiled layer attention is one opaque operation, `assay::attend`: what it reads besides its arguments is the
layout in force. Shapes: `H` heads, `T` packed tokens, `d` head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from operators.attention.flex import attend_flex, can_flex
from operators.attention.layout import Path, current
from operators.attention.segments import attend_segments
from operators.attention.varlen import attend_varlen, can_varlen, installed

IMPLEMENTATION = "assay_segments"

# Arguments that change no number in scoring; any other argument with a value makes the model take the unpacked path.
_HARMLESS = {
    *("cache_position", "cu_seq_lens_q", "is_causal", "layer_idx", "output_attentions", "output_hidden_states"),
    *("past_key_values", "position_embeddings", "position_ids", "return_dict", "target_dtype", "use_cache"),
}

_taken: ContextVar[list[Path] | None] = ContextVar("taken", default=None)


class UnsupportedAttentionError(RuntimeError):
    """A model asks its attention for something that this implementation does not compute."""


@contextlib.contextmanager
def paths_taken() -> Iterator[list[Path]]:
    """Within, the list grows by the path of every layer that comes here: some models ignore the setting."""
    taken: list[Path] = []
    token = _taken.set(taken)
    try:
        yield taken
    finally:
        _taken.reset(token)


def packed_attention(
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
    attend = _opaque if torch.compiler.is_compiling() else _attend
    return attend(query, key, value, scaling, sliding_window, softcap), None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    layout = current()
    path = next(p for p in (*layout.paths, "segments") if _can(p, q, v, scaling, window, softcap))
    taken = _taken.get()
    if taken is not None:
        taken.append(path)
    function = installed()
    if path == "varlen" and function is not None:
        return attend_varlen(q, k, v, scaling, window, layout, function)
    if path == "flex":
        return attend_flex(q, k, v, scaling, window, softcap, layout)
    return attend_segments(q, k, v, scaling, window, softcap, layout)


def _can(path: Path, q: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None) -> bool:
    if path == "varlen":
        return can_varlen(q, v, scaling, window, softcap, current())
    return path == "segments" or can_flex(q)


@torch.library.custom_op("assay::attend", mutates_args=())
def _opaque(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    return _attend(q, k, v, scaling, window, softcap)


@_opaque.register_fake
def _opaque_shape(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    return q.new_empty(1, q.shape[2], q.shape[1], v.shape[3])


def register() -> None:
    """Make the implementation known to transformers under `IMPLEMENTATION`; calling it again changes nothing.

    No mask function is registered with it: transformers then builds no mask and, on CUDA, does not wait for the device
    to look whether the positions are those of packed sequences, which no recording of the pass would survive.
    """
    AttentionInterface.register(IMPLEMENTATION, packed_attention)
