"""`assay submit`: job file -> validated whole -> staged -> submitted -> followed to its end, where that is asked for.

Nothing is sent before the file is sound and the cluster has answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobSubmissionClient

from jobs.errors import exit_code, printable
from jobs.job_file import JobFile, read_job_file
from jobs.job_file.read import raise_faults
from jobs.submission.client import Job, SubmissionError, asking, check_id, choose_address, connect, jobs_of
from jobs.submission.follow import follow_to_end, say
from jobs.submission.paths import LocalFile, local_files
from jobs.submission.request import Request
from jobs.submission.staging import Staged, staged
from operators.storage.remote import redact
from pipelines.config import ConfigError


@dataclass(frozen=True)
class Checked:
    """A job that can be sent."""

    job: JobFile
    files: list[LocalFile]
    request: Request


def run_submit(path: Path, address: str | None, submission_id: str | None, *, follow_it: bool, dry_run: bool) -> int:
    """Submit a job file; the exit code of the command.

    Raises:
        ConfigError: a fault of the file, no cluster at the address, or the same job is under way there.
        SubmissionError: the cluster was there and failed.
    """
    checked = check(path)
    if submission_id is not None:
        try:
            check_id(submission_id)
        except ValueError as error:
            raise ConfigError(f"--submission-id: {error}") from None
    if dry_run:
        show_plan(checked, address)
        return 0
    address = choose_address(address, checked.job.submit.address)
    client = connect(address)
    with staged(checked.job, checked.files) as folder:
        job_id = send(client, checked.request, folder, submission_id, address)
    say(f"submitted {job_id}: assay {checked.job.name} ({_size(checked, folder)})")
    if not follow_it:
        say(f"  assay job logs {job_id} --follow --address {address}")
        say(f"  assay job stop {job_id} --address {address}")
        return 0
    return follow_to_end(client, job_id, address)


def check(path: Path) -> Checked:
    """The job of a file, and what goes along with it.

    Raises:
        ConfigError: every fault of the file and of the local paths that it names.
    """
    job = read_job_file(path)
    files, faults = local_files(job)
    raise_faults(path, faults)
    return Checked(job, files, Request.of(job))


def send(client: JobSubmissionClient, request: Request, folder: Staged, submission_id: str | None, address: str) -> str:
    """Upload and submit; the job's id. `address`: the client's, for the commands that a refusal names.

    Raises:
        ConfigError: the same job is under way, or the id is taken.
        SubmissionError: the job server failed.
    """
    jobs = jobs_of(client)
    _refuse_second(request, jobs, address)
    job_id = submission_id or request.next_id(jobs)
    try:
        with asking("submitting"):
            return str(
                client.submit_job(
                    entrypoint=request.entrypoint,
                    submission_id=job_id,
                    runtime_env={**request.runtime_env, "working_dir": str(folder.folder)},
                    metadata=dict(request.metadata),
                    **request.resources,
                )
            )
    except SubmissionError:
        jobs = jobs_of(client)
        _refuse_second(request, jobs, address)  # another one was faster
        if any(job.id == job_id for job in jobs):
            raise ConfigError(f"--submission-id: a job {job_id!r} is there already; give another, or none") from None
        raise


def show_plan(checked: Checked, address: str | None) -> None:
    """What would be sent, and what the job would do as far as that can be told from here."""
    from jobs.check import print_job

    job, request = checked.job, checked.request
    try:
        where = choose_address(address, job.submit.address)
    except ConfigError:
        where = "(no address)"
    with staged(job, checked.files) as folder:
        size = _size(checked, folder)
    lines = [f"job {request.key}-N at {where}", f"  entrypoint  {request.entrypoint}", f"  uploaded    {size}"]
    lines += [f"  environment {', '.join(sorted(request.runtime_env['env_vars']))}"]
    lines += [f"  secret      {name} from {reference}" for name, reference in job.submit.secrets.items()]
    lines += [f"  {name.removeprefix('entrypoint_'):11} {value}" for name, value in request.resources.items()]
    print(printable(redact("\n".join(lines))), flush=True)
    try:
        print_job(job, elsewhere=True)
    except Exception as error:
        if exit_code(error) is None:
            raise
        say(f"not told from here, where the job will not run: {error}")


def _refuse_second(request: Request, jobs: Sequence[Job], address: str) -> None:
    if other := request.under_way(jobs):
        raise ConfigError(
            f"job {other.id} does the same and is {other.state.lower()}\n"
            f"to look on: assay job logs {other.id} --follow --address {address}\n"
            f"to end it: assay job stop {other.id} --address {address}"
        )


def _size(checked: Checked, folder: Staged) -> str:
    along = "".join(f", {file.name} ({len(file.content):,} bytes)" for file in checked.files)
    what = "the job file" if checked.job.submit.code == "image" else "code and job file"
    return f"{what}{along}: {folder.n_files:,} files, {folder.n_bytes:,} bytes"
