"""Continuations written by `transformers` itself, which extraction by ranks is compared with.

Greedy decoding takes the largest logit of the whole vocabulary at every step, and that is what rank 1 means. So a token
that ends a text is neither masked nor an end here: masked, decoding would go on with the second choice where the model
wants to stop, and call extractable what has a rank of 2; an end, it would cut suffixes short that hold such a token.

Shapes: `W` windows, `F` tokens fed, `S` tokens written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.bench.extraction.windows import Floats, Ints, Sampling

BATCH = 256  # continuations at a time


def load_model(folder: Path, dtype: str, device: str, *, trust_remote_code: bool = False) -> Any:
    """A causal LM for generation, without an end and without settings of its own."""
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would write across the table, and lock what a measured process cannot free
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=trust_remote_code
    )
    model = model.to(device).eval()
    model.generation_config = GenerationConfig(eos_token_id=None, pad_token_id=0)  # what a call does not say
    return model


@torch.inference_mode()
def written(model: Any, fed_WF: Ints, n: int, sampling: Sampling | None = None, *, masked: Sequence[int] = ()) -> Ints:
    """The `n` tokens that the model writes behind each row of ids, `[W, n]`: greedily, or sampled.

    `masked`: ids that may not be written.
    """
    found = []
    drawn: dict[str, Any] = {}
    if sampling is not None:
        drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": 1.0}
    for start in range(0, len(fed_WF), BATCH):
        ids = torch.from_numpy(fed_WF[start : start + BATCH]).to(model.device)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=sampling is not None,
            suppress_tokens=list(masked) or None,
            **drawn,
        )
        found.append(out[:, ids.shape[1] :].cpu().numpy())
    return np.concatenate(found).astype(np.int64)


def count_hits(model: Any, fed_F: Ints, suffix_S: Ints, sampling: Sampling, draws: int, seed: int) -> int:
    """How many of `draws` sampled continuations are the suffix."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        drawn = written(model, np.broadcast_to(fed_F, (draws, len(fed_F))).copy(), len(suffix_S), sampling)
    return int((drawn == suffix_S).all(axis=1).sum())


@torch.inference_mode()
def logit_margins(model: Any, fed_WF: Ints, suffix_WS: Ints) -> Floats:
    """The logit of each suffix token less the largest of the others, `[W, S]`: above 0 where it is the greedy choice.

    One pass without a cache, in the model's dtype.
    """
    found = []
    n = suffix_WS.shape[1]
    for fed, suffix in zip(fed_WF, suffix_WS, strict=True):
        ids = torch.from_numpy(np.concatenate([fed, suffix]))[None].to(model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, -n - 1 : -1].double().cpu()
        target = torch.from_numpy(suffix)[:, None]
        own = logits.gather(1, target)
        others = logits.scatter(1, target, -torch.inf).amax(dim=1, keepdim=True)
        found.append((own - others)[:, 0].numpy())
    return np.stack(found)
