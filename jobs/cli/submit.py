"""`assay submit` and `assay job`: flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import TableOrJson, app, errors, example

JobServer = Annotated[
    str | None,
    typer.Option(help="The head's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS)."),
]
JobId = Annotated[str, typer.Argument(help="Id of the job, as `assay submit` printed it.", metavar="ID")]


ShownAs = Annotated[TableOrJson, typer.Option(help="How it is printed.")]

jobs = typer.Typer(
    name="job",
    help="Jobs that were submitted to a Ray cluster: their state and log, and stopping them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(jobs)


@app.command(
    epilog=example("assay submit job.yaml --address http://head:8265 --follow", "assay submit job.yaml --dry-run")
)
def submit(
    file: Annotated[Path, typer.Argument(help="Job file (YAML).", metavar="FILE")],
    address: JobServer = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the job's log until it ends; exit with its exit code.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, shards, resources, estimates; send nothing.")
    ] = False,
    submission_id: Annotated[
        str | None,
        typer.Option(help="Id of the job (default: made of verb and run, and counted).", metavar="ID"),
    ] = None,
) -> None:
    """Submit a job file to a Ray cluster, validated whole before. The same job is never under way twice.

    Exit code 0: submitted. 2: a fault of the file, or no cluster at the address.
    With --follow the job's own: 130 where it was stopped. 1: the cluster was lost. Ctrl-C leaves the job running: 130.
    """
    with errors():
        from jobs.submission.run import run_submit

        raise typer.Exit(run_submit(file, address, submission_id, follow_it=follow, dry_run=dry_run))


@jobs.command(epilog=example("assay job status score-monday-1f0c9a3e-1 --address http://head:8265"))
def status(job_id: JobId, address: JobServer = None, format: ShownAs = TableOrJson.table) -> None:  # noqa: A002 - the flag
    """State, verb, lake, run, times, message and exit code of a job. Exit code 0 whenever they could be told."""
    with errors():
        from jobs.submission.show import run_status

        raise typer.Exit(run_status(job_id, address, format.value))


@jobs.command(epilog=example("assay job logs score-monday-1f0c9a3e-1 --follow"))
def logs(
    job_id: JobId,
    address: JobServer = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends; exit with its exit code.")
    ] = False,
) -> None:
    """Print what a job has printed."""
    with errors():
        from jobs.submission.show import run_logs

        raise typer.Exit(run_logs(job_id, address, follow_it=follow))


@jobs.command(epilog=example("assay job stop score-monday-1f0c9a3e-1"))
def stop(job_id: JobId, address: JobServer = None) -> None:
    """Stop a job, and wait until it has: it writes down what is done, so that the same file goes on from there."""
    with errors():
        from jobs.submission.show import run_stop

        raise typer.Exit(run_stop(job_id, address))


@jobs.command("list", epilog=example("assay job list --address http://head:8265 --format json"))
def list_(
    address: JobServer = None,
    format: ShownAs = TableOrJson.table,  # noqa: A002 - the flag's name
    every: Annotated[bool, typer.Option("--all", help="Also jobs that something else has submitted.")] = False,
) -> None:
    """The jobs of a cluster, the newest first."""
    with errors():
        from jobs.submission.show import run_list

        raise typer.Exit(run_list(address, format.value, every=every))
