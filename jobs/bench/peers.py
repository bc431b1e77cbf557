"""The same documents through other people's tools, as their own documentation runs them: log-probs per document.

Each peer is a function from texts to one summed log-prob a text. Peers feed what they feed: lm-evaluation-harness
prepends a token and scores the first one too, so agreement is checked against our run of the same kind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Peer = Callable[[Sequence[str]], list[float]]

HARNESS_8, HARNESS_1 = "lm-evaluation-harness, batch 8", "lm-evaluation-harness, batch 1"
FEEDS_BOS = (HARNESS_8, HARNESS_1)


def research_loop(folder: Path, *, ranks: bool) -> Peer:
    """One document at a time: log_softmax and softmax of the whole matrix, mean and deviation over the vocabulary.

    `ranks` by argsort, as the scripts do that need them; then its columns are those that assay computes.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def run(texts: Sequence[str]) -> list[float]:
        sums = []
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text)])
            logits = model(ids, labels=ids).logits[0, :-1]
            probs, logprobs = torch.softmax(logits, -1), torch.log_softmax(logits, -1)
            token = logprobs.gather(1, ids[0, 1:, None])[:, 0]
            mean = (probs * logprobs).sum(-1)
            std = ((probs * logprobs.square()).sum(-1) - mean.square()).sqrt()
            _ = ((token - mean) / std).sort()
            if ranks:
                _ = (logits.argsort(-1, descending=True) == ids[0, 1:, None]).nonzero()[:, 1]
            sums.append(float(token.double().sum()))
        return sums

    return run


def lm_evaluation_harness(folder: Path, batch_size: int) -> Peer:
    """`HFLM.loglikelihood_rolling` of lm-evaluation-harness: log-prob only."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    with _silence():
        lm = HFLM(pretrained=str(folder), device="cpu", batch_size=batch_size, dtype="float32")

    def run(texts: Sequence[str]) -> list[float]:
        requests = [
            Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=i)
            for i, text in enumerate(texts)
        ]
        with _silence():
            return [float(value) for value in lm.loglikelihood_rolling(requests, disable_tqdm=True)]

    return run


def minicons(folder: Path, batch_size: int) -> Peer:
    """`IncrementalLMScorer.sequence_score` of minicons, summed log-probs."""
    from minicons.scorer import IncrementalLMScorer

    with _silence():
        scorer = IncrementalLMScorer(str(folder), "cpu")

    def run(texts: Sequence[str]) -> list[float]:
        sums: list[float] = []
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            sums += [float(v) for v in scorer.sequence_score(batch, reduction=lambda x: x.sum(0).item())]
        return sums

    return run


def available(folder: Path) -> dict[str, Peer]:
    """Every peer that is installed, ready to run."""
    peers: dict[str, Peer] = {
        "research loop, with ranks": research_loop(folder, ranks=True),
        "research loop, no ranks": research_loop(folder, ranks=False),
    }
    if importlib.util.find_spec("lm_eval"):
        peers[HARNESS_8] = lm_evaluation_harness(folder, 8)
        peers[HARNESS_1] = lm_evaluation_harness(folder, 1)
    if importlib.util.find_spec("minicons"):
        peers["minicons, batch 8"] = minicons(folder, 8)
    return peers


@contextlib.contextmanager
def _silence() -> Any:
    """Peers print progress and advice; a benchmark's output is a table and one line."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
