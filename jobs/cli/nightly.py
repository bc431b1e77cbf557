"""`assay nightly`: its flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import Address, TableOrJson, app, errors, example

_EXAMPLE = example(
    "assay nightly job.yaml",
    "assay nightly job.yaml --dry-run",
    "assay nightly job.yaml --night 2026-11-20 --format json",
)


@app.command(epilog=_EXAMPLE)
def nightly(
    file: Annotated[Path, typer.Argument(help="Job file with the fields of `score` and a block `nightly`.")],
    night: Annotated[
        str | None, typer.Option(help="Date of the night (default: today in the job's zone).", metavar="YYYY-MM-DD")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is new or changed and what would be done.")
    ] = False,
    format: Annotated[  # noqa: A002 - the flag's name
        TableOrJson, typer.Option(help="How the summary is printed: to be read, or as JSON.")
    ] = TableOrJson.table,
    address: Address = None,
    abandon: Annotated[
        str | None,
        typer.Option(
            help="Give up the unfinished night of this date; the next scores its shards.", metavar="YYYY-MM-DD"
        ),
    ] = None,
) -> None:
    """Score what is new or changed since the last good night, compare with the nights before, write a summary.

    Exit code 0: a good night. 1: it failed, the next one goes on with it. 2: it cannot be run as asked. 3: findings
    that `fail_on` names. 4: another night is under way.
    """
    with errors():
        from jobs.nightly.command import run_nightly

        code = run_nightly(file, night=night, dry_run=dry_run, fmt=format.value, address=address, abandon=abandon)
        raise typer.Exit(code)
