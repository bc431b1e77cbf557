"""The reference kernel: a matrix product a tile into one reused buffer, then `fold`. Runs on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from operators.head import GivenLogits, VocabularyHead
from operators.statistics.buffer import BufferedStatistics
from operators.statistics.fold import ROW_ALIGNMENT, make_fold
from operators.statistics.options import TileOptions
from operators.statistics.state import finish, initial_state, log_partition
from operators.statistics.topk import TopK, topk_columns
from schemas.tokens import TOPK

CPU_TILE = (512, 2048)
CUDA_TILE = (4096, 2048)  # 32 MiB of float32: it stays in the second-level cache between the product and the fold

GIVEN_BYTES = 64 << 20


class TiledStatistics(BufferedStatistics):
    """Statistics of one head, with buffers that are made once and reused.

    Call with `hidden_RD` (at most `rows` rows) and `target_R` (vocabulary ids), or `put` rows piece by piece and `run`;
    the result maps column names to `[R]` tensors, `topk_id` and `topk_logprob` to `[R, K]`. On a CPU a row's numbers
    depend on its own hidden state alone: rows are filled up to a multiple of 16 so that each takes the same code path.
    """

    name = "torch"

    def __init__(
        self,
        head: VocabularyHead | GivenLogits,
        groups: frozenset[str] = frozenset(),
        options: TileOptions | None = None,
    ) -> None:
        self.head, self.groups = head, groups
        chosen = options or TileOptions()
        rows, columns = CUDA_TILE if head.device.type == "cuda" else CPU_TILE
        rows, self.columns = chosen.rows or rows, chosen.columns or columns
        if isinstance(head, GivenLogits):  # rows that wait are as wide as the vocabulary
            most = GIVEN_BYTES // (4 * head.vocab_size) // ROW_ALIGNMENT * ROW_ALIGNMENT
            rows = max(ROW_ALIGNMENT, min(rows, most))
        super().__init__(head, rows)
        self.options = replace(chosen, rows=rows, columns=self.columns)
        self._tile_RC = torch.empty(self.rows, self.columns, device=head.device)
        self._scratch_CD = head.scratch(self.columns)
        self._first_id = torch.zeros((), device=head.device)
        self.top_k = min(chosen.top_k, head.vocab_size) if TOPK in groups else 0
        measured = chosen.deterministic and head.device.type != "cpu"  # what is compiled there is tuned by measurement
        self._fold = make_fold(groups, head.shape, head.device, False if measured else chosen.compiled)

    @torch.inference_mode()
    def run(self, n: int) -> dict[str, Tensor]:
        """Statistics of the first `n` rows that were put."""
        # A product's rounding may follow its shape on an accelerator: one shape serves all where bits must not vary.
        fixed = self.options.deterministic and self.head.device.type != "cpu"
        rows = self.rows if fixed else -(-n // ROW_ALIGNMENT) * ROW_ALIGNMENT
        hidden, target = self._buffer.filled(n, rows)
        with self.head.exact_products():
            target_logit = self.head.target_logits(hidden, target)
            state = initial_state(rows, self.groups, hidden.device)
            best = TopK(rows, self.top_k, hidden.device)
            for first, width in self._tiles():
                tile = self._tile(hidden, first, width)
                pin_target(tile, target - first, target_logit)
                best.offer(tile if width == self.columns else tile[:, :width], first)
                state = self._fold(tile, target_logit, state, self._first_id.fill_(first))
        out = finish(state, target_logit, self.groups, self.head.shape)
        if self.top_k:
            out |= topk_columns(best.values, best.ids, self.head.shape, log_partition(state))
        return {name: values[:n] for name, values in out.items()}

    def _tiles(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self.head.vocab_size, self.columns):
            yield first, min(self.columns, self.head.vocab_size - first)

    def _tile(self, hidden: Tensor, first: int, width: int) -> Tensor:
        """Raw logits `[R, C]`; a last, narrower tile is filled up with -inf, so that one kernel fits all."""
        tile = self._tile_RC[: hidden.shape[0]]
        self.head.logits(hidden, first, tile[:, :width], self._scratch_CD)
        tile[:, width:] = -torch.inf
        return tile


def pin_target(tile_RC: Tensor, column_R: Tensor, logit_R: Tensor) -> None:
    """Make the target's own column hold exactly its logit, so that no token can be counted as above itself."""
    width = tile_RC.shape[1]
    inside = (column_R >= 0) & (column_R < width)
    column = column_R.clamp(0, width - 1)[:, None]
    tile_RC.scatter_(1, column, torch.where(inside[:, None], logit_R[:, None], tile_RC.gather(1, column)))
