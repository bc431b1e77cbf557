"""`assay bench device`: scoring on one accelerator against the bare forward pass and against what people use today.

    python -m jobs.bench.device                                 a 1B Llama shape in bfloat16, for one H100 or H200
    python -m jobs.bench.device --device cpu --shape tiny       the same code anywhere, to see that it runs

Random weights, random ids. Variants take turns; CUDA events time them; ratios are taken within a round. Beside the
speed stand memory, checksums, the distance from float64, and model FLOP utilisation against the data sheet's dense
peak. Needs torch, transformers, pyarrow, numpy, typer and rich: neither Ray nor DuckDB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
import typer

from jobs.bench import device_checks as checks
from jobs.bench import device_variants as variants
from jobs.bench.device_work import PEAK_FLOPS, Work, flops, full_rows, mixed
from jobs.bench.machine import hardware
from jobs.bench.measure import Timing, record, show, take_turns, wall_clock
from jobs.bench.shapes import DEVICE_SHAPES, model_config, random_model

BARE, FULL, MIXED = "bare forward, full rows", "assay, full rows", "assay, mixed lengths"
LOOP, PADDED, PADDED_LOGPROB = "research loop", "padded, sorted, 16", "padded, sorted, 16, log-prob alone"
HEAD = "head product alone"
KERNELS: tuple[Literal["torch", "triton"], ...] = ("torch", "triton")


@dataclass(frozen=True)
class Size:
    """How much is scored. `rows`: documents of a bare batch; `tokens`: of a work; `slow`: of the research loop's."""

    rows: int
    tokens: int
    slow: int
    head_rows: int
    vocabularies: tuple[int, ...]


SIZES = {
    "1b": Size(8, 131_072, 16_384, 16_384, (32_000, 128_256, 262_144)),
    "tiny": Size(4, 4_096, 1_024, 1_024, (512, 1_000)),
}


@dataclass(frozen=True)
class Measured:
    """One variant's times over `useful` tokens, the operations it needed, and its peak memory in MiB."""

    timing: Timing
    useful: int
    flops: float
    memory_mib: float

    @property
    def rate(self) -> float:
        return self.useful / self.timing.median

    def speed_against(self, other: Measured) -> float:
        """Median over rounds of this rate over the other's."""
        return other.timing.ratio(self.timing) * self.useful / other.useful


