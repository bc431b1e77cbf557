"""Finds, by trying, whether a model's logits are `shape(hidden @ W.T + b)`, so that its head can be computed by tiles.

Candidates come from the config; one is taken if it reproduces the model's own logits, also with hidden states blown up
so far that a forgotten soft-cap or scale shows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from operators import attention
from operators.body.agree import agree
from operators.head import LogitShape, VocabularyHead

log = logging.getLogger(__name__)

_BLOWN_UP = 100.0  # the largest logit then: beyond any soft-cap in use


def separate_head(model: Any, body: nn.Module, ids_T: Tensor, hidden_TD: Tensor) -> VocabularyHead | None:
    """The head as plain numbers, if some declared shape of the logits reproduces the model's own; None otherwise.

    `hidden_TD`: what `body` gives for the one segment `ids_T`, on the model's device.
    """
    name = type(model).__name__
    embeddings = model.get_output_embeddings()
    if not isinstance(embeddings, nn.Linear):
        _warn_whole(name, "its output embedding is not a linear layer")
        return None
    head = VocabularyHead(embeddings.weight.detach(), _detached(embeddings.bias))
    hidden = hidden_TD.clone()
    blow_up = _BLOWN_UP / max(float(_all_logits(head, hidden).abs().max()), 1e-3)
    for shape in _declared_shapes(model, model.config.get_text_config(decoder=True)):
        candidate = VocabularyHead(head.weight_VD, head.bias_V, shape)
        if all(_reproduces(candidate, model, body, ids_T, hidden, factor) for factor in (1.0, blow_up)):
            return candidate
    _warn_whole(name, "no declared logit scale or soft-cap reproduces its logits")
    return None


def _reproduces(
    head: VocabularyHead, model: Any, body: nn.Module, ids_T: Tensor, hidden_TD: Tensor, factor: float
) -> bool:
    def blow_up(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = (output.last_hidden_state * factor).to(hidden_TD.dtype)
        return output

    hook = body.register_forward_hook(blow_up)
    try:
        with attention.in_force(attention.plain([(0, len(ids_T))])):
            own = model(input_ids=ids_T[None], use_cache=False).logits[0].float()
    finally:
        hook.remove()
    ours = _all_logits(head, (hidden_TD * factor).to(hidden_TD.dtype))
    return ours.shape == own.shape and agree(ours, own, hidden_TD.dtype)


def _warn_whole(name: str, reason: str) -> None:
    log.warning("%s: its own logits are taken, rounded as it rounds them: exact but much slower (%s)", name, reason)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _all_logits(head: VocabularyHead, hidden_TD: Tensor) -> Tensor:
    out = torch.empty(hidden_TD.shape[0], head.vocab_size, device=hidden_TD.device)
    scratch = head.scratch(head.vocab_size)
    head.logits(hidden_TD.to(head.product_dtype), 0, out, scratch)
    return out if head.shape is None else head.shape(out)


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
