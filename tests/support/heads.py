"""Heads with random weights, rows for them, the truth about both, and how far a result is from it."""

from __future__ import annotations

import oracle
import torch
from torch import Tensor

from operators.head import LogitShape, VocabularyHead
from schemas.tokens import EXTREMES, NUCLEUS, RENYI, TOPK

ALL = frozenset((EXTREMES, NUCLEUS, RENYI, TOPK))
LOG_PROBS = ("logprob", "logprob_max", "logprob_second", "logprob_uniform", "topk_logprob")
EXACT = ("rank", "top1_id", "topk_id")


def head_of(scale: float, *, vocab: int = 331, width: int = 48, dtype: torch.dtype = torch.float32,
            shape: LogitShape | None = None, bias: bool = False, seed: int = 0) -> VocabularyHead:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocab, width, generator=generator) * scale / width**0.5
    offset = torch.randn(vocab, generator=generator) if bias else None
    return VocabularyHead(weight.to(dtype), None if offset is None else offset.to(dtype), shape)


def rows_for(head: VocabularyHead, n: int = 70, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, head.width, generator=generator).to(head.weight_VD.dtype)
    return hidden, torch.randint(0, head.vocab_size, (n,), generator=generator)


def float64_logits(head: VocabularyHead, hidden: Tensor) -> Tensor:
    logits = hidden.double() @ head.weight_VD.double().T
    if head.bias_V is not None:
        logits = logits + head.bias_V.double()
    return logits if head.shape is None else head.shape(logits)


def errors(got: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Largest error a column: absolute for log-probs, relative with floor 1e-3 for the rest."""
    found = {}
    for name, values in got.items():
        if name in EXACT:
            continue
        scale = 1.0 if name in LOG_PROBS else truth[name].abs().clamp_min(1e-3)
        found[name] = float(((values.double() - truth[name]) / scale).abs().max())
    return found


def check_against_plain(got: dict[str, Tensor], head: VocabularyHead, hidden: Tensor, target: Tensor) -> None:
    """No column errs more than twice what plain float32 torch does on the same hidden states, plus one rounding."""
    truth = oracle.statistics(float64_logits(head, hidden), target)
    raw = hidden.float() @ head.weight_VD.float().T
    exact_raw = hidden.double() @ head.weight_VD.double().T
    if head.bias_V is not None:
        raw, exact_raw = raw + head.bias_V.float(), exact_raw + head.bias_V.double()
    plain = oracle.statistics(raw if head.shape is None else head.shape(raw), target)
    allowed = errors({k: v for k, v in plain.items() if k != "gap"}, truth)
    for name, error in errors(got, truth).items():
        assert error <= 2 * allowed[name] + 4e-7, f"{name}: {error:.2e} against {allowed[name]:.2e}"
    clear = truth["gap"] > 4 * (raw.double() - exact_raw).abs().max()
    assert torch.equal(got["rank"][clear].long(), truth["rank"][clear])
    assert (got["rank"].long() - truth["rank"]).abs().max() <= 1
    assert (got["top1_id"].long() == truth["top1_id"]).float().mean() > 0.95
