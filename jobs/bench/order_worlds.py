"""Made-up benchmarks whose items are in no order: what a model says of their orders, with nothing to be found.

    pairs   ln p of an order = sum over neighbours of a gain, or a loss, that is drawn anew for every pair from a
            distribution with a long tail, in shards of unequal scale
    model   a small transformer, trained here on texts of a language of topics, reads benchmarks of that language that
            it has never seen: an item after one of its own topic is easier, so orders differ much

The model's log-probabilities are those of plain torch; what is judged is the test that is made of them.
Letters: `R` benchmarks, `S` shards, `P` orders, the first as it stands, `k` items of a shard, `W` tokens of an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jobs.bench.worlds import Floats, numbers

if TYPE_CHECKING:
    import torch

Numbers = npt.NDArray[np.int64]

PERMUTATIONS = 99
GRID = 8.0  # most gains round to nothing on it: many orders tie
MODEL_SHARDS, MODEL_SHARD_ITEMS, MODEL_PERMUTATIONS = 6, 3, 19
_TOPICS, _WORDS, _ITEM_WORDS = 6, 48, 8
_STEPS, _BATCH, _ITEMS_READ = 150, 32, 4


def pair_sums(draws: int, n: int, seed: int, *, sign: int = 1, grid: float = 0.0) -> Iterator[Floats]:
    """Sums `[S, P]` of benchmarks of `n` items in ten shards, or in fifty from 100 items on.

    `sign`: 1 where single pairs gain much, -1 where they lose much. `grid`: to what gains are rounded, 0 for not at
    all.
    """
    shards = 10 if n < 100 else 50
    items = n // shards
    rng = numbers(f"order, sign {sign}, grid {grid}", n, seed)
    for _ in range(draws):
        gain_Skk = sign * rng.lognormal(0.0, 1.0, (shards, items, items)) * rng.lognormal(0.0, 0.5, (shards, 1, 1))
        gain_Skk = np.round(gain_Skk / grid) * grid if grid else gain_Skk
        order_SPk = orders(rng, shards, PERMUTATIONS, items)
        shard = np.arange(shards)[:, None, None]
        yield gain_Skk[shard, order_SPk[:, :, :-1], order_SPk[:, :, 1:]].sum(axis=2)


def orders(rng: np.random.Generator, shards: int, permutations: int, items: int) -> Numbers:
    """Orders `[S, P, k]`; the first as the items stand, the others drawn uniformly."""
    order_SPk = np.argsort(rng.random((shards, permutations + 1, items)), axis=2)
    order_SPk[:, 0] = np.arange(items)
    return order_SPk


# A model


def texts(rng: np.random.Generator, count: int) -> Numbers:
    """Items `[count, W]`: words drawn from the frequencies of one topic each."""
    topic = rng.integers(_TOPICS, size=count)
    chances = _topics()[topic]
    drawn = rng.random((count, _ITEM_WORDS, 1))
    words: Numbers = (drawn > np.cumsum(chances, axis=1)[:, None, :]).sum(axis=2).clip(max=_WORDS - 1)
    return words


@cache
def _topics() -> Floats:
    return np.random.default_rng(0).dirichlet(np.full(_WORDS, 0.15), _TOPICS)


def model_sums(draws: int, seed: int) -> Iterator[Floats]:
    """Sums `[S, P]` by the model, of benchmarks that it has not seen."""
    rng = numbers("benchmarks of a model", MODEL_SHARDS, seed)
    for _ in range(draws):
        items = texts(rng, MODEL_SHARDS * MODEL_SHARD_ITEMS).reshape(MODEL_SHARDS, MODEL_SHARD_ITEMS, -1)
        order_SPk = orders(rng, MODEL_SHARDS, MODEL_PERMUTATIONS, MODEL_SHARD_ITEMS)
        fed = items[np.arange(MODEL_SHARDS)[:, None, None], order_SPk]
        found = log_probability(trained_model(), fed.reshape(-1, MODEL_SHARD_ITEMS * _ITEM_WORDS))
        yield found.reshape(order_SPk.shape[:2])


def log_probability(model: Any, ids_NT: Numbers) -> Floats:
    """Nats of every row but its first token."""
    import torch

    from operators.threads import one_thread

    with one_thread(), torch.inference_mode():
        ids = torch.from_numpy(ids_NT)
        logprob = model(input_ids=ids).logits[:, :-1].double().log_softmax(-1)
        found: Floats = logprob.gather(-1, ids[:, 1:, None]).sum(dim=(1, 2)).numpy()
    return found


@cache
def trained_model() -> torch.nn.Module:
    """Trained in a few seconds on texts of the language: to follow a topic is what it learns."""
    import torch
    import transformers

    from operators.threads import one_thread

    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    length = _ITEMS_READ * _ITEM_WORDS
    config = transformers.LlamaConfig(
        vocab_size=_WORDS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=length, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    with one_thread():
        for _ in range(_STEPS):
            ids = torch.from_numpy(texts(rng, _BATCH * _ITEMS_READ).reshape(_BATCH, length))
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    trained: torch.nn.Module = model.eval()
    return trained
