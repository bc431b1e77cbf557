"""`assay bench ...`: flags and help of every benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import app, errors, example

bench = typer.Typer(help="Measure: medians and ratios of interleaved rounds, memory and agreement beside speed.",
                    no_args_is_help=True)  # fmt: skip
app.add_typer(bench, name="bench")


@bench.command(epilog=example("assay bench statistics", "assay bench statistics --shape wide --dtype bfloat16"))
def statistics(
    shape: Annotated[list[str] | None, typer.Option(help="gpt2-small, wide. Repeatable (default: all).")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16. Repeatable (default: all).")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 7,
) -> None:
    """What the statistics cost over the model's body and one plain head product."""
    with errors():
        from jobs.bench.statistics import bench_statistics

        bench_statistics(shape, dtype, rounds)


@bench.command("score", epilog=example("assay bench score", "assay bench score --shape wide --no-peers --rounds 3"))
def bench_score_command(
    shape: Annotated[str, typer.Option(help="gpt2-small or wide.")] = "gpt2-small",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
    documents: Annotated[int, typer.Option(help="Documents of log-normal length.", min=8)] = 32,
    peers: Annotated[bool, typer.Option(help="Also lm-evaluation-harness and minicons, where installed.")] = True,
) -> None:
    """Useful tokens/s on mixed lengths against the bare forward pass, a research loop and peers."""
    with errors():
        from jobs.bench.score import bench_score

        bench_score(shape, rounds, documents, peers)


@bench.command(epilog=example("assay bench query", "assay bench query --tokens 1000000 --rounds 1"))
def query(
    tokens: Annotated[int, typer.Option(help="Tokens of the lake that is made for it.", min=10_000)] = 20_000_000,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
) -> None:
    """How fast scores are asked of a lake, in tokens/s, against a plain GROUP BY."""
    with errors():
        from jobs.bench.query import bench_query

        bench_query(tokens, rounds)


@bench.command(epilog=example("assay bench overlap", "assay bench overlap --size 1GB --items 20000 --compared 40MB"))
def overlap(
    size: Annotated[str, typer.Option(help="Text of the corpus that is made: 20MB, 1GB.")] = "20MB",
    items: Annotated[int, typer.Option(help="Benchmark items; half of them may be planted.", min=40)] = 2000,
    engine: Annotated[
        list[str] | None, typer.Option(help="inline (1 core), ray (2). Repeatable (default: both).")
    ] = None,
    ngram: Annotated[int, typer.Option(help="Words of an n-gram.", min=10)] = 13,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 1,
    compared: Annotated[str, typer.Option(help="The share that datatrove reads too, where it is installed.")] = "2MB",
    peers: Annotated[bool, typer.Option(help="Also datatrove, where installed.")] = True,
    seed: Annotated[int, typer.Option(help="Of text and items.", min=0)] = 0,
) -> None:
    """Whether `assay overlap` finds each planted n-gram, nothing else (else exit code 1); speed, memory, datatrove."""
    with errors():
        from jobs.bench.overlap.run import bench_overlap
        from jobs.bench.overlap.variants import CORES

        if not bench_overlap(size, items, engine or tuple(CORES), ngram, rounds, compared, peers, seed):
            raise typer.Exit(1)


