"""`assay bench statistics`: what the statistics cost over the model's body and one plain head product.

    body + head     packed body over one batch, then one product with the whole head weight, the fastest there is
    + statistics    the same body, then all core statistics by vocabulary tiles
    + research      the same body, then log_softmax, softmax and argsort of the whole [tokens, vocabulary] matrix

One thread. In bfloat16 the plain product rounds its logits to bfloat16; ours keeps float32, which costs time on a CPU
and is counted as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from jobs.bench.measure import peak_extra_bytes, record, show, take_turns
from jobs.bench.shapes import CONTEXT, SHAPES, random_model

DTYPES = ("float32", "bfloat16")
VARIANTS = ("body + head", "+ statistics", "+ research")


def bench_statistics(shapes: list[str] | None, dtypes: list[str] | None, rounds: int) -> None:
    """Run the verb for every shape and dtype asked for."""
    unknown = [name for name in dtypes or () if name not in DTYPES]
    if unknown:
        raise typer.BadParameter(f"--dtype {unknown[0]}: choose from {', '.join(DTYPES)}")
    rows, results = [], []
    for shape in shapes or SHAPES:
        for dtype in dtypes or DTYPES:
            result = _measure(shape, dtype, rounds)
            results.append(result)
            rows.append(
                [
                    f"{shape} {dtype}",
                    f"{result['base_ms']:.0f} ms",
                    f"{result['statistics']:+.1%}",
                    f"{result['research']:+.1%}",
                    f"{result['spread']:.1%}",
                    *(f"{result['extra_mib'][name]:.0f} MiB" for name in VARIANTS),
                    f"{result['largest_logprob_difference']:.1e}",
                ]
            )
    columns = [
        "shape",
        "body + head",
        "statistics",
        "research script",
        "noise",
        *(f"mem {v}" for v in VARIANTS),
        "|dlogprob|",
    ]
    show(f"Cost over body + head, {CONTEXT} tokens, one thread, median of {rounds} rounds", columns, rows)
    record("statistics", results, rounds=rounds, tokens=CONTEXT, threads=1)


def _measure(shape: str, dtype: str, rounds: int) -> dict[str, Any]:
    variants = make_variants(shape, dtype)
    ours, theirs = variants["+ statistics"](), variants["+ research"]()
    timings = take_turns({name: variants[name] for name in VARIANTS}, rounds)
    base = timings["body + head"]
    return {
        "shape": shape,
        "dtype": dtype,
        "base_ms": base.median * 1e3,
        "statistics": timings["+ statistics"].ratio(base) - 1,
        "research": timings["+ research"].ratio(base) - 1,
        "spread": max(t.spread for t in timings.values()),
        "extra_mib": {v: peak_extra_bytes(prepare_variant, shape, dtype, v) / 2**20 for v in VARIANTS},
        "largest_logprob_difference": float((ours["logprob"] - theirs["logprob"]).abs().max()),
        "logprob_sum": float(ours["logprob"].double().sum()),
    }


def prepare_variant(shape: str, dtype: str, name: str) -> Callable[[], Any]:
    """One variant, its model loaded and its kernel compiled, so that only its own memory is still to come."""
    variants = make_variants(shape, dtype)
    variants["warm-up"]()
    return variants[name]


def make_variants(shape: str, dtype: str) -> dict[str, Callable[[], Any]]:
    """The variants over one packed batch of two documents."""
    import torch

    from operators.models import ScoringModel
    from operators.products import fastest
    from operators.statistics import TiledStatistics

    torch.set_num_threads(1)
    model = ScoringModel(random_model(shape, dtype))
    ids = torch.randint(0, model.vocab_size, (CONTEXT,), generator=torch.Generator().manual_seed(1))
    bounds = [(0, CONTEXT // 2), (CONTEXT // 2, CONTEXT)]
    target = ids.roll(-1)
    weight = model.model.get_output_embeddings().weight
    product = fastest(weight.device, weight.dtype)
    tiled = TiledStatistics(model.head)
    rows = tiled.rows

    @torch.inference_mode()
    def body() -> torch.Tensor:
        return model.hidden(ids, bounds)

    @torch.inference_mode()
    def warm_up() -> Any:
        return tiled(body()[:16], target[:16])

    @torch.inference_mode()
    def head() -> Any:
        return product(body(), weight)

    @torch.inference_mode()
    def statistics() -> Any:
        hidden = body()
        parts = [tiled(hidden[i : i + rows], target[i : i + rows]) for i in range(0, CONTEXT, rows)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()
    def research() -> Any:
        logits = (body() @ weight.T).float()
        logprob = logits.log_softmax(-1)
        p = logits.softmax(-1)
        mean = (p * logprob).sum(-1)
        std = (p * logprob.square()).sum(-1) - mean.square()
        rank = (logits.argsort(-1, descending=True) == target[:, None]).nonzero()[:, 1]
        return {"logprob": logprob.gather(1, target[:, None])[:, 0], "entropy": -mean, "std": std, "rank": rank}

    return {"body + head": head, "+ statistics": statistics, "+ research": research, "warm-up": warm_up}
