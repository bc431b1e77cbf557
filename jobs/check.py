"""`assay check`, `assay run`: a job file looked at whole, and done.

file -> its own faults + those of what it names -> sound, or every fault at once
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.errors import printable
from jobs.job_file.read import JobFile, examine, raise_faults, read_job_file
from jobs.job_file.verbs import NIGHTLY, SCORE, has_dry_run
from jobs.job_file.words import words
from jobs.job_file.world import dry_run, looked_at, make_plans, world_faults
from operators.storage.remote import redact
from pipelines.config import ConfigError
from pipelines.logs import configure_logs

_HINT = "(--offline checks the file alone, where input and model can be seen from the cluster only)"
_NO_SETTINGS = "--set: every night reads the file itself; change it there"


def run_check(path: Path, settings: Sequence[str], *, offline: bool, plan: bool) -> None:
    """Print that a job file is sound, and, with `plan`, what it would do.

    Raises:
        ConfigError: every fault of the file and, unless `offline`, of what it names.
    """
    configure_logs()
    if offline and plan:
        raise ConfigError("--dry-run looks at input and model, which --offline leaves alone: give one of them")
    examined = examine(path, settings)
    if plan and settings and examined.verb == NIGHTLY:
        raise ConfigError(_NO_SETTINGS)
    found = [] if offline else world_faults(examined)
    hint = [] if examined.faults or not found else [_HINT]
    raise_faults(path, [*examined.faults, *_unsendable(examined.job), *found, *hint])
    if examined.job is None:
        raise AssertionError(f"{path}: no job and no fault")
    if plan:
        print_job(examined.job)
        return
    unseen = "the file itself; input, model and lake were not looked at"
    seen = unseen if offline else f"file, {looked_at(examined.job)}"
    print(printable(f"{path}: sound ({seen})"))
    print(f"  {command(examined.job)}")


def _unsendable(job: JobFile | None) -> list[str]:
    """Of a file that says which cluster it is for: the local paths that mean nothing there."""
    if job is None or job.submit.address is None:
        return []
    from jobs.submission.paths import local_files

    return local_files(job)[1]


def print_job(job: JobFile, *, elsewhere: bool = False) -> None:
    """What a sound job would do: of scoring the plan, with estimates of tokens and time. `elsewhere`: on a cluster.

    Raises:
        ConfigError, InputError, ModelError, ResumeError: what it names cannot be used from here.
    """
    if job.verb == SCORE:
        from jobs.score import print_plans

        print_plans(make_plans(job, elsewhere=elsewhere))
    elif has_dry_run(job.verb):
        code, said, wrong = dry_run(job, elsewhere=elsewhere)
        if code:
            raise ConfigError(wrong)
        print(said, end="")
    else:
        print(command(job))


def command(job: JobFile) -> str:
    """The command line of a job, for a shell."""
    import shlex

    return printable(redact(shlex.join(["assay", *words(job)])))


def run_job(path: Path, settings: Sequence[str]) -> None:
    """Do what a job file says, in this process: the verb prints, and ends the process, as it does by itself.

    Raises:
        ConfigError: every fault of the file; a secret that it names is not there.
        SystemExit: always at the end, with the verb's exit code.
    """
    from jobs.cli import app
    from pipelines.secrets import take

    job = read_job_file(path, settings)
    if job.verb == NIGHTLY and settings:
        raise ConfigError(_NO_SETTINGS)
    take(job.submit.secrets)
    app(args=words(job), prog_name="assay")
