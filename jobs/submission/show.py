"""`assay job status|logs|stop|list`: what a job server says, as a page or as JSON."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.errors import printable
from jobs.output import WIDTH, show_json, show_page
from jobs.submission.client import Job, asking, choose_address, connect, job_of, jobs_of
from jobs.submission.follow import GO_ON, ended, follow_to_end, say, show
from operators.storage.remote import redact

STOP_SECONDS = 75.0  # what a driver has to stop by itself, and Ray to see it


def run_status(job_id: str, address: str | None, shown_as: str) -> int:
    """Print a job's state; 0 whenever it could be told."""
    job = job_of(connect(choose_address(address)), job_id)
    if shown_as == "json":
        show_json(record(job), None)
        return 0
    values = {name: value for name, value in record(job).items() if value is not None}
    show_page(lambda console: _print_pairs(console, values), None)
    return 0


def run_logs(job_id: str, address: str | None, *, follow_it: bool) -> int:
    """Print a job's log; followed, the job's own exit code, else 0."""
    address = choose_address(address)
    client = connect(address)
    job_of(client, job_id)
    if follow_it:
        return follow_to_end(client, job_id, address)
    with asking(f"the log of {job_id}"):
        show(client.get_job_logs(job_id))
    return 0


def run_stop(job_id: str, address: str | None) -> int:
    """Stop a job and wait for its end: 0 once it is over, 1 where it is not after 75 s."""
    client = connect(choose_address(address))
    job = job_of(client, job_id)
    if job.is_over:
        say(f"{ended(job)} before")
        return 0
    with asking(f"stopping {job_id}"):
        client.stop_job(job_id)
    deadline = time.monotonic() + STOP_SECONDS
    while not (job := job_of(client, job_id)).is_over and time.monotonic() < deadline:
        time.sleep(0.5)
    if not job.is_over:
        pending = "; it has not started: it ends once it does, or when Ray gives it up, 15 minutes after it was sent"
        said = f"job {job_id} was told to stop and has not after {STOP_SECONDS:.0f} s"
        say(f"{said}{pending if job.state == 'PENDING' else ''}")
        return 1
    say(ended(job))
    if job.was_cut_short:
        say(GO_ON)
    return 0


def run_list(address: str | None, shown_as: str, *, every: bool) -> int:
    """Print the jobs that `assay submit` has sent, or every submitted job, the newest first."""
    jobs = [job for job in jobs_of(connect(choose_address(address))) if every or job.key is not None][::-1]
    if shown_as == "json":
        show_json([record(job) for job in jobs], None)
        return 0
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
    for job in jobs:
        seen = record(job)
        table.add_row(*(escape(_text(seen[name])) for name in _COLUMNS))
    show_page(lambda console: console.print(table), None, width=max(WIDTH, 160))
    return 0


_COLUMNS = ("id", "state", "verb", "lake", "run_id", "started", "seconds", "exit_code")


def record(job: Job) -> dict[str, Any]:
    """A job as JSON: times as ISO 8601 in UTC, `seconds` until its end or now; text made harmless for terminals."""
    until = job.ended or datetime.now(UTC)
    seconds = None if job.started is None else round((until - job.started).total_seconds(), 1)
    text = {"id": job.id, "state": job.state, "verb": job.verb, "lake": job.lake, "run_id": job.run_id}
    return {
        **{name: None if value is None else printable(redact(value)) for name, value in text.items()},
        "started": None if job.started is None else job.started.isoformat(timespec="seconds"),
        "ended": None if job.ended is None else job.ended.isoformat(timespec="seconds"),
        "seconds": seconds,
        "exit_code": job.exit_code,
        "message": printable(redact(job.message)),
    }


def _print_pairs(console: Console, values: dict[str, Any]) -> None:
    for name, value in values.items():
        console.print(f"[bold]{name:10}[/bold] {escape(_text(value))}", soft_wrap=True)


def _text(value: object) -> str:
    return "" if value is None else str(value)
