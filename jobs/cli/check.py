"""`assay check` and `assay run`: flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import app, errors, example

JobPath = Annotated[Path, typer.Argument(help="Job file (YAML).", metavar="FILE")]

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="In place of what the file says: limit=100, submit.address=... Repeatable.",
                 metavar="FIELD=VALUE"),
]  # fmt: skip


@app.command(epilog=example("assay check job.yaml", "assay check job.yaml --offline", "assay check job.yaml --dry-run"))
def check(
    file: JobPath,
    offline: Annotated[
        bool, typer.Option("--offline", help="The file alone: look at no input, model or lake.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print shards, resources, and estimated tokens and time.")
    ] = False,
    set_: Settings = None,
) -> None:
    """Is a job file sound? Lists every fault at once, of the file and of the input, model and lake that it names.

    Exit code 0: sound. 2: faults.
    """
    with errors():
        from jobs.check import run_check

        run_check(file, set_ or (), offline=offline, plan=dry_run)


@app.command(epilog=example("assay run job.yaml", "assay run job.yaml --set limit=100 --set run_id=trial"))
def run(file: JobPath, set_: Settings = None) -> None:
    """Do what a job file says, here and now: its verb with its fields, and that verb's exit code."""
    with errors():
        from jobs.check import run_job

        run_job(file, set_ or ())
