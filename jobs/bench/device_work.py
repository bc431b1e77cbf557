"""What `assay bench device` scores, and how many floating-point operations that takes.

Documents are random ids: one kind exactly as long as the context (nothing to pack, the bare forward pass at its best),
one of log-normal lengths (what corpora are like). A first token has no prediction; all others are useful.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

# Dense bfloat16 tensor-core peak in FLOP/s (NVIDIA's data sheets, SXM boards), the measure of utilisation.
PEAK_FLOPS = {"h100": 989e12, "h200": 989e12}
STD_LOG_LENGTH, SHORTEST = 1.0, 16


@dataclass(frozen=True, eq=False)
class Work:
    """Documents one after another: `ids_N` on the CPU, and their `lengths`."""

    ids_N: Tensor
    lengths: list[int]

    @property
    def tokens(self) -> int:
        return len(self.ids_N)

    @property
    def useful(self) -> int:
        return self.tokens - len(self.lengths)

    def documents(self) -> Iterator[Tensor]:
        """Ids `[L]` of each document."""
        for start, stop in itertools.pairwise([0, *itertools.accumulate(self.lengths)]):
            yield self.ids_N[start:stop]

    def first(self, tokens: int) -> Work:
        """The first documents with at least so many tokens in all; everything if there are fewer."""
        ends = list(itertools.accumulate(self.lengths))
        count = next((i + 1 for i, end in enumerate(ends) if end >= tokens), len(ends))
        return Work(self.ids_N[: ends[count - 1]], self.lengths[:count])

    def table(self) -> pa.Table:
        """A block of `flow.TOKENIZED`, as the scoring step of a run receives it."""
        from schemas.flow import TOKENIZED

        n = len(self.lengths)
        starts = pa.array([0, *itertools.accumulate(self.lengths)], pa.int64())
        names = [str(number) for number in range(n)]
        values = {"token_id": self.ids_N.numpy(), "byte_start": np.arange(self.tokens), "n_bytes": np.ones(self.tokens)}
        known: dict[str, Any] = {"source": ["made here"] * n, "row": range(n), "key": names, "text": names}
        columns = [
            pa.LargeListArray.from_arrays(starts, pa.array(values[f.name]).cast(f.type.value_type))
            if f.name in values
            else pa.array(known.get(f.name, [None] * n), f.type)
            for f in TOKENIZED
        ]
        return pa.Table.from_arrays(columns, schema=TOKENIZED)


def full_rows(rows: int, context: int, vocab_size: int) -> Work:
    """`rows` documents of `context` tokens."""
    return _random([context] * rows, vocab_size, seed=1)


def mixed(tokens: int, context: int, vocab_size: int) -> Work:
    """Documents of log-normal length, median a fifth of the context, clipped to 16 .. context: at least `tokens`."""
    draw, lengths = np.random.default_rng(2), list[int]()
    while sum(lengths) < tokens:
        length = np.exp(draw.normal(np.log(context / 5), STD_LOG_LENGTH))
        lengths.append(int(np.clip(length, SHORTEST, context)))
    return _random(lengths, vocab_size, seed=3)


def _random(lengths: list[int], vocab_size: int, seed: int) -> Work:
    draw = torch.Generator().manual_seed(seed)
    return Work(torch.randint(0, vocab_size, (sum(lengths),), generator=draw), lengths)


def flops(model: Any, work: Work) -> float:
    """Floating-point operations to score the work once: products of the body over its tokens, causal attention within
    documents (half of it), the head over useful tokens. A multiplication and an addition count as two."""
    config = model.config
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    body = sum(p.numel() for p in model.parameters() if p.dim() == 2 and id(p) not in embeddings)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = sum(n * (n + 1) / 2 for n in work.lengths)
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * head_dim * pairs
    head = 2 * config.vocab_size * config.hidden_size * work.useful
    return float(2 * body * work.tokens + attention + head)
