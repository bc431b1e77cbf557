"""`assay bench memory`: the memory of a scorer over a long run, which must not grow.

    blocks of synthetic documents -> Scorer, as a run calls it -> resident memory after every block

The model is as small as can be, so that the run is long in tokens and blocks instead of arithmetic: what grows with
either shows. Lengths differ from block to block, a few documents are longer than the context, and results are dropped
as a writer would drop them. One thread, after a warm-up of a few blocks that is not counted.

Blocks differ in size, and so does what they leave: single samples scatter by a few MiB. The verdict is the growth from
the median of the first quarter to that of the last; the slope of the second half says what a million more tokens add.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.bench.measure import memory_status, record, show

ENOUGH_TOKENS = 20_000_000
BLOCK_DOCUMENTS, WARM_UP_BLOCKS = 256, 4
CONTEXT, VOCABULARY = 512, 2048
MEAN_LOG_LENGTH, STD_LOG_LENGTH, LONGEST = 5.2, 1.0, 4 * CONTEXT
_MIB = 1 << 20


@dataclass(frozen=True)
class Growth:
    """Resident memory over a run, in MiB: medians of its first and last quarter, the peak, and the slope of the second
    half in MiB per million tokens (least squares)."""

    first_quarter: float
    last_quarter: float
    peak: float
    slope: float

    @property
    def share(self) -> float:
        """What was added from the first quarter to the last, as a share of the first."""
        return self.last_quarter / self.first_quarter - 1


def growth(tokens: list[int], resident: list[float]) -> Growth:
    """What samples of resident memory (MiB) after so many `tokens` in all say; four samples or more."""
    quarter = max(1, len(resident) // 4)
    half = len(resident) // 2
    slope = np.polyfit(np.array(tokens[half:]) / 1e6, resident[half:], 1)[0]
    first, last = statistics.median(resident[:quarter]), statistics.median(resident[-quarter:])
    return Growth(first, last, max(resident), float(slope))


def bench_memory(n_tokens: int) -> None:
    """Run the verb over at least `n_tokens` tokens, and at least eight blocks."""
    import torch

    torch.set_num_threads(1)
    score = make_scorer()
    stream = blocks(seed=0)
    for _ in range(WARM_UP_BLOCKS):
        score(next(stream))
    tokens, resident, total, checksum = list[int](), list[float](), 0, 0.0
    started = time.perf_counter()
    while total < n_tokens or len(resident) < 8:
        count, log_probs = score(next(stream))
        total, checksum = total + count, checksum + log_probs
        tokens.append(total)
        resident.append(memory_status("VmRSS") / _MIB)
    seconds = time.perf_counter() - started
    found = growth(tokens, resident)
    show(
        f"Resident memory of a scorer over {total:,} tokens in {len(resident):,} blocks, {seconds:.0f} s, one thread",
        ["first quarter", "last quarter", "growth", "peak", "slope of the second half", "tokens/s"],
        [[f"{found.first_quarter:,.1f} MiB", f"{found.last_quarter:,.1f} MiB", f"{found.share:+.2%}",
          f"{found.peak:,.1f} MiB", f"{found.slope:+.3f} MiB per M tokens", f"{total / seconds:,.0f}"]],
    )  # fmt: skip
    print(f"sum of log-probs {checksum:.4f}")
    results = {
        "first_quarter_mib": found.first_quarter,
        "last_quarter_mib": found.last_quarter,
        "growth": found.share,
        "peak_mib": found.peak,
        "slope_mib_per_mtoken": found.slope,
        "tokens_per_s": total / seconds,
        "samples_mib": [round(value, 1) for value in resident[:: max(1, len(resident) // 40)]],
    }
    record("memory", results, tokens=total, blocks=len(resident), enough=total >= ENOUGH_TOKENS, threads=1,
           libc=" ".join(platform.libc_ver()), logprob_sum=checksum)  # fmt: skip


def make_scorer() -> Callable[[pa.Table], tuple[int, float]]:
    """Scores a block and lets its rows go: (tokens, sum of log-probs)."""
    import transformers

    from operators.model_files import ModelOptions
    from operators.models import ScoringModel
    from operators.score import ScoreOptions, Scorer
    from operators.windows import WindowOptions

    transformers.set_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip
    model = ScoringModel(transformers.AutoModelForCausalLM.from_config(config))
    options = ScoreOptions(ModelOptions("made here", device="cpu"), WindowOptions(CONTEXT, CONTEXT // 2))
    scorer = Scorer(options, model)

    def score(block: pa.Table) -> tuple[int, float]:
        rows = scorer(block)["logprob"].combine_chunks().flatten()
        return len(rows), float(np.nansum(rows.to_numpy(zero_copy_only=False), dtype=np.float64))

    return score


def blocks(seed: int) -> Iterator[pa.Table]:
    """Endless blocks of `flow.TOKENIZED`: documents of log-normal length, ids drawn at random."""
    from schemas.flow import TOKENIZED

    draw = np.random.default_rng(seed)
    while True:
        lengths = np.exp(draw.normal(MEAN_LOG_LENGTH, STD_LOG_LENGTH, BLOCK_DOCUMENTS)).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths.clip(1, LONGEST))])
        ids = draw.integers(0, VOCABULARY, starts[-1])
        lists: dict[str, Any] = {
            name: pa.LargeListArray.from_arrays(pa.array(starts), pa.array(values.astype(dtype)))
            for name, values, dtype in (
                ("token_id", ids, np.int32), ("byte_start", 4 * np.arange(len(ids)), np.int32),
                ("n_bytes", np.full(len(ids), 4), np.int16),
            )
        }  # fmt: skip
        names = [f"{number}" for number in range(BLOCK_DOCUMENTS)]
        known = {"source": ["made here"] * BLOCK_DOCUMENTS, "row": range(BLOCK_DOCUMENTS), "key": names, "text": names}
        columns = [
            lists[f.name] if f.name in lists else pa.array(known.get(f.name, [None] * BLOCK_DOCUMENTS), f.type)
            for f in TOKENIZED
        ]
        yield pa.Table.from_arrays(columns, schema=TOKENIZED)
