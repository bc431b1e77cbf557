"""`assay exchangeability`: its flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import (
    Address,
    EngineOption,
    Lake,
    OutputFile,
    ResultFormat,
    StorageOptions,
    app,
    errors,
    example,
    given,
)


@app.command(
    epilog=example(
        "assay exchangeability lake --benchmark-run gsm8k --dry-run",
        "assay exchangeability lake --benchmark-run gsm8k --run-id gsm8k-orders",
        "assay exchangeability lake --benchmark-run gsm8k --only-test --format json",
    )
)
def exchangeability(
    lake: Lake,
    benchmark_run: Annotated[
        str, typer.Option(help="Run that scored the benchmark, a document an item.", metavar="RUN_ID")
    ],
    run_id: Annotated[
        str | None, typer.Option(help="Run of the orders, resumed where it is there (default: RUN_ID-orders).")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Groups of consecutive items, of two or more (default: 50).", min=2)
    ] = None,
    permutations: Annotated[
        int | None, typer.Option(help="Orders drawn of each; p cannot fall below 1 / (N + 1) (default: 250).", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the orders (default: 0).", min=0)] = None,
    items: Annotated[int | None, typer.Option(help="Only the first N items (default: all).", min=4)] = None,
    separator: Annotated[str | None, typer.Option(help=r"Between two items (default: '\n\n', an empty line).")] = None,
    only_test: Annotated[bool, typer.Option("--only-test", help="Score nothing: test the run that is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be scored and what it costs.")] = False,
    overwrite: Annotated[
        str | None, typer.Option(help="Drop the orders of this run id and make them anew.", metavar="RUN_ID")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Longest window in tokens (default: the benchmark run's).")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Step between windows (default: the benchmark run's).")] = None,
    engine: EngineOption = None,
    address: Address = None,
    actors: Annotated[int | None, typer.Option(help="Scoring actors (default: one a GPU, else one a core).")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens in a forward pass (default: by device).")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N (default: the benchmark run's).")
    ] = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Was a benchmark trained on as a file? Tests whether the model prefers its order of items to other orders."""
    flags = given({
        "context": context, "stride": stride, "engine": engine, "address": address, "actors": actors,
        "batch_tokens": batch_tokens, "device": device,
    })  # fmt: skip
    asked = given({"shards": shards, "permutations": permutations, "seed": seed, "items": items})
    with errors():
        from jobs.exchangeability.request import ExchangeabilityOptions
        from jobs.exchangeability.run import run_exchangeability
        from jobs.query import read_options
        from jobs.score import unescaped

        if separator is not None:
            asked["separator"] = unescaped(separator)
        options = ExchangeabilityOptions(
            lake, benchmark_run, run_id, asked, flags, overwrite, read_options(storage_options)
        )
        run_exchangeability(options, format and format.value, output, only_test=only_test, dry_run=dry_run)
