"""Loads any Hugging Face causal LM and finds out, by trying, how it may be scored exactly.

Established on the loaded weights before a corpus is touched, never assumed from the family's name:

- *packed or alone*: whether the body gives the same hidden states when segments are packed into one row, and by which
  path of attention. Recurrent layers, attention biases and models without an attention interface do not: each segment
  then runs alone.
- *compiled or eager*: whether compiled layers, where they are wanted, give the same hidden states.
- *same bits*, where asked for: whether rows keep their bits among other neighbours.
- *separate or whole*: whether `shape(hidden @ W.T + b)` reproduces the model's own logits, also with hidden states
  blown up so far that a forgotten soft-cap or scale shows. If not, the model's own logits are taken, a few rows at a
  time.

Both fall-backs are exact and slower, and say so in the log. Weights come from safetensors only.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from operators import attention
from operators.activations import use_single_pass
from operators.body import PackedBody
from operators.body.agree import agree
from operators.body.exact import exact_products, prepare_repeatable, repeatable
from operators.body.probe import moved_rows, packing_obstacle, probe_bounds, probe_ids
from operators.failures import first_line, raise_if_out_of_memory
from operators.head import GivenLogits, VocabularyHead
from operators.head_probe import separate_head
from operators.model_bytes import check_device
from operators.model_files import ModelError, ModelOptions, context_limit, model_folder, read_config
from operators.products import use_fast_products
from operators.statistics.fold import compiler_available

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_GIVEN_LOGITS_BYTES = 64 << 20


class ScoringModel:
    """A causal LM ready to be scored: `hidden` gives the head's input, `head` turns it into logits.

    `packed`: segments share a forward pass. `vocab_size`: width of the softmax, padding included.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        probe_tokens: int = 96,
        compile: bool | None = None,  # noqa: A002 - the option's name
        deterministic: bool = False,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = model.config.get_text_config(decoder=True)
        self.deterministic = deterministic
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        exact_products(self.device)
        if deterministic:
            prepare_repeatable(self.device)
        body: nn.Module = model.base_model if model.get_decoder() is model else model.get_decoder()
        use_single_pass(body)
        if not compile:  # compiled layers choose their products themselves
            use_fast_products(body)
        self.body = PackedBody(body, self.device, repeatable=deterministic)
        self._probe_tokens = min(probe_tokens, context_limit(self.config) or probe_tokens)
        with torch.inference_mode():
            self._check_causal()
            self.packed = self._try_packed()
            self._try_compiled(compile)
            self.head = self._find_head()
        self.vocab_size = self.head.vocab_size

    @classmethod
    def load(cls, options: ModelOptions) -> ScoringModel:
        """Load weights from safetensors onto the device.

        Raises:
            ModelError: see `model_folder`; unknown architecture; a dtype the weights cannot be cast to; weights that
                do not fit into the device, or into `memory_share` of it.
        """
        folder, device = model_folder(options), options.torch_device()
        read_config(folder, trust_remote_code=options.trust_remote_code)
        check_device(folder, options.dtype, device, options.memory_share)
        if device.type == "cuda" and options.memory_share < 1:  # several processes share it: none takes another's part
            torch.cuda.set_per_process_memory_fraction(options.memory_share, device)
        if options.deterministic:
            prepare_repeatable(device)
        dtype = "auto" if options.dtype == "auto" else DTYPES[options.dtype]
        with _quiet_transformers():
            try:
                model, loaded = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=dtype,
                    use_safetensors=True,
                    trust_remote_code=options.trust_remote_code,
                    output_loading_info=True,
                )
            except (SafetensorError, OSError, ValueError, RuntimeError) as error:
                raise ModelError(f"model {folder} cannot be loaded: {first_line(error)}") from error
        _check_complete(folder, loaded)
        return cls(model.to(device), compile=options.compile, deterministic=options.deterministic)

    def prepare(self, batch_tokens: int, longest: int) -> None:
        """Take fixed sizes where the device gains from them. `longest`: tokens of the longest segment to come.

        Raises:
            ModelError: `deterministic` is asked for and rows change with their neighbours.
        """
        if self.device.type == "cuda" and self.packed:
            self.body.prepare(batch_tokens, longest, recording=True)
        if self.deterministic:
            self._check_bits(max(batch_tokens, longest), longest)

    def shrink(self, batch_tokens: int) -> None:
        """Take smaller sizes after memory ran out, and free what larger ones held.

        Raises:
            ModelError: `deterministic` on CUDA: rows before and after would not be computed at one size.
        """
        before = self.body.sizes
        self.body.shrink(batch_tokens)
        if self.deterministic and self.body.sizes != before:
            raise ModelError(
                f"out of memory with --deterministic, whose batches have one size: run again with --batch-tokens "
                f"{batch_tokens} or less"
            )

    @property
    def separate(self) -> bool:
        """Whether the head's product is computed tile by tile, so that memory does not grow with the vocabulary."""
        return isinstance(self.head, VocabularyHead)

    def hidden(self, ids_T: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        """Final hidden states `[T, D]` of packed segments, `bounds` tiling `ids_T` (on the host or the device).

        Valid until the next call: on CUDA they lie in a buffer that it overwrites.
        """
        if self.packed:
            return self.body(ids_T, bounds)
        ids = ids_T.to(self.device)
        return torch.cat([self._alone(ids[a:b]) for a, b in bounds])

    def own_logits(self, ids_L: Tensor, first: int) -> Iterator[Tensor]:
        """The model's own logits `[R, V]` (float32) after the tokens `first : L - 1` of one segment, in pieces of rows.

        Pieces are bounded in bytes where the model can keep chosen rows only; each then costs a forward pass of the
        body.
        """
        rows = torch.arange(first, len(ids_L) - 1, device=self.device)
        piece = max(1, _GIVEN_LOGITS_BYTES // (4 * self.vocab_size))
        if "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            yield from torch.split(self._own_logits(ids_L)[rows], piece)
            return
        for keep in torch.split(rows, piece):
            yield self._own_logits(ids_L, logits_to_keep=keep)

    def _alone(self, ids_L: Tensor) -> Tensor:
        alone = attention.plain([(0, len(ids_L))])  # read where packing was given up with our attention in place
        with repeatable(self.body.repeatable), attention.in_force(alone):
            hidden: Tensor = self.body.body(input_ids=ids_L[None], use_cache=False).last_hidden_state[0]
        return hidden

    def _own_logits(self, ids_L: Tensor, **keep: Tensor) -> Tensor:
        with repeatable(self.body.repeatable):
            logits: Tensor = self.model(input_ids=ids_L[None], use_cache=False, **keep).logits[0]
        return logits.float()

    def _check_causal(self) -> None:
        """Raise if a token can see the ones after it: then nothing here would be a next-token probability."""
        ids = self._probe_ids()
        half = len(ids) // 2
        changed = torch.cat([ids[:half], (ids[half:] + 1) % self.config.vocab_size])
        before, after = self._alone(ids)[:half], self._alone(changed)[:half]
        if bool(torch.isfinite(before).all()) and not agree(before, after, self.dtype):
            raise ModelError(f"{self._name} is not causal: its hidden states change with the tokens that follow")

    def _try_packed(self) -> bool:
        """Switch to our attention; keep the first path by which every segment's hidden states survive the packing."""
        reason = packing_obstacle(self.config, self.device)
        if reason is None:
            bounds = probe_bounds(self._probe_tokens)
            ids = probe_ids(bounds[-1][1], self.config.vocab_size).to(self.device)
            alone = torch.cat([self._alone(ids[a:b]) for a, b in bounds])
            before = self.model.config._attn_implementation
            attention.register()
            for first in range(0 if self.device.type == "cuda" else len(attention.PATHS) - 1, len(attention.PATHS)):
                self.body.paths = attention.PATHS[first:]
                reason = self._packing_fault(ids, bounds, alone)
                if reason is None:
                    return True
                log.info("%s: packing by %s: %s", self._name, " or ".join(self.body.paths), reason)
            self.model.set_attn_implementation(before)
        log.warning("%s: segments run one at a time, exact but slower (%s)", self._name, reason)
        return False

    def _packing_fault(self, ids_T: Tensor, bounds: Sequence[tuple[int, int]], alone_TD: Tensor) -> str | None:
        """Why the paths of attention that are set do not give the hidden states of segments alone, or None."""
        try:
            self.model.set_attn_implementation(attention.IMPLEMENTATION)
            with attention.paths_taken() as taken:
                packed = self.body(ids_T, bounds)
        except Exception as error:  # models refuse a foreign attention, or packed positions, in many ways
            raise_if_out_of_memory(error)
            return f"{type(error).__name__}: {first_line(error)}"
        if not taken:
            return "its layers do not use transformers' attention interface"
        if not bool(torch.isfinite(alone_TD).all()):
            return "its hidden states are not finite in this dtype; try --dtype float32"
        if not agree(packed, alone_TD, self.dtype):
            return "packing changes hidden states"
        log.info("%s: packed, attention by %s", self._name, ", ".join(sorted(set(taken))))
        return None

    def _try_compiled(self, wanted: bool | None) -> None:
        """Compile the layers where that is wanted, and keep them compiled only if the hidden states stay the same."""
        if wanted is None:
            wanted = self.device.type == "cuda" and compiler_available(self.device)
        if not wanted or not self.packed:
            return
        bounds = probe_bounds(self._probe_tokens)
        ids = probe_ids(bounds[-1][1], self.config.vocab_size).to(self.device)
        eager = self.body(ids, bounds)
        self.body.compile()
        if not agree(self.body(ids, bounds), eager, self.dtype):
            log.warning("%s: layers run uncompiled, exact but slower (compiling changes hidden states)", self._name)
            self.body.stop_compiling()

    def _check_bits(self, room: int, longest: int) -> None:
        """Fall back to one segment at a time if packed rows change with their neighbours; raise if that fails too."""
        n = min(self._probe_tokens, longest)
        moved = self._moved_rows(n, room, longest)
        if moved and self.packed:
            log.warning(
                "%s: segments run one at a time for --deterministic: packed, %d of %d rows change with neighbours",
                self._name, moved, n,
            )  # fmt: skip
            self.packed = False
            self.body.stop_compiling()
            self.body.loosen()
            moved = self._moved_rows(n, room, longest)
        if moved:
            raise ModelError(
                f"{self._name} in {str(self.dtype).removeprefix('torch.')} on {self.device}: {moved} of {n} rows "
                f"change even one segment alone, so --deterministic cannot be kept: score without it or on --device cpu"
            )

    def _find_head(self) -> VocabularyHead | GivenLogits:
        ids = self._probe_ids()
        head = separate_head(self.model, self.body.body, ids, self.hidden(ids, [(0, len(ids))]))
        if head is not None:
            return head
        self.packed = False
        self.body.stop_compiling()
        self.model.set_attn_implementation("eager")
        return GivenLogits(self._own_logits(ids[:4]).shape[-1], self.device)

    def _moved_rows(self, n: int, room: int, longest: int) -> int:
        return moved_rows(self.hidden, self.config.vocab_size, n, room, longest)

    def _probe_ids(self) -> Tensor:
        return probe_ids(self._probe_tokens, self.config.vocab_size).to(self.device)

    @property
    def _name(self) -> str:
        return type(self.model).__name__


def _check_complete(folder: Path, loaded: dict[str, Any]) -> None:
    """Raise if weights were missing: transformers fills them with random numbers, which would be scored."""
    missing = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in loaded.get(kind, ()))
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ModelError(f"model {folder}: the checkpoint lacks {shown}; it is incomplete or of another architecture")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """transformers draws a progress bar for every model it loads; logs must stay plain lines."""
    from transformers.utils import logging as hf_logging

    was = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was:
            hf_logging.enable_progress_bar()
