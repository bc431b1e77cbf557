"""What is asked of the job server for a job file: its entrypoint, environment, metadata, and a name for what it does.

A job's key says what it would write: `score-monday-1f0c9a3e` is run monday of one lake. While a job of the same key is
under way another one is refused; later ones are its next attempts, `score-monday-1f0c9a3e-2`. Ray itself lets no two
jobs have one id, so that of two submissions at the same moment one wins, unless they were given ids by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from jobs.job_file import JobFile, words
from jobs.submission.client import Job
from jobs.submission.staging import JOB

# Ray kills a stopped driver after 3 s; ours first writes down what is done.
_STOPPING = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
_ENTRYPOINTS = {"working-dir": f"python -m jobs.cli run {JOB}", "image": f"assay run {JOB}"}


@dataclass(frozen=True)
class Request:
    """`runtime_env`: without the working directory, which is uploaded."""

    key: str
    entrypoint: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str]
    resources: dict[str, Any]

    @classmethod
    def of(cls, job: JobFile) -> Request:
        options = job.submit
        lake, run_id = _place(job)
        key = _key(job, lake, run_id)
        own = {"assay_verb": job.name, "assay_lake": lake, "assay_run_id": run_id, "assay_job": key}
        runtime_env: dict[str, Any] = {"env_vars": _STOPPING | options.env}
        if options.pip:
            runtime_env["pip"] = list(options.pip)
        asked = {
            "entrypoint_num_cpus": options.entrypoint_num_cpus,
            "entrypoint_num_gpus": options.entrypoint_num_gpus,
            "entrypoint_memory": options.entrypoint_memory,
            "entrypoint_resources": options.entrypoint_resources or None,
        }
        return cls(
            key,
            _ENTRYPOINTS[options.code],
            runtime_env,
            options.metadata | {name: value for name, value in own.items() if value is not None},
            {name: value for name, value in asked.items() if value is not None},
        )

    def under_way(self, jobs: Iterable[Job]) -> Job | None:
        """The job that does the same and is not over."""
        return next((job for job in jobs if job.key == self.key and not job.is_over), None)

    def next_id(self, jobs: Iterable[Job]) -> str:
        """The id of the next attempt."""
        numbers = (re.fullmatch(rf"{re.escape(self.key)}-(\d{{1,9}})", job.id) for job in jobs)
        return f"{self.key}-{1 + max((int(number[1]) for number in numbers if number), default=0)}"


def _place(job: JobFile) -> tuple[str | None, str | None]:
    """The lake, and what a job writes there: a run, the runs of a nightly job, or a result under a name."""
    nightly = job.nightly.name if job.verb == ("nightly",) and job.nightly is not None else None
    run_id = nightly or job.fields.get("run_id") or job.fields.get("name")
    lake = job.fields.get("lake")
    return (
        None if lake is None else str(lake),
        ",".join(map(str, run_id)) if isinstance(run_id, list) else None if run_id is None else str(run_id),
    )


def _key(job: JobFile, lake: str | None, name: str | None) -> str:
    verb = "-".join(job.verb)
    writes_one_place = job.verb in (("score",), ("nightly",)) and None not in (lake, name)
    what = [verb, str(lake).rstrip("/"), str(name)] if writes_one_place else words(job)
    digest = sha256("\0".join(what).encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name or "")[:60].strip("-.")
    return "-".join(part for part in (verb, readable, digest) if part)
