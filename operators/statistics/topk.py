"""The `K` largest logits of each row, found through the maxima of blocks of columns.

A row's K largest logits lie in the K blocks with the largest maxima (ties aside, where any choice is as good: were an
element of another block among them, that block's maximum would be, too). So a tile's maxima are searched, and then K
blocks. How many entries are looked at depends on no row: torch breaks ties by place, and a row's ids must not follow
its neighbours.

Shapes: `R` rows, `C` columns of a tile, `K` kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.head import LogitShape

BLOCK = 32  # columns in a row, of the fused kernel
_MEMBERS = 16  # columns of a block here, `C / 16` apart: maxima over a middle dimension fill whole vectors


class TopK:
    """The `K` largest raw logits a row over the tiles seen, with their vocabulary ids; `K` = 0 keeps nothing."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.k = k
        self.values = torch.full((rows, k), -torch.inf, device=device)
        self.ids = torch.zeros(rows, k, dtype=torch.long, device=device)

    def offer(self, tile_RC: Tensor, first: int) -> None:
        """Take in the tile whose first column has the vocabulary id `first`."""
        if not self.k:
            return
        values, columns = self._candidates(tile_RC)
        pool = torch.cat([self.values, values], dim=1)
        self.values, place = pool.topk(self.k, dim=1)
        self.ids = torch.cat([self.ids, columns + first], dim=1).gather(1, place)

    def _candidates(self, tile_RC: Tensor) -> tuple[Tensor, Tensor]:
        """Values and columns of a tile's entries, the K largest among them."""
        columns = tile_RC.shape[1]
        apart = columns // _MEMBERS
        if columns % _MEMBERS or self.k >= apart:  # too few blocks to leave any out
            return largest(tile_RC, self.k)
        chosen = tile_RC.view(-1, _MEMBERS, apart).amax(1).topk(self.k, dim=1).indices
        places = (chosen[:, :, None] + torch.arange(0, columns, apart, device=chosen.device)).flatten(1)
        return tile_RC.gather(1, places), places


def largest(tile_RC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the `min(k, C)` largest entries of each row, in falling order."""
    values, places = tile_RC.topk(min(k, tile_RC.shape[1]), dim=1)
    return values, places


def topk_columns(
    values_RK: Tensor, ids_RK: Tensor, shape: LogitShape | None, log_partition_R: Tensor
) -> dict[str, Tensor]:
    """The columns `topk_id` and `topk_logprob`, `[R, K]`, of raw logits and the rows' log-partition."""
    final = values_RK if shape is None else shape(values_RK)
    logprob = (final - log_partition_R[:, None]).clamp_max(0.0)
    return {"topk_id": ids_RK.to(torch.int32), "topk_logprob": logprob}
