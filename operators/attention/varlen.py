"""Attention over all segments in one call: torch's variable-length flash attention, half precision on CUDA.

`torch.nn.attention.varlen.varlen_attn` appeared in torch 2.10 and has grown arguments since; what the installed one
takes is read from its signature once. Shapes: `H` heads, `G` key heads, `T` packed tokens, `d` head width.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from operators.attention.layout import Layout

_HALF = (torch.float16, torch.bfloat16)
_MIN_CAPABILITY = (8, 0)
_MAX_HEAD_WIDTH = 256

Varlen = Callable[..., Any]


@functools.cache
def installed() -> Varlen | None:
    """torch's function, or None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


@functools.cache
def parameters(function: Varlen) -> frozenset[str]:
    """What this version takes."""
    return frozenset(inspect.signature(function).parameters)


def can_varlen(q: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None,
               layout: Layout) -> bool:  # fmt: skip
    """Whether the installed function computes this layer on this device."""
    function = installed()
    if function is None or layout.cumulative is None or softcap is not None:
        return False
    return _fits_device(q, v) and _fits_version(parameters(function), q.shape[3], scaling, window, layout.one_split)


def _fits_device(q: Tensor, v: Tensor) -> bool:
    if q.device.type != "cuda" or q.dtype not in _HALF or torch.cuda.get_device_capability(q.device) < _MIN_CAPABILITY:
        return False
    width = q.shape[3]
    return width == v.shape[3] and width % 8 == 0 and width <= _MAX_HEAD_WIDTH


def _fits_version(
    known: frozenset[str], width: int, scaling: float | None, window: int | None, one_split: bool
) -> bool:
    """Whether every argument that this layer needs exists; the default scale needs none."""
    return (
        ("scale" in known or scaling is None or scaling == width**-0.5)
        and ("window_size" in known or (window is None and "is_causal" in known))
        and ("num_splits" in known or not one_split)
    )


def attend_varlen(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, layout: Layout,
                  function: Varlen) -> Tensor:  # fmt: skip
    """`[1, H, T, d]` in, `[1, T, H, d]` out, by `function`, torch's own or one of its signature."""
    known = parameters(function)
    more: dict[str, Any] = {}
    if "window_size" in known:
        # Keys i - left .. i - right: a window of W tokens holds the query itself and W - 1 before it.
        more["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        more["is_causal"] = True
    if scaling is not None and "scale" in known:
        more["scale"] = scaling
    if layout.one_split:
        more["num_splits"] = 1
    groups = q.shape[1] // k.shape[1]
    if groups > 1 and "enable_gqa" in known:
        more["enable_gqa"] = True
    elif groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    rows = (x[0].transpose(0, 1) for x in (q, k, v))
    cumulative = layout.cumulative
    out: Tensor = function(*rows, cumulative, cumulative, layout.longest, layout.longest, **more)
    # It may have taken the strides of the queries; a compiled layer relies on the plain order.
    return out[None].contiguous()
