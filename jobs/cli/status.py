"""`assay status`: flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Lake, StorageOptions, TableOrJson, app, errors, example


@app.command(epilog=example("assay status lake", "assay status s3://bucket/lake --run-id monday --watch"))
def status(
    lake: Lake,
    run_id: Annotated[str | None, typer.Option(help="One run, with all that is known of it.")] = None,
    format: Annotated[TableOrJson, typer.Option(help="How it is printed.")] = TableOrJson.table,  # noqa: A002 - the flag's name
    watch: Annotated[bool, typer.Option("--watch", help="Again every 5 s, until no run is under way.")] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Say how the runs of a lake stand, from what they wrote: while they run, or after they died. Changes nothing."""
    with errors():
        from jobs.query import read_options
        from jobs.status import run_status

        run_status(lake, run_id, format.value, watch=watch, options=read_options(storage_options))
