"""Hidden states of packed segments: eager at any length, or compiled and recorded at fixed sizes.

    loose    a row as long as its tokens (a few fillers): a CPU, and batches that fit no size
    framed   after `prepare` on CUDA: a fixed size, compiled layers, replayed from a recording

A way that fails is left for the rest of the process with one warning: a recording for plain calls, compiled layers for
eager ones. Running out of memory is not such a failure: it reaches the caller, who calls `shrink`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from operators import attention
from operators.attention import Layout, Path
from operators.body.agree import agree
from operators.body.exact import repeatable
from operators.body.frame import BLOCK, Bounds, Frame, Size, Sizes, cumulative_of, filled, positions_of, rounded_up
from operators.body.graphs import Graphs, Recorder, Repeats
from operators.body.layers import compile_layers, row_alignment
from operators.failures import first_line, raise_if_out_of_memory
from operators.staging import Uploads
from operators.windows import MIN_BATCH_TOKENS

log = logging.getLogger(__name__)


class PackedBody:
    """Call with ids `[T]`, on the host or the device, and bounds that tile them: hidden states `[T, D]`.

    The result is valid until the next call: it may lie in a buffer that the next call overwrites.
    `paths`: of attention, in order of preference. `repeatable`: fixed size and order of sums, see `ModelOptions`.
    """

    def __init__(
        self, body: nn.Module, device: torch.device, *, paths: Sequence[Path] = ("segments",), repeatable: bool = False
    ) -> None:
        self.body, self.device, self.paths = body, device, tuple(paths)
        self.repeatable = repeatable and device.type == "cuda"  # a CPU's rows keep their bits at any size
        self.sizes: Sizes | None = None
        self._uploads = Uploads(device, depth=6)  # two batches of three: a ring of fewer would wait for the device
        self._undo_compile: Callable[[], None] | None = None
        self._recording = False
        self._least, self._multiple = MIN_BATCH_TOKENS, row_alignment(body)
        if device.type == "cuda":
            self._least = self._multiple = BLOCK
        self.release()

    def prepare(self, batch_tokens: int, longest: int, *, recording: bool) -> None:
        """Fixed sizes from here on, for batches of `batch_tokens` and segments of at most `longest` tokens."""
        self.release()
        self.sizes = Sizes.of(batch_tokens, longest, only_largest=self.repeatable)
        self._recording = recording

    def shrink(self, batch_tokens: int) -> None:
        """Take smaller sizes and give back what the larger ones held."""
        self.release()
        if self.sizes is not None:
            self.sizes = Sizes.of(batch_tokens, self.sizes.longest, only_largest=self.sizes.only_largest)

    def release(self) -> None:
        """Free recordings and buffers; they are made again when they are needed."""
        self._frames: dict[Size, Frame] = {}
        self._recorder: Recorder = Graphs(self.device) if self.device.type == "cuda" else Repeats()
        self._out_TD: Tensor | None = None

    def loosen(self) -> None:
        """No fixed sizes any more, and nothing held for them."""
        self.release()
        self.sizes = None

    @property
    def compiled(self) -> bool:
        """Whether layers run compiled."""
        return self._undo_compile is not None

    def compile(self) -> None:
        """Compile the layers, at their next call."""
        self._undo_compile = self._undo_compile or compile_layers(self.body)

    def stop_compiling(self) -> None:
        """Back to eager layers; recordings made of compiled ones go."""
        if self._undo_compile is not None:
            self._undo_compile()
            self._undo_compile = None
            self.release()

    @torch.inference_mode()
    def __call__(self, ids_T: Tensor, bounds: Bounds) -> Tensor:
        size = self.sizes.fit(bounds) if self.sizes is not None else None
        return self._loose(ids_T, bounds) if size is None else self._framed(ids_T, bounds, size)

    def _loose(self, ids_T: Tensor, bounds: Bounds) -> Tensor:
        n = ids_T.shape[0]
        longest = max(b - a for a, b in bounds)
        every = filled(bounds, rounded_up(max(n, self._least), self._multiple), max(longest, MIN_BATCH_TOKENS))
        ids = ids_T if ids_T.device == self.device else self._uploads.put(ids_T)
        if every[-1][1] > n:
            ids = torch.cat([ids, ids.new_zeros(every[-1][1] - n)])
        positions = self._uploads.put(torch.from_numpy(positions_of(every)))
        longest = max(b - a for a, b in every)
        cumulative = self._cumulative(every) if "varlen" in self.paths else None
        return self._forward(ids, positions, Layout(every, longest, cumulative, self.paths, self.repeatable))[:n]

    def _cumulative(self, bounds: Bounds) -> Tensor:
        return self._uploads.put(torch.from_numpy(cumulative_of(bounds, len(bounds))))

    def _framed(self, ids_T: Tensor, bounds: Bounds, size: Size) -> Tensor:
        assert self.sizes is not None
        if size not in self._frames:
            self._frames[size] = Frame(size, self._uploads)
        frame, n = self._frames[size], ids_T.shape[0]
        layout = frame.fill(ids_T, bounds, self.sizes.longest, self.paths, self.repeatable)
        if self._out_TD is not None and self._replayed(frame, layout):
            return self._out_TD[:n]
        with attention.paths_taken() as taken:
            out = self._forward(frame.ids, frame.positions, layout)
        if self._recording and self._recorder.can_record(taken):
            self._record(frame, layout, out)
        return out[:n]

    def _replayed(self, frame: Frame, layout: Layout) -> bool:
        # The recorder of plain calls reads the layout anew; a graph has its own, with the same buffers.
        with attention.in_force(layout):
            return self._recorder.replay(frame.size)

    def _record(self, frame: Frame, layout: Layout, expected_TD: Tensor) -> None:
        """Record this size's pass, and keep it only if it gives what the plain pass gave."""
        try:
            if self._out_TD is None:
                assert self.sizes is not None
                self._out_TD = expected_TD.new_empty(self.sizes.largest, expected_TD.shape[1])
            out = self._out_TD[: frame.size.tokens]
            with attention.in_force(layout):
                self._recorder.record(frame.size, lambda: out.copy_(self._once(frame.ids, frame.positions)))
            self._replayed(frame, layout)
            sound = torch.isfinite(expected_TD).all(1)  # a document may break the model: that says nothing of a replay
            if not bool(sound.any()) or agree(out[sound], expected_TD[sound], out.dtype):
                return
            reason = "a replay gave other numbers"
        except Exception as error:  # whatever a layer does that cannot be recorded
            raise_if_out_of_memory(error)
            reason = first_line(error)
        log.warning("forward passes are not recorded, exact but slower: %s", reason)
        self._recording = False
        self.release()

    def _forward(self, ids_T: Tensor, positions_T: Tensor, layout: Layout) -> Tensor:
        with attention.in_force(layout):
            if not self.compiled:
                return self._once(ids_T, positions_T)
            try:
                return self._once(ids_T, positions_T)
            except Exception as error:  # whatever a broken tool chain raises
                raise_if_out_of_memory(error)
                log.warning("layers run uncompiled, exact but slower: %s", first_line(error))
            self.stop_compiling()
            return self._once(ids_T, positions_T)

    def _once(self, ids_T: Tensor, positions_T: Tensor) -> Tensor:
        with repeatable(self.repeatable):
            out: Tensor = self.body(
                input_ids=ids_T[None], position_ids=positions_T[None], attention_mask=None, use_cache=False
            ).last_hidden_state[0]
        return out