@bench.command(epilog=example("assay bench tokenizers", "assay bench tokenizers --size 20MB --engine inline"))
def tokenizers(
    size: Annotated[str, typer.Option(help="Text of many scripts that is made: 20MB, 1GB.")] = "1GB",
    engine: Annotated[
        list[str] | None, typer.Option(help="inline (1 core), ray (2). Repeatable (default: both).")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 1,
    seed: Annotated[int, typer.Option(help="Of the text.", min=0)] = 0,
) -> None:
    """How fast a tokenizer of 32,768 entries is profiled, and in how much memory, beside bare encoding."""
    with errors():
        from jobs.bench.tokenizers.run import CORES, bench_tokenizers

        if not bench_tokenizers(size, rounds, engine or tuple(CORES), seed):
            raise typer.Exit(1)


@bench.command(epilog=example("assay bench mixture", "assay bench mixture --merges 3000 --sources 3 --size 5MB"))
def mixture(
    merges: Annotated[int, typer.Option(help="Of the tokenizer that is trained; all are used.", min=100)] = 30_000,
    sources: Annotated[int, typer.Option(help="Kinds of text it is trained on.", min=2, max=12)] = 5,
    size: Annotated[str, typer.Option(help="Text it is trained on, and of the candidates together.")] = "50MB",
    worlds: Annotated[int, typer.Option(help="Small worlds of made-up languages beside it.", min=1, max=1000)] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds of the command.", min=1, max=100)] = 1,
    seed: Annotated[int, typer.Option(help="Of shares and text.", min=0)] = 0,
) -> None:
    """Whether shares that a tokenizer was trained on are found (made-up ones by 0.03, else exit code 1); seconds."""
    with errors():
        from jobs.bench.mixture.run import bench_mixture

        if not bench_mixture(merges, sources, size, worlds, rounds, seed):
            raise typer.Exit(1)


@bench.command(epilog=example("assay bench storage"))
def storage(
    folder: Annotated[Path, typer.Option(help="The demo's folder: real text and a trained model.")] = Path(
        "assay-demo"
    ),
) -> None:
    """Bytes a token on real statistics, by column and precision, and write and read speed."""
    with errors():
        from jobs.bench.storage import bench_storage

        bench_storage(folder)


@bench.command(epilog=example("assay bench products"))
def products(
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 9,
) -> None:
    """Speed and rounding of float32 products on this CPU: torch's own against those that scoring uses."""
    with errors():
        from jobs.bench.products import bench_products

        bench_products(rounds)


@bench.command(
    epilog=example(
        "assay bench extraction", "assay bench extraction --lake lake --run-id monday-windows --windows 20000"
    )
)
def extraction(
    folder: Annotated[
        Path, typer.Option(help="The demo's folder, whose texts are scored in windows where no --lake is given.")
    ] = Path("assay-demo"),
    lake: Annotated[str | None, typer.Option(help="Lake with a run of strict windows.")] = None,
    run_id: Annotated[
        list[str] | None, typer.Option(help="That run (--transform windows); repeatable, for other offsets.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its model, where that lies elsewhere now.")] = None,
    windows: Annotated[int, typer.Option(help="Windows to try, of whole documents.", min=1)] = 5000,
    sampled: Annotated[int, typer.Option(help="Windows to sample continuations of.", min=1)] = 8,
    draws: Annotated[int, typer.Option(help="Continuations of each.", min=1)] = 2000,
    temperature: Annotated[
        float, typer.Option(help="Of sampling by stored lists, beside plain sampling.", min=0.01, max=100)
    ] = 0.8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Extraction by ranks against real generation: the same windows, greedy and sampled; how long either takes."""
    with errors():
        from jobs.bench.extraction.run import bench_extraction

        bench_extraction(
            folder, lake, run_id or (), model, most=windows, sampled=sampled, draws=draws, temperature=temperature,
            device=device,
        )  # fmt: skip


@bench.command(epilog=example("assay bench calibration", "assay bench calibration --quick"))
def calibration(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few samples, to see that it runs: nothing is judged.")
    ] = False,
    draws: Annotated[int | None, typer.Option(help="Samples in every setting; judged from 1,000 on.", min=2)] = None,
    seed: Annotated[int, typer.Option(help="Of the samples.", min=0)] = 0,
) -> None:
    """Whether intervals cover, p-values are uniform and selections as pure as they promise where the truth is known."""
    with errors():
        from jobs.bench.calibration import FULL_DRAWS, QUICK_DRAWS, bench_calibration

        bench_calibration(draws or (QUICK_DRAWS if quick else FULL_DRAWS), seed)


@bench.command(epilog=example("assay bench memory", "assay bench memory --tokens 1000000"))
def memory(
    tokens: Annotated[
        int, typer.Option(help="Tokens to score; the target is judged from 20 M on.", min=1)
    ] = 20_000_000,
) -> None:
    """Whether a scorer's memory grows over a long run: resident memory after every block."""
    with errors():
        from jobs.bench.memory import bench_memory

        bench_memory(tokens)


@bench.command(epilog=example("assay bench device", "assay bench device --device cpu --shape tiny --rounds 1"))
def device(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or cpu.")] = "cuda",
    shape: Annotated[str, typer.Option(help="1b (for accelerators) or tiny.")] = "1b",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 (default on CUDA), float16 or float32.")] = None,
) -> None:
    """Scoring on one accelerator against the bare forward pass, a research loop and padded batches."""
    with errors():
        from jobs.bench.device import bench_device

        bench_device(device, shape, rounds, dtype)


@bench.command(epilog=example("assay bench scaling", "assay bench scaling --seconds 20 --rounds 1 --shape small"))
def scaling(
    seconds: Annotated[
        float, typer.Option(help="What one thread takes for the corpus; the targets are judged from 100 on.", min=5)
    ] = 120,
    shape: Annotated[str, typer.Option(help="Model: small, wide or gpt2-small.")] = "gpt2-small",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 2,
) -> None:
    """Two actors against one, and the Ray engine against a plain loop, by core; other rows are exit code 1."""
    with errors():
        from jobs.bench.scaling.run import bench_scaling

        if not bench_scaling(seconds, shape, rounds):
            raise typer.Exit(1)


@bench.command(epilog=example("assay bench resume", "assay bench resume --shards 1000000"))
def resume(
    shards: Annotated[
        list[int] | None, typer.Option(help="Files of the input. Repeatable (default: 10,000 and 100,000).", min=100)
    ] = None,
    latency: Annotated[float, typer.Option(help="Of a request to the object store, in ms.", min=0)] = 50,
    seed: Annotated[int, typer.Option(help="Of the receipts that are lost.", min=0)] = 0,
) -> None:
    """What a run of so many shards asks of its driver, killed and resumed; work done twice is exit code 1."""
    with errors():
        from jobs.bench.resume.run import bench_resume

        if not bench_resume(shards or (10_000, 100_000), latency, seed):
            raise typer.Exit(1)


@bench.command("first-use", epilog=example("assay bench first-use", "assay bench first-use --no-demo"))
def first_use(
    folder: Annotated[Path | None, typer.Option(help="Where the demo goes and stays: empty, or not there yet.")] = None,
    rounds: Annotated[int, typer.Option(help="Starts of `assay --help`.", min=1, max=100)] = 9,
    demo: Annotated[bool, typer.Option(help="Also time `assay demo`.")] = True,
) -> None:
    """What a newcomer waits for: the wall time of `assay --help` and of `assay demo`."""
    with errors():
        from jobs.bench.first_use import bench_first_use

        bench_first_use(folder, rounds, demo)


@bench.command("all", epilog=example("assay bench all", "assay bench all --quick --output record.txt"))
def bench_all_command(
    quick: Annotated[bool, typer.Option("--quick", help="Minutes, over too little to be quoted.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="The record (default: infra/benchmarks/<date>-<hardware>.txt).")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this benchmark. Repeatable (default: all).")] = None,
) -> None:
    """Every benchmark that this machine can run: one dated record, with a verdict on every target."""
    with errors():
        from jobs.bench.suite import bench_all

        bench_all(quick, output, only or ())


@bench.command(epilog=example("assay bench targets infra/benchmarks/2026-11-21-cpu-2-cores.txt"))
def targets(
    file: Annotated[Path, typer.Argument(help="A record, as `assay bench all` writes it.", metavar="FILE")],
) -> None:
    """Judge a stored record again: every target, what was measured, met or not."""
    with errors():
        from jobs.bench.targets import bench_targets

        bench_targets(file)
