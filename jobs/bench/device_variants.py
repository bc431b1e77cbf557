"""What `assay bench device` compares: the bare forward pass, the head by itself, and what people use today.

    bare forward    compiled body over full rows, then the library's product with the head, nothing read off it
    head product    that product alone;  kernel torch | triton: product and all core statistics
    assay           `Scorer` as a run calls it, from a table of ids to a table of statistics
    research loop   a document at a time: softmax, log_softmax and argsort of the whole matrix, in the model's dtype
    padded          16 documents of near length at a time, padded; the same columns in float32, ranks by counting

All of them run the same weights on the same device. Shapes: `B` documents of a batch, `T` tokens, `R` rows, `V`
vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jobs.bench.device_work import Work

log = logging.getLogger(__name__)

HEAD_ROWS = 4096  # of one product: it fills any device, and its logits stay near one GB
PADDED_BATCH = 16

Run = Callable[[], Any]
Dtype = Literal["bfloat16", "float16", "float32"]


def compiled(body: Any, rows: int, context: int) -> tuple[Any, bool]:
    """The body compiled for batches of this shape, and whether that could be: without a working compiler, as it is."""
    fast: Any = torch.compile(body, dynamic=False)  # the fastest there is: made for one shape
    ids = torch.zeros(rows, context, dtype=torch.long, device=next(body.parameters()).device)
    try:
        with torch.inference_mode():
            fast(input_ids=ids, use_cache=False)
    except Exception as error:  # whatever a broken tool chain raises
        log.warning("the bare forward pass runs uncompiled: %s", (str(error).splitlines() or ["?"])[0])
        return body, False
    return fast, True


def bare_forward(model: Any, body: Any, work: Work, batch: int) -> Run:
    """Body and head product over full rows, `batch` documents at a time. All documents must be of one length."""
    device = next(model.parameters()).device
    ids_NT = torch.stack(list(work.documents())).to(device)
    weight = model.get_output_embeddings().weight

    @torch.inference_mode()
    def run() -> None:
        for ids_BT in torch.split(ids_NT, batch):
            _products(body(input_ids=ids_BT, use_cache=False).last_hidden_state.flatten(0, 1), weight)

    return run


def head_product(hidden_RD: Tensor, weight_VD: Tensor) -> Run:
    """The library's product alone, its result in the weights' dtype."""

    @torch.inference_mode()
    def run() -> None:
        _products(hidden_RD, weight_VD)

    return run


def _products(hidden_RD: Tensor, weight_VD: Tensor) -> None:
    logits = hidden_RD.new_empty(min(HEAD_ROWS, len(hidden_RD)), len(weight_VD))
    for rows in torch.split(hidden_RD, HEAD_ROWS):
        torch.mm(rows, weight_VD.t(), out=logits[: len(rows)])


def statistics(kernel: Any, hidden_RD: Tensor, target_R: Tensor) -> Callable[[], dict[str, Tensor]]:
    """All core statistics by one kernel, as many rows at a time as it takes."""

    @torch.inference_mode()
    def run() -> dict[str, Tensor]:
        pairs = zip(torch.split(hidden_RD, kernel.rows), torch.split(target_R, kernel.rows), strict=True)
        # The kernel may hand out its own buffers: a part is copied before the next call.
        parts = [{name: values.clone() for name, values in kernel(h, t).items()} for h, t in pairs]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return run


def make_scorer(folder: Path, device: str, dtype: Dtype, context: int) -> Any:
    """The scorer of a run without options: whatever a user gets."""
    from operators.model_files import ModelOptions
    from operators.score import ScoreOptions, Scorer
    from operators.windows import WindowOptions

    options = ModelOptions(str(folder), device=device, dtype=dtype)
    return Scorer(ScoreOptions(options, WindowOptions(context, context // 2)))


def research_loop(model: Any, work: Work) -> Callable[[], float]:
    """Sum of log-probs; every column that assay keeps is computed."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def run() -> float:
        total = 0.0
        for ids in work.documents():
            fed = ids[None].to(device)
            logits, target = model(fed, use_cache=False).logits[0, :-1], fed[0, 1:, None]
            probs, logprobs = logits.softmax(-1), logits.log_softmax(-1)
            token = logprobs.gather(1, target)[:, 0]
            mean = (probs * logprobs).sum(-1)
            std = ((probs * logprobs.square()).sum(-1) - mean.square()).sqrt()
            rank = (logits.argsort(-1, descending=True) == target).nonzero()[:, 1]
            total += float(_columns_of(token, -mean, std, rank)["logprob"].double().sum())
        return total

    return run


def padded(model: Any, work: Work, *, logprob_only: bool) -> Callable[[], float]:
    """Sum of log-probs of batches of 16 documents of near length, padded on the right."""
    batches = [_pad(batch) for batch in _sorted_batches(work)]
    device = next(model.parameters()).device

    @torch.inference_mode()
    def run() -> float:
        total = 0.0
        for ids_BT, mask_BT in batches:
            fed = ids_BT.to(device)
            logits_BTV = model(fed, attention_mask=mask_BT.to(device), use_cache=False).logits
            for ids, logits, length in zip(fed, logits_BTV, mask_BT.sum(1).tolist(), strict=True):
                columns = _columns(logits[: length - 1], ids[1:length], logprob_only)
                total += float(columns["logprob"].double().sum())
        return total

    return run


def _sorted_batches(work: Work) -> Iterator[list[Tensor]]:
    documents = sorted(work.documents(), key=len)
    for start in range(0, len(documents), PADDED_BATCH):
        yield documents[start : start + PADDED_BATCH]


def _pad(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    ids_BT = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    lengths = torch.tensor([len(ids) for ids in batch])
    return ids_BT, (torch.arange(ids_BT.shape[1]) < lengths[:, None]).long()


def _columns(logits_RV: Tensor, target_R: Tensor, logprob_only: bool) -> dict[str, Any]:
    logprobs = logits_RV.float().log_softmax(-1)
    token = logprobs.gather(1, target_R[:, None])
    if logprob_only:
        return {"logprob": token[:, 0].cpu()}
    probs = logprobs.exp()
    mean = (probs * logprobs).sum(-1)
    std = ((probs * logprobs.square()).sum(-1) - mean.square()).sqrt()
    return _columns_of(token[:, 0], -mean, std, (logprobs > token).sum(-1) + 1)


def _columns_of(logprob: Tensor, entropy: Tensor, std: Tensor, rank: Tensor) -> dict[str, Tensor]:
    """The columns on the host: whoever asks for them has to bring them there."""
    return {"logprob": logprob.cpu(), "entropy": entropy.cpu(), "logprob_std": std.cpu(), "rank": rank.cpu()}
