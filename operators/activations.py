"""Activations that a model spells out in many passes, replaced by torch's single-pass form of the same function.

GPT-2's GELU, `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, is eight passes over the widest activations of a layer;
results differ by rounding.
"""

from __future__ import annotations

from torch import nn
from transformers.activations import FastGELUActivation, NewGELUActivation


def use_single_pass(body: nn.Module) -> int:
    """Replace such activations in place; returns how many there were."""
    found = [
        (module, name)
        for module in body.modules()
        for name, child in module.named_children()
        if type(child) in (NewGELUActivation, FastGELUActivation)
    ]
    for module, name in found:
        setattr(module, name, nn.GELU(approximate="tanh"))
    return len(found)
