"""`assay catalog`, `assay sql` and `assay verify`: their flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Lake, Output, OutputFile, StorageOptions, app, errors, example


@app.command(epilog=example("assay catalog lake", 'duckdb lake/lake.duckdb "select * from runs"'))
def catalog(lake: Lake, storage_options: StorageOptions = None) -> None:
    """Rebuild the lake's DuckDB catalog (views and macros only) and print what it holds."""
    with errors():
        from jobs.query import read_options, run_catalog

        run_catalog(lake, read_options(storage_options))


@app.command(
    epilog=example(
        'assay sql lake "select doc_id, avg(logprob) from tokens group by all order by 2 desc limit 5"',
        "assay sql lake \"from min_k('monday', ratio := 0.2)\" --format csv --output scores.csv",
    )
)
def sql(
    lake: Lake,
    query: Annotated[str, typer.Argument(help="One SELECT over the views and macros; - reads standard input.")],
    format: Annotated[Output, typer.Option(help="How rows are printed.")] = Output.table,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    run_id: Annotated[
        list[str] | None, typer.Option(help="Only these runs; others are not even listed. Repeatable.")
    ] = None,
    storage_options: StorageOptions = None,
) -> None:
    """Query the lake with SQL, read-only."""
    with errors():
        from jobs.query import read_options, run_sql

        run_sql(lake, query, format.value, output, runs=run_id or (), options=read_options(storage_options))


@app.command(epilog=example("assay verify lake", "assay verify lake --run-id monday --repair"))
def verify(
    lake: Lake,
    run_id: Annotated[str | None, typer.Option(help="One run instead of all.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="First drop what unfinished writes left; while no job writes there.")
    ] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Check the lake against its contract: prints every fault, exits 1 if there are any. Only --repair changes it."""
    with errors():
        from jobs.query import read_options, run_verify

        raise typer.Exit(run_verify(lake, run_id, repair=repair, options=read_options(storage_options)))
