"""`assay memorization`: its flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Lake, OutputFile, StorageOptions, TableOrJson, app, errors, example


@app.command(
    epilog=example(
        "assay score --transform windows:prefix=50,suffix=50 --base-run monday --run-id monday-windows --lake lake",
        "assay memorization lake --run-id monday --group-by domain --copies-column copies",
        "assay sql lake \"from memorized_spans where run_id = 'monday' limit 5\"",
    )
)
def memorization(
    lake: Lake,
    run_id: Annotated[str, typer.Option(help="The run whose documents are searched.")],
    prefix: Annotated[int, typer.Option(help="Tokens of a prefix.")] = 50,
    suffix: Annotated[int, typer.Option(help="Tokens of a suffix, all of which must be written.")] = 50,
    stride: Annotated[
        int | None, typer.Option(help="Tokens between suffixes, in the document's context (default: --suffix).")
    ] = None,
    windows_run: Annotated[
        list[str] | None,
        typer.Option(help="Run of strict windows. Repeatable (default: all that fit).", metavar="RUN_ID"),
    ] = None,
    min_tokens: Annotated[int, typer.Option(help="Tokens of the shortest span.")] = 50,
    misses: Annotated[float, typer.Option(help="Share of missed tokens that a near-verbatim span stays below.")] = 0.1,
    completion: Annotated[bool, typer.Option("--completion", help="Leave out prompts.")] = False,
    temperature: Annotated[float, typer.Option(help="Of sampling; other than 1 needs --top-k.")] = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Sample from the K most likely tokens, which the run's lists must hold; 0: from all.")
    ] = 0,
    n: Annotated[str, typer.Option("--n", help="Numbers of samples, with commas.")] = "1,10,100,1000",
    p: Annotated[str, typer.Option("--p", help="Chances that the suffix is among them, with commas.")] = "0.5",
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="domain or a kept column. Repeatable (default: domain, if any).", metavar="COLUMN"),
    ] = None,
    copies_column: Annotated[
        str | None,
        typer.Option(help="Kept column: how often a document was in training (default: copies, if any)."),
    ] = None,
    canaries: Annotated[
        str | None,
        typer.Option(
            help="Exposure of documents of label 1 among those that share this column: domain or a kept one.",
            metavar="COLUMN",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Spans and canaries to show.", min=0)] = 20,
    format: Annotated[  # noqa: A002 - the flag's name
        TableOrJson | None, typer.Option(help="How numbers are printed (default: as --output ends, or table).")
    ] = None,
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """What the model would write of a run's texts by itself: windows, memorised spans, canaries. Kept in the lake."""
    with errors():
        from jobs.memorization.request import MemorizationOptions, parse_chances, parse_samples, parse_search
        from jobs.memorization.run import run_memorization
        from jobs.query import read_options

        search = parse_search(
            prefix=prefix, suffix=suffix, stride=suffix if stride is None else stride, min_tokens=min_tokens,
            misses=misses, temperature=temperature, top_k=top_k, completion=completion,
        )  # fmt: skip
        options = MemorizationOptions(
            lake=lake, run_id=run_id, search=search, windows_runs=windows_run or (), group_by=group_by or (),
            copies_column=copies_column, canaries=canaries, samples=parse_samples(n), chances=parse_chances(p),
            limit=limit, storage_options=read_options(storage_options),
        )  # fmt: skip
        run_memorization(options, format and format.value, output)
