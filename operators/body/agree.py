"""How far two exact ways of computing hidden states or logits may differ: the stated tolerance off the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

# Relative to the largest magnitude: rounding of the dtype, not of the method.
AGREEMENT = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def agree(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    """Whether `a` differs from `b` by no more than `AGREEMENT[dtype]` of the largest magnitude of `b`."""
    a, b = a.float(), b.float()
    return bool(((a - b).abs().max() <= AGREEMENT[dtype] * b.abs().max().clamp_min(1e-6)).item())
