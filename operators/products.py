"""Float32 products on a CPU through oneDNN, whose kernels use the whole width of vector that this processor has.

    linear(x, W, b) == torch.nn.functional.linear(x, W, b), up to the order of summation

torch sends float32 products to MKL, and MKL takes a slower path on processors that are not Intel's: half the speed of
oneDNN on a Zen 5. A row's bits depend on the row and the weights alone: not on how many rows or columns a product has,
nor on where the row stands. oneDNN adds a whole sum in one run, which rounds more the longer it is; layers therefore
add pieces of at most 768, for a tenth of their time. Wider heads, which cannot be cut without a copy, keep MKL.
`assay bench products` measures all of this on the machine at hand.

Shapes: `R` rows, `K` summed over, `N` columns of the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LONGEST_SUM = 768  # products that are added in one run

# oneDNN keeps a compiled kernel for every shape it has met, 1024 of them by default: over batches of all lengths
# resident memory grew by 9 to 27 MiB a million tokens. It reads these at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `linear` serves such factors: float32 on a CPU, in a torch that was built with oneDNN."""
    onednn: Any = torch.backends.mkldnn
    built = onednn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return bool(built and device.type == "cpu" and dtype == torch.float32)


def fastest(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """`x, W -> x @ W.T` for such factors: `linear` where it serves them, torch's own elsewhere."""
    return linear if available(device, dtype) else nn.functional.linear


def linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """`x @ weight_NK.T + bias_N`, `[..., N]` for `x` of `[..., K]`; float32 on a CPU."""
    if x.numel() == x.shape[-1] or weight_NK.shape[0] == 1:
        # One row, or one column, is a matrix-vector product, which rounds differently: make it two.
        two_rows = x.reshape(-1, x.shape[-1])
        two_rows = torch.cat([two_rows, two_rows])
        wide = weight_NK if weight_NK.shape[0] > 1 else torch.cat([weight_NK, weight_NK])
        bias = bias_N if bias_N is None or len(bias_N) > 1 else torch.cat([bias_N, bias_N])
        out = _product(two_rows, wide, bias)[: len(two_rows) // 2, : len(weight_NK)]
        return out.reshape(*x.shape[:-1], len(weight_NK))
    return _product(x, weight_NK, bias_N)


def _product(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_NK, bias_N, "none", [], "")
    return out


class Linear(nn.Module):
    """A linear layer through `linear`. `weight`: `[N, K]`; `bias`: `[N]` or None."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_NK.detach().contiguous(), requires_grad=False)
        self.bias = None if bias_N is None else nn.Parameter(bias_N.detach(), requires_grad=False)
        self.out_features, self.in_features = self.weight.shape

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class LongLinear(nn.Module):
    """The same where sums are longer than `LONGEST_SUM`: added in equal pieces.

    Strided factors would take oneDNN's slowest path, so every piece is a layer, laid out for itself.
    """

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_NK.shape
        n_pieces = -(-self.in_features // LONGEST_SUM)
        self.widths = [len(places) for places in np.array_split(np.arange(self.in_features), n_pieces)]
        weights = torch.split(weight_NK.detach(), self.widths, dim=1)
        self.pieces = nn.ModuleList(Linear(w, None if i else bias_N) for i, w in enumerate(weights))

    @property
    def weight(self) -> Tensor:
        """A copy of the whole weight `[N, K]`, for a model that looks at it."""
        return torch.cat([piece.get_parameter("weight") for piece in self.pieces], dim=1)

    @property
    def bias(self) -> Tensor | None:
        first = self.pieces[0]
        assert isinstance(first, Linear)
        return first.bias

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.widths, dim=-1)
        out: Tensor = self.pieces[0](parts[0].contiguous())
        for piece, part in zip(self.pieces[1:], parts[1:], strict=True):
            out = out + piece(part.contiguous())
        return out


def use_fast_products(body: nn.Module) -> int:
    """Replace the body's plain linear layers in place where `linear` serves them; returns how many there were.

    GPT-2's transposed layers are turned once. Layers with hooks or of a derived class stay as they are: they do more.
    """
    found = [
        (parent, name)  # not the layer: a list of them would keep every weight that is turned or cut
        for parent in body.modules()
        for name, child in parent.named_children()
        if type(child) in (nn.Linear, Conv1D) and not child._forward_hooks and not child._forward_pre_hooks
    ]
    count = 0
    for parent, name in found:
        layer = getattr(parent, name)
        weight: Tensor = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
        if available(weight.device, weight.dtype):
            made = Linear if weight.shape[1] <= LONGEST_SUM else LongLinear
            setattr(parent, name, made(weight, layer.bias))
            count += 1
    return count
