"""The kernel `triton`: launches the fused head, merges the splits of the vocabulary, and looks up the top-k.

What it holds beyond the weights, for bfloat16 of width 2048: 32 MiB of hidden states waiting for a launch, states of a
few MiB, and with the group `topk` at most 24 MiB more, whatever the vocabulary (`FusedStatistics.nbytes`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import replace

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from operators.failures import first_line
from operators.head import LogitShape, VocabularyHead
from operators.statistics import kernel
from operators.statistics.buffer import BufferedStatistics
from operators.statistics.choose import interpreted
from operators.statistics.launch import DEFAULT_LAUNCH, Launch, tuned
from operators.statistics.options import TileOptions
from operators.statistics.state import finish, initial_state, log_partition, merge, state_names
from operators.statistics.topk import BLOCK, topk_columns
from schemas.tokens import EXTREMES, NUCLEUS, RENYI, TOPK

log = logging.getLogger(__name__)

HIDDEN_BYTES = 32 << 20
TOPK_BYTES = 24 << 20
MAX_ROWS = 8192
ROWS_STEP = 128  # the largest BM: a launch's rows are a multiple of it
PROGRAMS_A_CORE = 2  # so that one's products run beside the other's sums
_TARGET_ROWS = 64


class FusedStatistics(BufferedStatistics):
    """Statistics of one head by one kernel; called as `TiledStatistics` is.

    A row's bits depend on its own hidden state and on the launch (tile shape, splits) alone: never on its neighbours or
    their number. The launch is a fixed one if `options.deterministic`, else the fastest of a few, measured once on a
    kind of device for a shape of head and remembered there.
    """

    name = "triton"

    def __init__(
        self, head: VocabularyHead, groups: frozenset[str] = frozenset(), options: TileOptions | None = None,
        launch: Launch | None = None,
    ) -> None:  # fmt: skip
        self.head, self.groups, self.options = head, groups, options or TileOptions()
        self.top_k = min(self.options.top_k, head.vocab_size) if TOPK in groups else 0
        super().__init__(head, _capacity(head, self.top_k, self.options.rows))
        self.options = replace(self.options, rows=self.rows, columns=None)
        device, vocab = head.device, head.vocab_size
        self._target_logit_R = torch.zeros(self.rows, device=device)
        self._maxima_RB = torch.empty(self.rows if self.top_k else 0, triton.cdiv(vocab, BLOCK), device=device)
        self._interpreted = interpreted()
        # What is compiled is tuned by measurement, too.
        compiled = device.type == "cuda" and not self.options.deterministic
        self._conclude = _conclusion(groups, head.shape, device, compiled=compiled)
        self._set_launch(launch or DEFAULT_LAUNCH)
        if launch is None and not self.options.deterministic and device.type == "cuda":
            with self._device():
                self._set_launch(tuned(self._tuning_key(), self._trial))

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, the candidates of a top-k look-up included."""
        waiting = (self._buffer.hidden_RD, self._buffer.target_R)
        buffers = (*waiting, self._target_logit_R, self._maxima_RB, self._parts_SPR)
        candidates = 4 * self.rows * self.top_k * BLOCK
        return sum(b.numel() * b.element_size() for b in buffers) + candidates

    def _set_launch(self, launch: Launch) -> None:
        self.launch = launch
        blocks, tiles = self.rows // launch.rows, triton.cdiv(self.head.vocab_size, launch.columns)
        splits = max(1, min(tiles, round(PROGRAMS_A_CORE * _cores(self.head.device) / blocks)))
        self._tiles_per_split = triton.cdiv(tiles, splits)
        self._splits = triton.cdiv(tiles, self._tiles_per_split)  # none is left without a tile
        shape = (len(state_names(self.groups)), self._splits, self.rows)
        self._parts_SPR = torch.empty(shape, device=self.head.device)

    def _device(self) -> contextlib.AbstractContextManager[object]:
        """Triton launches on the current device, which need not be the model's."""
        device = self.head.device
        return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

    @torch.inference_mode()
    def run(self, n: int) -> dict[str, Tensor]:
        """Statistics of the first `n` rows that were put."""
        rows = triton.cdiv(n, ROWS_STEP) * ROWS_STEP
        with self._device():
            self._buffer.filled(n, rows)
            self._launch(rows)
            columns, state = self._conclude(self._parts_SPR[:, :, :rows], self._target_logit_R[:rows])
            if self.top_k:
                columns |= self._topk(n, state[:, :n])
        return {name: values[:n] for name, values in columns.items()}

    def _factors(self) -> tuple[object, object]:
        """What the kernel multiplies: the tensors, or descriptors of their tiles.

        Raises:
            ValueError: descriptors are wanted of weights whose rows do not start at multiples of 16 bytes.
        """
        launch, hidden, weight = self.launch, self._buffer.hidden_RD, self.head.weight_VD
        if not launch.described:
            return hidden, weight
        if weight.stride(0) * weight.element_size() % 16 or weight.data_ptr() % 16:
            raise ValueError("rows of the weight do not start at multiples of 16 bytes")
        return (
            TensorDescriptor.from_tensor(hidden, [launch.rows, launch.widths]),
            TensorDescriptor.from_tensor(weight, [launch.columns, launch.widths]),
        )

    def _launch(self, rows: int) -> None:
        """Target logits and states of the first `rows` rows (a multiple of ROWS_STEP) of the buffers."""
        head, launch, vocab, width = self.head, self.launch, self.head.vocab_size, self.head.width
        even = width % launch.widths == 0
        bias = head.weight_VD if head.bias_V is None else head.bias_V  # never read where there is none
        shape = head.shape
        scale, cap = (1.0, None) if shape is None else (shape.scale, shape.cap)
        has_bias = head.bias_V is not None
        kernel.target_logits[(rows // _TARGET_ROWS,)](
            self._buffer.hidden_RD, head.weight_VD, bias, self._buffer.target_R, self._target_logit_R, width,
            BIAS=has_bias, BM=_TARGET_ROWS, BK=launch.widths, EVEN=even, INTERPRETED=self._interpreted, num_warps=4,
        )  # fmt: skip
        kernel.fused_head[(rows // launch.rows, self._splits)](
            *self._factors(), bias, self._buffer.target_R, self._target_logit_R, self._parts_SPR,
            self._maxima_RB, vocab, width, self.rows, triton.cdiv(vocab, BLOCK), self._tiles_per_split,
            scale, 1.0 if cap is None else cap,
            BIAS=has_bias, SHAPED=shape is not None, CAPPED=cap is not None,
            EXTREMES=EXTREMES in self.groups, NUCLEUS=NUCLEUS in self.groups, RENYI=RENYI in self.groups,
            TOPK_BLOCK=BLOCK if self.top_k else 0, DESCRIBED=launch.described,
            BM=launch.rows, BN=launch.columns, BK=launch.widths, EVEN=even, INTERPRETED=self._interpreted,
            num_warps=launch.warps, num_stages=launch.stages,
        )  # fmt: skip

    def _topk(self, rows: int, state_SR: Tensor) -> dict[str, Tensor]:
        """The K largest: their blocks by the maxima, then the logits of those blocks once more."""
        head, vocab, width = self.head, self.head.vocab_size, self.head.width
        k = min(self.top_k, self._maxima_RB.shape[1])
        blocks = self._maxima_RB[:rows].topk(k, dim=1).indices
        logits = torch.empty(rows, k * BLOCK, device=head.device)
        bias = head.weight_VD if head.bias_V is None else head.bias_V
        kernel.block_logits[(rows, k)](
            self._buffer.hidden_RD, head.weight_VD, bias, blocks, self._buffer.target_R, self._target_logit_R, logits,
            vocab, width, k,
            BIAS=head.bias_V is not None, BLOCK=BLOCK, BK=self.launch.widths, EVEN=width % self.launch.widths == 0,
            INTERPRETED=self._interpreted,
            num_warps=4,
        )  # fmt: skip
        values, places = logits.topk(self.top_k, dim=1)
        ids = blocks.gather(1, places // BLOCK) * BLOCK + places % BLOCK
        return topk_columns(values, ids, head.shape, log_partition(state_SR))

    def _tuning_key(self) -> dict[str, object]:
        head = self.head
        return {
            "device": torch.cuda.get_device_name(head.device),
            "triton": triton.__version__,
            "dtype": str(head.weight_VD.dtype),
            "rows": self.rows,
            "vocabulary": head.vocab_size,
            "width": head.width,
            "bias": head.bias_V is not None,
            "shaped": head.shape is not None,
            "groups": sorted(self.groups),
        }

    def _trial(self, launch: Launch) -> Callable[[], None]:
        """One launch over all rows, ready to be timed. The buffers hold zeros: time does not depend on them."""
        self._set_launch(launch)
        self._launch(self.rows)
        return functools.partial(self._launch, self.rows)


def _capacity(head: VocabularyHead, top_k: int, wanted: int | None) -> int:
    """Rows a launch takes, at most: bounded in bytes, whatever the width, the vocabulary and K."""
    rows = min(wanted or MAX_ROWS, HIDDEN_BYTES // (head.width * head.weight_VD.element_size()))
    if top_k:
        blocks = triton.cdiv(head.vocab_size, BLOCK)
        rows = min(rows, TOPK_BYTES // (4 * (blocks + min(top_k, blocks) * BLOCK)))
    return max(ROWS_STEP, rows // ROWS_STEP * ROWS_STEP)


def _cores(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


Conclusion = Callable[[Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]


def _conclusion(
    groups: frozenset[str], shape: LogitShape | None, device: torch.device, *, compiled: bool
) -> Conclusion:
    """From the splits' states to columns: some sixty small operations, one kernel where they are compiled."""

    def conclude(parts_SPR: Tensor, target_logit_R: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        state = merge(parts_SPR, groups)
        return finish(state, target_logit_R, groups, shape), state

    if not compiled:
        return conclude
    fast = torch.compile(conclude, dynamic=True)
    try:
        with torch.inference_mode():
            fast(initial_state(256, groups, device)[:, None].expand(-1, 2, -1), torch.zeros(256, device=device))
    except Exception as error:  # whatever a broken tool chain raises
        log.warning("columns are computed uncompiled, slower: %s", first_line(error))
        return conclude
    return fast
