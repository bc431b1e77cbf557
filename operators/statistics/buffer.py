"""Where hidden states wait, side by side with the tokens they are to predict, until a kernel takes them all at once."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from operators.head import GivenLogits, VocabularyHead


class RowBuffer:
    """`hidden_RD` in the dtype of the head's factors and `target_R`, on the head's device, made once and reused."""

    def __init__(self, head: VocabularyHead | GivenLogits, rows: int) -> None:
        self.hidden_RD = torch.zeros(rows, head.width, device=head.device, dtype=head.product_dtype)
        self.target_R = torch.zeros(rows, dtype=torch.long, device=head.device)

    def put(self, hidden_LD: Tensor, target_L: Tensor, at: int) -> None:
        """Copy rows in, from row `at` on."""
        stop = at + len(target_L)
        self.hidden_RD[at:stop] = hidden_LD
        self.target_R[at:stop] = target_L

    def filled(self, n: int, rows: int) -> tuple[Tensor, Tensor]:
        """The first `rows` rows, those from `n` on zeroed: a kernel's rows come in whole tiles."""
        self.hidden_RD[n:rows] = 0
        self.target_R[n:rows] = 0
        return self.hidden_RD[:rows], self.target_R[:rows]


class BufferedStatistics(ABC):
    """What kernels share: rows are put piece by piece into a buffer of `rows` rows, then taken together."""

    def __init__(self, head: VocabularyHead | GivenLogits, rows: int) -> None:
        self.rows = rows
        self._buffer = RowBuffer(head, rows)

    def put(self, hidden_LD: Tensor, target_L: Tensor, at: int) -> None:
        """Let rows wait for `run`, from place `at` on."""
        self._buffer.put(hidden_LD, target_L, at)

    def __call__(self, hidden_RD: Tensor, target_R: Tensor) -> dict[str, Tensor]:
        self.put(hidden_RD, target_R, 0)
        return self.run(len(target_R))

    @abstractmethod
    def run(self, n: int) -> dict[str, Tensor]:
        """Statistics of the first `n` rows that were put."""
