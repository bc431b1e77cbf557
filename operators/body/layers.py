"""The body's layers: compiled where that pays, and how long a row of tokens must be for their bits to hold.

Layers are compiled one by one, not the body as a whole: they share one kernel set, so a deep model compiles as fast as
a shallow one. Attention stays one opaque operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

# Elements that torch's elementwise CPU kernels take at a time, in any dtype; what is left over at the end of a tensor
# is computed by scalar code, whose exponentials round differently.
_LANES = 64


def layers_of(body: nn.Module) -> list[nn.Module]:
    """The repeated layers: the members of the list that holds most parameters; empty where there is no list."""
    lists = [module for module in body.modules() if isinstance(module, nn.ModuleList)]
    heaviest = max(lists, key=lambda one: sum(p.numel() for p in one.parameters()), default=nn.ModuleList())
    return list(heaviest)


def compile_layers(body: nn.Module) -> Callable[[], None]:
    """Compile every layer for rows of any length, at its first call; returns what undoes it."""
    layers = layers_of(body)
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)

    def undo() -> None:
        for layer in layers:
            layer.__dict__.pop("forward", None)  # the class's own forward shows again

    return undo


def row_alignment(body: nn.Module) -> int:
    """Tokens of which a row must be a multiple so that no tensor of activations leaves elements over, on a CPU."""
    common = _LANES
    for module in body.modules():
        if not isinstance(module, nn.Embedding):
            for parameter in module.parameters(recurse=False):
                common = math.gcd(common, *parameter.shape[-2:]) if parameter.ndim > 1 else common
    return _LANES // common
