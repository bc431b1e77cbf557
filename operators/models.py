"""Loads any Hugging Face causal LM and finds out, by trying, how it may be scored exactly.

Two things are established on the loaded weights before a corpus is touched, never assumed from the family's name:

- *packed or alone*: whether the body gives the same hidden states when segments are packed into one row with attention
  per segment. Recurrent layers, attention biases and models without an attention interface do not: each segment then
  runs alone.
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
from operators.head import GivenLogits, LogitShape, VocabularyHead
from operators.model_files import ModelError, ModelOptions, context_limit, model_folder, read_config
from operators.windows import MIN_BATCH_TOKENS

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# How far two exact paths may differ, relative to the largest magnitude: rounding of the dtype, not of the method.
_AGREEMENT = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_GIVEN_LOGITS_BYTES = 64 << 20


class ScoringModel:
    """A causal LM ready to be scored: `hidden` gives the head's input, `head` turns it into logits.

    `packed`: segments share a forward pass. `vocab_size`: width of the softmax, padding included.
    """

    def __init__(self, model: PreTrainedModel, *, probe_tokens: int = 96) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = model.config.get_text_config(decoder=True)
        self.body: nn.Module = model.base_model if model.get_decoder() is model else model.get_decoder()
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        with torch.inference_mode():
            self._check_causal(probe_tokens)
            self.packed = self._try_packed(probe_tokens)
            self.head = self._separate_head(probe_tokens) or self._given_logits()
        self.vocab_size = self.head.vocab_size

    @classmethod
    def load(cls, options: ModelOptions) -> ScoringModel:
        """Load weights from safetensors onto the device.

        Raises:
            ModelError: see `model_folder`; unknown architecture; a dtype the weights cannot be cast to.
        """
        folder, device = model_folder(options), options.torch_device()
        read_config(folder, trust_remote_code=options.trust_remote_code)
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
                raise ModelError(f"model {folder} cannot be loaded: {_first_line(error)}") from error
        _check_complete(folder, loaded)
        return cls(model.to(device))

    @property
    def separate(self) -> bool:
        """Whether the head's product is computed tile by tile, so that memory does not grow with the vocabulary."""
        return isinstance(self.head, VocabularyHead)

    def hidden(self, ids_T: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        """Final hidden states `[T, D]` of packed segments, `bounds` tiling `ids_T`."""
        if self.packed:
            return self._packed_hidden(ids_T, bounds)
        return torch.cat([self._alone(ids_T[a:b]) for a, b in bounds])

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

    def _packed_hidden(self, ids_T: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        filler = max(0, MIN_BATCH_TOKENS - ids_T.shape[0])
        if filler:
            ids_T = torch.cat([ids_T, ids_T.new_zeros(filler)])
            bounds = [*bounds, (ids_T.shape[0] - filler, ids_T.shape[0])]
        positions = torch.cat([torch.arange(b - a, device=ids_T.device) for a, b in bounds])
        with attention.segments_of(bounds):
            out: Tensor = self.body(
                input_ids=ids_T[None], position_ids=positions[None], attention_mask=None, use_cache=False
            ).last_hidden_state[0]
        return out[: out.shape[0] - filler] if filler else out

    def _alone(self, ids_L: Tensor) -> Tensor:
        hidden: Tensor = self.body(input_ids=ids_L[None], use_cache=False).last_hidden_state[0]
        return hidden

    def _own_logits(self, ids_L: Tensor, **keep: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids_L[None], use_cache=False, **keep).logits[0]
        return logits.float()

    def _check_causal(self, n_tokens: int) -> None:
        """Raise if a token can see the ones after it: then nothing here would be a next-token probability."""
        ids = self._probe_ids(min(n_tokens, context_limit(self.config) or n_tokens))
        half = len(ids) // 2
        changed = torch.cat([ids[:half], (ids[half:] + 1) % self.config.vocab_size])
        before, after = self._alone(ids)[:half], self._alone(changed)[:half]
        if bool(torch.isfinite(before).all()) and not _agree(before, after, self.dtype):
            raise ModelError(f"{self._name} is not causal: its hidden states change with the tokens that follow")

    def _try_packed(self, n_tokens: int) -> bool:
        """Switch to attention per segment and keep it only if every segment's hidden states survive the packing."""
        reason = _packing_obstacle(self.config, self.device)
        if reason is not None:
            log.warning("%s: segments run one at a time, exact but slower (%s)", self._name, reason)
            return False
        limit = min(n_tokens, context_limit(self.config) or n_tokens)
        lengths = [n for n in (limit, 1, min(37, limit), 2, min(5, limit)) if n]
        bounds = [(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(len(lengths))]
        ids = self._probe_ids(sum(lengths))
        alone = torch.cat([self._alone(ids[a:b]) for a, b in bounds])
        before = self.model.config._attn_implementation
        attention.register()
        try:
            self.model.set_attn_implementation(attention.IMPLEMENTATION)
            with attention.count_calls() as calls:
                packed = self._packed_hidden(ids, bounds)
            if not calls:
                reason = "its layers do not use transformers' attention interface"
            elif not bool(torch.isfinite(alone).all()):
                reason = "its hidden states are not finite in this dtype; try --dtype float32"
            elif not _agree(packed, alone, self.dtype):
                reason = "packing changes hidden states"
        except Exception as error:  # models refuse a foreign attention, or packed positions, in many ways
            reason = f"{type(error).__name__}: {_first_line(error)}"
        if reason is None:
            return True
        self.model.set_attn_implementation(before)
        log.warning("%s: segments run one at a time, exact but slower (%s)", self._name, reason)
        return False

    def _separate_head(self, n_tokens: int) -> VocabularyHead | None:
        """The head as plain numbers, if some declared shape of the logits reproduces the model's own."""
        embeddings = self.model.get_output_embeddings()
        if not isinstance(embeddings, nn.Linear):
            self._warn_whole("its output embedding is not a linear layer")
            return None
        ids = self._probe_ids(min(n_tokens, context_limit(self.config) or n_tokens))
        hidden = self.hidden(ids, [(0, len(ids))])
        head = VocabularyHead(embeddings.weight.detach(), _detached(embeddings.bias))
        raw = _all_logits(head, hidden)
        blow_up = 100.0 / max(float(raw.abs().max()), 1e-3)
        for shape in _declared_shapes(self.model, self.config):
            candidate = VocabularyHead(head.weight_VD, head.bias_V, shape)
            if all(self._reproduces(candidate, ids, hidden, factor) for factor in (1.0, blow_up)):
                return candidate
        self._warn_whole("no declared logit scale or soft-cap reproduces its logits")
        return None

    def _reproduces(self, head: VocabularyHead, ids_T: Tensor, hidden_TD: Tensor, factor: float) -> bool:
        def blow_up(_module: nn.Module, _args: Any, output: Any) -> Any:
            output.last_hidden_state = (output.last_hidden_state * factor).to(self.dtype)
            return output

        hook = self.body.register_forward_hook(blow_up)
        try:
            with attention.segments_of([(0, len(ids_T))]):
                own = self._own_logits(ids_T)
        finally:
            hook.remove()
        ours = _all_logits(head, (hidden_TD * factor).to(self.dtype))
        return ours.shape == own.shape and _agree(ours, own, self.dtype)

    def _warn_whole(self, reason: str) -> None:
        log.warning(
            "%s: its own logits are taken, rounded as it rounds them: exact but much slower (%s)", self._name, reason
        )

    def _given_logits(self) -> GivenLogits:
        self.packed = False
        self.model.set_attn_implementation("eager")
        vocab_size = self._own_logits(self._probe_ids(4)).shape[-1]
        return GivenLogits(vocab_size, self.device)

    def _probe_ids(self, n: int) -> Tensor:
        size = self.config.vocab_size
        return torch.randint(0, size, (n,), generator=torch.Generator().manual_seed(n)).to(self.device)

    @property
    def _name(self) -> str:
        return type(self.model).__name__


def _check_complete(folder: Path, loaded: dict[str, Any]) -> None:
    """Raise if weights were missing: transformers fills them with random numbers, which would be scored."""
    missing = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in loaded.get(kind, ()))
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ModelError(f"model {folder}: the checkpoint lacks {shown}; it is incomplete or of another architecture")


def _packing_obstacle(config: Any, device: torch.device) -> str | None:
    """What in the config forbids packing although a short probe would not show it."""
    rope = repr(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None))
    if "longrope" in rope or "dynamic" in rope:
        return "its rotary positions depend on the longest sequence of a batch"
    if "chunked" in repr(getattr(config, "layer_types", None)) or getattr(config, "attention_chunk_size", None):
        return "its attention is chunked"
    experts = any(getattr(config, n, None) for n in ("num_experts", "num_local_experts", "n_routed_experts"))
    if experts and device.type == "cpu":
        return "its experts' products take the shape of the batch, and rows would round with their neighbours"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _all_logits(head: VocabularyHead, hidden_TD: Tensor) -> Tensor:
    out = torch.empty(hidden_TD.shape[0], head.vocab_size, device=hidden_TD.device)
    scratch = head.scratch(head.vocab_size)
    head.logits(hidden_TD.to(head.product_dtype), 0, out, scratch)
    return out if head.shape is None else head.shape(out)


def _agree(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    a, b = a.float(), b.float()
    return bool(((a - b).abs().max() <= _AGREEMENT[dtype] * b.abs().max().clamp_min(1e-6)).item())


def _declared_shapes(model: nn.Module, config: Any) -> Iterator[LogitShape | None]:
    """Shapes that the config declares, the most complete first; None (raw logits) where it declares none."""
    cap = getattr(config, "final_logit_softcapping", None)
    scales = [float(s) for s in (getattr(model, "logit_scale", None), getattr(config, "logit_scale", None)) if s][:1]
    if getattr(config, "logits_scaling", None):
        scales.append(1.0 / config.logits_scaling)
    if getattr(config, "lm_head_multiplier", None):
        scales.append(float(config.lm_head_multiplier))
    for scale in [*scales, 1.0]:
        if cap is not None:
            yield LogitShape(scale, float(cap))
        yield None if scale == 1.0 else LogitShape(scale)


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