def bench_device(device: str = "cuda", shape: str = "1b", rounds: int = 5, dtype: str | None = None) -> None:
    """Run the verb. `dtype`: bfloat16 on CUDA and float32 elsewhere by default.

    Raises:
        typer.BadParameter: no such device, shape or dtype here.
    """
    place = _device(device)
    if shape not in SIZES:
        raise typer.BadParameter(f"--shape {shape}: choose from {', '.join(DEVICE_SHAPES)}")
    size, precision = SIZES[shape], _dtype(dtype, place)
    context = model_config(shape).max_position_embeddings
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(shape, precision, device=str(place))
        model.save_pretrained(folder)
        works = (full_rows(size.tokens // context, context, model.config.vocab_size),
                 mixed(size.tokens, context, model.config.vocab_size))  # fmt: skip
        scorer = variants.make_scorer(Path(folder), str(place), precision, context)
        body, is_compiled = variants.compiled(model.model, size.rows, context)
        measured = _measure(_runs(model, body, scorer, works, size), rounds, place)
        results["logprob_sum"] = _checksums(scorer, works)
        results["errors"] = {"whole": checks.model_errors(model, scorer, works[1].first(size.slow // 16))}
    head = _head(model, size, rounds, place, results["errors"])
    # Only now: its vocabularies and the float64 copies would stand in the way of the others' memory.
    results["head_memory"] = checks.head_memory(place, model.dtype, model.config.hidden_size, size.vocabularies)
    results |= _summary(measured, head, hardware() if place.type == "cuda" else None)
    _report(shape, precision, rounds, measured | head, results)
    record(
        "device", results, device=place.type, hardware=hardware(), shape=shape, dtype=precision, rounds=rounds,
        context=context, tokens=[work.tokens for work in works], documents=[len(work.lengths) for work in works],
        bare_compiled=is_compiled, batch_tokens=scorer.batch_tokens, kernel=type(scorer.statistics).__name__,
        cuda=torch.version.cuda,
    )  # fmt: skip


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter(f"--device {name}: no CUDA device here; --device cpu --shape tiny tries the code")
    return torch.device(name)


def _dtype(name: str | None, device: torch.device) -> variants.Dtype:
    wanted = name or ("bfloat16" if device.type == "cuda" else "float32")
    for known in get_args(variants.Dtype):
        if wanted == known:
            return known  # type: ignore[no-any-return]
    raise typer.BadParameter(f"--dtype {wanted}: choose from {', '.join(get_args(variants.Dtype))}")


Runs = dict[str, tuple[Callable[[], Any], int, float]]  # name -> call, useful tokens, operations


def _runs(model: Any, body: Any, scorer: Any, works: tuple[Work, Work], size: Size) -> Runs:
    """Everything that is timed over documents."""
    full, lengths = works
    slow = lengths.first(size.slow)
    tables = full.table(), lengths.table()
    bare = flops(model, full)
    return {
        BARE: (variants.bare_forward(model, body, full, size.rows), full.useful, bare),
        FULL: (lambda: scorer(tables[0]), full.useful, bare),
        MIXED: (lambda: scorer(tables[1]), lengths.useful, flops(model, lengths)),
        PADDED: (variants.padded(model, lengths, logprob_only=False), lengths.useful, flops(model, lengths)),
        PADDED_LOGPROB: (variants.padded(model, lengths, logprob_only=True), lengths.useful, flops(model, lengths)),
        LOOP: (variants.research_loop(model, slow), slow.useful, flops(model, slow)),
    }


def _measure(runs: Runs, rounds: int, device: torch.device) -> dict[str, Measured]:
    clock = event_clock if device.type == "cuda" else wall_clock
    timings = take_turns({name: run for name, (run, _, _) in runs.items()}, rounds, clock)
    memory = checks.Memory(device)
    return {
        name: Measured(timings[name], useful, operations, memory.peak_mib(run))
        for name, (run, useful, operations) in runs.items()
    }


def event_clock(run: Callable[[], Any]) -> float:
    """Seconds between two CUDA events around the call, the device idle before."""
    torch.cuda.synchronize()
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _head(
    model: Any, size: Size, rounds: int, device: torch.device, errors: dict[str, Any]
) -> dict[str, Measured]:  # fmt: skip
    """The head by itself, over normed hidden states drawn at random; adds each kernel's errors to `errors`."""
    from operators.head import VocabularyHead
    from operators.statistics import TileOptions, make_statistics

    weight = model.get_output_embeddings().weight.detach()
    draw = torch.Generator(device).manual_seed(4)
    hidden = torch.randn(size.head_rows, weight.shape[1], device=device, generator=draw).to(weight.dtype)
    target = torch.randint(0, len(weight), (size.head_rows,), device=device, generator=draw)
    head, operations = VocabularyHead(weight), 2.0 * weight.numel() * size.head_rows
    runs: Runs = {HEAD: (variants.head_product(hidden, weight), size.head_rows, operations)}
    truth = checks.oracle(hidden[:256], weight, target[:256])
    for name in KERNELS:
        try:
            kernel = make_statistics(head, options=TileOptions(kernel=name))
        except ValueError as error:
            errors[f"kernel {name}"] = {"skipped": str(error)}
            continue
        run = variants.statistics(kernel, hidden.to(head.product_dtype), target)
        found = run()
        errors[f"kernel {name}"] = checks.head_errors({k: v[:256].cpu() for k, v in found.items()}, _on_cpu(truth))
        runs[f"kernel {name}"] = (run, size.head_rows, operations)
    return _measure(runs, rounds, device)


def _on_cpu(columns: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.cpu() for name, values in columns.items()}


def _checksums(scorer: Any, works: tuple[Work, Work]) -> dict[str, float]:
    scored = (scorer.score(work.ids_N, work.lengths)["logprob"] for work in works)
    return {
        name: float(np.nansum(column, dtype=np.float64)) for name, column in zip((FULL, MIXED), scored, strict=True)
    }


def _summary(measured: Mapping[str, Measured], head: Mapping[str, Measured], name: str | None) -> dict[str, Any]:
    """Rates, ratios and utilisation by name; `name`: the accelerator, None where no peak is known."""
    kernel = head.get("kernel triton", head["kernel torch"])
    everything = {**measured, **head}
    peak = PEAK_FLOPS.get(name or "")
    return {
        "tokens_per_s": {label: m.rate for label, m in everything.items()},
        "noise": {label: m.timing.spread for label, m in everything.items()},
        "peak_mib": {label: m.memory_mib for label, m in everything.items()},
        "ratios": {
            "full rows of bare": measured[FULL].speed_against(measured[BARE]),
            "mixed of bare": measured[MIXED].speed_against(measured[BARE]),
            "statistics of head": kernel.timing.ratio(head[HEAD].timing),
            "over research loop": measured[MIXED].speed_against(measured[LOOP]),
            "over padded": measured[MIXED].speed_against(measured[PADDED]),
            "over padded, log-prob alone": measured[MIXED].speed_against(measured[PADDED_LOGPROB]),
        },
        "mfu": {} if peak is None else {label: m.flops / m.timing.median / peak for label, m in everything.items()},
    }


def _report(shape: str, dtype: str, rounds: int, measured: Mapping[str, Measured], results: dict[str, Any]) -> None:
    rows = []
    for label, m in measured.items():
        mfu = results["mfu"].get(label)
        rows.append([label, f"{m.rate:,.0f}", f"{m.timing.spread:.1%}", f"{m.memory_mib:,.0f} MiB",
                     "" if mfu is None else f"{mfu:.1%}"])  # fmt: skip
    title = f"{shape}, {dtype}, median of {rounds} rounds; memory beyond what was held before"
    show(title, ["variant", "useful tokens/s", "noise", "peak memory", "MFU"], rows)
    for name in ("ratios", "head_memory", "logprob_sum"):
        show(name.replace("_", " "), ["", ""], [[label, f"{value:,.4f}"] for label, value in results[name].items()])
    said = [[label, key, value if isinstance(value, str) else f"{value:.2e}"]
            for label, errors in results["errors"].items() for key, value in errors.items()]  # fmt: skip
    show("errors against float64", ["", "number", ""], said, ("number",))


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or cpu.")] = "cuda",
    shape: Annotated[str, typer.Option(help="1b or tiny.")] = "1b",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 (default on CUDA), float16 or float32.")] = None,
) -> None:
    """Scoring on one accelerator against the bare forward pass, a research loop and padded batches."""
    bench_device(device, shape, rounds, dtype)


if __name__ == "__main__":
    typer.run(main)
