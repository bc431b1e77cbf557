"""The language-model head as plain numbers: logits = shape(hidden @ weight.T + bias), a slice of the vocabulary a time.

Logits are always float32, whatever the model's dtype: rounding them to bfloat16 costs 4e-3 nats and reorders ranks. On
CUDA the product takes half-precision inputs and returns float32; on a CPU weights are widened one tile at a time and
bfloat16 models use oneDNN's bfloat16 product with float32 accumulation, which is exact for inputs that are bfloat16.

Shapes: `R` rows, `V` vocabulary, `D` width, `C` columns of a tile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.products import LONGEST_SUM, available, linear

_DIAGONAL_BLOCK = 64


@dataclass(frozen=True)
class LogitShape:
    """The monotone map from raw to final logits: `cap * tanh(scale * l / cap)`, or `scale * l` without a cap."""

    scale: float = 1.0
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.scale <= 0 or (self.cap is not None and self.cap <= 0):
            raise ValueError(
                f"logit scale {self.scale} and cap {self.cap} must be positive: ranks rely on a rising map"
            )

    def __call__(self, logits: Tensor) -> Tensor:
        if self.cap is None:
            return logits * self.scale
        return torch.tanh(logits * (self.scale / self.cap)) * self.cap


@dataclass(frozen=True)
class VocabularyHead:
    """`weight_VD` in the model's dtype, `bias_V` or None, `shape` or None for logits that are used as they are."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    shape: LogitShape | None = None

    @property
    def vocab_size(self) -> int:
        return self.weight_VD.shape[0]

    @property
    def width(self) -> int:
        return self.weight_VD.shape[1]

    @property
    def device(self) -> torch.device:
        return self.weight_VD.device

    @property
    def product_dtype(self) -> torch.dtype:
        """Dtype of the factors: float32 on a CPU, where no product widens its result, the weights' own elsewhere."""
        return torch.float32 if self.device.type == "cpu" else self.weight_VD.dtype

    def scratch(self, columns: int) -> Tensor | None:
        """A buffer `[C, D]` for widened weights, or None where the weights are used as they are."""
        if self.weight_VD.dtype == self.product_dtype:
            return None
        return torch.empty(columns, self.width, device=self.device, dtype=self.product_dtype)

    @contextlib.contextmanager
    def exact_products(self) -> Iterator[None]:
        """Within, CPU products of widened bfloat16 weights run at bfloat16 speed; the flag is restored on leaving."""
        if self.device.type != "cpu" or self.weight_VD.dtype != torch.bfloat16:
            yield
            return
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before

    def logits(self, hidden_RD: Tensor, first: int, out_RC: Tensor, scratch_CD: Tensor | None = None) -> None:
        """Write the raw logits of vocabulary ids `first : first + C` into `out_RC` (float32, may be strided).

        `scratch_CD` receives the widened weights where the weights are not of `product_dtype`.
        """
        stop = first + out_RC.shape[1]
        weight = self.weight_VD[first:stop]
        if scratch_CD is not None:
            weight = scratch_CD[: out_RC.shape[1]].copy_(weight)
        _product(hidden_RD, weight, out_RC, widened=scratch_CD is not None)
        if self.bias_V is not None:
            out_RC += self.bias_V[first:stop]

    def target_logits(self, hidden_RD: Tensor, target_R: Tensor) -> Tensor:
        """Raw logit of one vocabulary id a row, `[R]` float32, by the same kind of product as `logits`.

        Diagonals of small products, not row-wise dot products: those round differently, and a token would lose or win
        ties against identical rows of the weight.
        """
        out = torch.empty(hidden_RD.shape[0], device=self.device)
        for start in range(0, hidden_RD.shape[0], _DIAGONAL_BLOCK):
            rows = slice(start, start + _DIAGONAL_BLOCK)
            weight = self.weight_VD[target_R[rows]].to(self.product_dtype)
            block = torch.empty(weight.shape[0], weight.shape[0], device=self.device)
            _product(hidden_RD[rows], weight, block, widened=self.weight_VD.dtype != self.product_dtype)
            out[rows] = block.diagonal()
        return out if self.bias_V is None else out + self.bias_V[target_R]


@dataclass(frozen=True)
class GivenLogits:
    """The head of a model whose head cannot be separated: the rows given *are* the final logits, `[R, V]` float32."""

    vocab_size: int
    device: torch.device
    shape: None = None
    product_dtype: torch.dtype = torch.float32

    @property
    def width(self) -> int:
        return self.vocab_size

    def scratch(self, columns: int) -> None:
        return None

    def exact_products(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def logits(self, hidden_RD: Tensor, first: int, out_RC: Tensor, scratch_CD: Tensor | None = None) -> None:
        out_RC.copy_(hidden_RD[:, first : first + out_RC.shape[1]])

    def target_logits(self, hidden_RD: Tensor, target_R: Tensor) -> Tensor:
        return hidden_RD.gather(1, target_R[:, None])[:, 0]


def _product(left_RD: Tensor, right_CD: Tensor, out_RC: Tensor, *, widened: bool) -> None:
    short = left_RD.shape[1] <= LONGEST_SUM
    if short and not widened and available(left_RD.device, left_RD.dtype):
        out_RC.copy_(linear(left_RD, right_CD))
    elif left_RD.dtype == torch.float32:
        torch.mm(left_RD, right_CD.t(), out=out_RC)
    else:
        torch.mm(left_RD, right_CD.t(), out_dtype=torch.float32, out=out_RC)
