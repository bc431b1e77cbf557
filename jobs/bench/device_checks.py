"""How far the statistics are from the truth on this device, and what the head holds beyond its weights.

The truth is float64 torch on the same device: of the head alone from the very hidden states that the kernels got, and
of the whole model on a few documents, where a plain forward pass in the model's dtype errs as well and stands beside.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from jobs.bench.device_work import Work
from jobs.bench.measure import memory_status

_MIB = 1 << 20
_ORACLE_ROWS = 64


class Memory:
    """Peak bytes beyond what is held at the start: of torch's allocator on CUDA, of the process on a CPU (whose heap
    keeps what earlier calls freed, so that a small need can show as nothing)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def peak_mib(self, run: Callable[[], Any]) -> float:
        """MiB that the call adds, its result included."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            run()
            torch.cuda.synchronize(self.device)
            return (torch.cuda.max_memory_allocated(self.device) - before) / _MIB
        before = memory_status("VmRSS")
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - forgets the peak so far
            file.write("5")
        run()
        return max(0, memory_status("VmHWM") - before) / _MIB


def oracle(hidden_RD: Tensor, weight_VD: Tensor, target_R: Tensor) -> dict[str, Tensor]:
    """The core statistics in float64, by their definitions."""
    weight = weight_VD.double()
    parts: list[dict[str, Tensor]] = []
    for hidden, target in zip(*(torch.split(x, _ORACLE_ROWS) for x in (hidden_RD, target_R)), strict=True):
        logits = hidden.double() @ weight.T
        own = logits.gather(1, target[:, None])
        lp = logits.log_softmax(-1)
        p = lp.exp()
        entropy = -(p * lp).sum(-1)
        parts.append({
            "logprob": lp.gather(1, target[:, None])[:, 0],
            "entropy": entropy,
            "logprob_std": ((lp + entropy[:, None]) ** 2 * p).sum(-1).sqrt(),
            "rank": 1 + (logits > own).sum(-1),
        })  # fmt: skip
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def head_errors(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest differences in nats, and the share of rows whose rank is another."""
    errors = {
        f"max_{name}": float((found[name].double() - truth[name]).abs().max())
        for name in ("logprob", "entropy", "logprob_std")
    }
    return {**errors, "other_rank": float((found["rank"] != truth["rank"]).double().mean())}


@torch.inference_mode()
def model_errors(model: Any, scorer: Any, work: Work) -> dict[str, float]:
    """Root mean square error of log-probs (nats) against the whole model in float64: assay's, and a plain pass's in the
    model's dtype with float32 softmax."""
    device = next(model.parameters()).device
    exact = copy.deepcopy(model).double()
    squares = {"assay": 0.0, "plain": 0.0}
    for ids in work.documents():
        fed = ids[None].to(device)

        def logprobs(of: Any, fed: Tensor = fed) -> Tensor:
            logits = of(fed, use_cache=False).logits[0, :-1]
            lp = (logits.float() if logits.dtype != torch.float64 else logits).log_softmax(-1)
            token: Tensor = lp.gather(1, fed[0, 1:, None])[:, 0]
            return token.double().cpu()

        truth = logprobs(exact)
        ours = torch.from_numpy(scorer.score(ids, [len(ids)])["logprob"][1:]).double()
        squares["assay"] += float((ours - truth).square().sum())
        squares["plain"] += float((logprobs(model) - truth).square().sum())
    return {f"rms_logprob_{name}": (value / work.useful) ** 0.5 for name, value in squares.items()}


@torch.inference_mode()
def head_memory(
    device: torch.device, dtype: torch.dtype, width: int, vocabularies: tuple[int, ...]
) -> dict[str, float]:
    """MiB that making the statistics of a head and calling them once takes beyond weights and hidden states, for each
    size of vocabulary, and the largest."""
    from operators.head import VocabularyHead
    from operators.statistics import make_statistics

    found = {}
    for vocabulary in vocabularies:
        head = VocabularyHead(torch.randn(vocabulary, width, device=device, dtype=dtype) / width**0.5)

        def use(head: Any = head, vocabulary: int = vocabulary) -> None:
            kernel = make_statistics(head)
            rows = kernel.rows
            # What the caller holds is the caller's: made here, it is counted, and taken off below.
            hidden = torch.ones(rows, width, device=device, dtype=head.product_dtype)
            kernel(hidden, torch.arange(rows, device=device) % vocabulary)

        kernel = make_statistics(head)
        given = kernel.rows * (width * head.weight_VD.new_empty(0, dtype=head.product_dtype).element_size() + 8)
        del kernel
        use()  # compiles what there is to compile
        found[f"{vocabulary}"] = max(0.0, Memory(device).peak_mib(use) - given / _MIB)
        del head
    return {**found, "largest_mib": max(found.values())}
