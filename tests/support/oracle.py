"""The truth: every statistic in float64 from the model's own logits, one document at a time, nothing clever.

`plain` is what a careful research script computes in the working dtype; ours may err no more than twice as much.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def window_logits(model: nn.Module, ids: Tensor, context: int, stride: int) -> Tensor:
    """Logits `[N - 1, V]` predicting tokens 1.. of one document, windowed as the contract says, eager attention."""
    model.set_attn_implementation("eager")
    rows, scored, start = [], 1, 0
    while scored < len(ids):
        stop = min(start + context, len(ids))
        logits = model(input_ids=ids[None, start:stop], use_cache=False).logits[0]
        rows.append(logits[scored - 1 - start : stop - 1 - start])
        scored, start = stop, start + stride
    width = model.get_output_embeddings().weight.shape[0]
    return torch.cat(rows) if rows else torch.zeros(0, width, dtype=torch.float64)


@torch.no_grad()
def truth(model: nn.Module, ids: Tensor, context: int, stride: int) -> dict[str, Tensor]:
    """Float64 weights, float64 arithmetic (some families round their logits to float32 on leaving: widened again)."""
    return statistics(window_logits(copy.deepcopy(model).double(), ids, context, stride).double(), ids[1:])


@torch.no_grad()
def plain(model: nn.Module, ids: Tensor, context: int, stride: int) -> dict[str, Tensor]:
    """The straightforward implementation in the model's dtype, softmax in float32."""
    return statistics(window_logits(copy.deepcopy(model), ids, context, stride).float(), ids[1:])


def statistics(logits: Tensor, targets: Tensor, k: int = 10) -> dict[str, Tensor]:
    """All statistics of rows of logits `[R, V]`, in their own dtype, by the defining formulas."""
    lp = logits.log_softmax(-1)
    p = lp.exp()
    own = logits.gather(1, targets[:, None])
    entropy = -(p * lp).sum(-1)
    top, top_ids = lp.topk(min(k, lp.shape[1]))
    second = torch.where(logits < logits.amax(-1, keepdim=True), lp, -torch.inf).amax(-1)
    top_is = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[1]).bool()
    # ln(1 - p) of the most likely token from the others' mass: 1 - p itself would round to zero.
    complement = torch.where(top_is, lp.masked_fill(top_is, -torch.inf).logsumexp(-1, keepdim=True), torch.log1p(-p))
    rest = (p * complement).scatter(1, targets[:, None], 0.0)
    return {
        "logprob": lp.gather(1, targets[:, None])[:, 0],
        "entropy": entropy,
        "logprob_std": ((lp + entropy[:, None]) ** 2 * p).sum(-1).sqrt(),
        "rank": 1 + (logits > own).sum(-1),
        "logprob_max": lp.amax(-1),
        "top1_id": logits.argmax(-1),
        "mass_above": torch.where(logits > own, p, 0.0).sum(-1),
        "renyi_quarter": p.pow(0.25).sum(-1).log() * 4 / 3,
        "renyi_half": 2 * p.sqrt().sum(-1).log(),
        "renyi_2": -(p * p).sum(-1).log(),
        "logprob_second": second,
        "rest_entropy": -rest.sum(-1),
        "logprob_uniform": lp.mean(-1),
        "topk_id": top_ids,
        "topk_logprob": top,
        "gap": (logits - own).abs().scatter(1, targets[:, None], torch.inf).amin(-1),
    }
