"""What is wrong with a job that is not in its file: its input, model, device and lake, as they are seen from here.

secrets       each that a job which runs here names by reference
scoring       the plan of the run, or, where the file has faults too, whatever can be looked at without it
--dry-run     other verbs that have it say themselves what they cannot do
the others    there is the input, and a lake that has the runs that are named; what else they take is for them to say
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.job_file.read import Examined, JobFile
from jobs.job_file.verbs import NIGHTLY, SCORE, Field, fields_of, has_dry_run
from jobs.job_file.words import words
from pipelines.config import ConfigError, read_storage_options
from pipelines.logs import FORMAT_VARIABLE, configure_logs
from pipelines.secrets import take

if TYPE_CHECKING:
    from pipelines.plan import Plan


def world_faults(examined: Examined) -> list[str]:
    """One line a fault; empty where the job can start."""
    fields, job = examined.fields, examined.job
    submit = examined.submit
    if submit is not None:
        missing = _of(lambda: take(submit.secrets))
        if missing and submit.address is None:  # another cluster's secrets need not be here
            return missing
    if examined.verb in (SCORE, NIGHTLY):
        return _parts(fields) if job is None else _of(lambda: make_plans(job))
    if job is not None and has_dry_run(job.verb):
        code, _, said = dry_run(job)
        return said.splitlines() if code else []
    return [*_parts(fields), *_lake_faults(examined.verb or (), fields)]


def looked_at(job: JobFile) -> str:
    """What `world_faults` has looked at beside the file, for a reader."""
    if job.verb in (SCORE, NIGHTLY):
        return "input, model and lake"
    if has_dry_run(job.verb):
        return f"what `assay {job.name} --dry-run` looks at"
    return "input, lake and runs, where it names them; the rest is looked at when it runs"


def make_plans(job: JobFile, *, elsewhere: bool = False) -> list[Plan]:
    """The runs that a job of scoring stands for; of a nightly job one of its whole input. `elsewhere`: it will run on a
    cluster, whether or not the file names one.

    Raises:
        ConfigError, InputError, ModelError, ResumeError: as `make_plan`.
    """
    from jobs.score import configs
    from pipelines.plan import make_plan

    fields = dict(job.fields)
    if job.verb == NIGHTLY:
        fields |= {"run_id": f"{job.nightly.name}-check" if job.nightly else "check"}
    copies = fields.pop("copies", None)
    if elsewhere or job.submit.address is not None:  # that cluster has devices of its own
        fields.setdefault("address", job.submit.address or "auto")
    return [make_plan(config) for config in configs(fields, copies)]


def dry_run(job: JobFile, *, elsewhere: bool = False) -> tuple[int, str, str]:
    """Exit code, output and errors of the job's verb with --dry-run. `elsewhere`: as `make_plans`."""
    there = []
    if elsewhere or job.submit.address is not None:  # that cluster has devices of its own
        takes = "address" in fields_of(job.verb) and job.fields.get("engine") != "inline"
        if takes and "address" not in job.fields:
            there = [f"--address={job.submit.address or 'auto'}"]
    return captured([*job.verb, "--dry-run", *there, *words(job)[len(job.verb) :]])


def captured(line: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line, run in this process."""
    from jobs.cli import app

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _errors_as_text():
        try:
            app(args=list(line), prog_name="assay")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    said = [text.removeprefix("error: ").removeprefix("       ") for text in err.getvalue().splitlines()]
    return code, out.getvalue(), "\n".join(said)


@contextlib.contextmanager
def _errors_as_text() -> Iterator[None]:
    """Also where the log is of JSON lines: what they say is read here, and said again in one."""
    chosen = os.environ.pop(FORMAT_VARIABLE, None)
    try:
        yield
    finally:
        if chosen is not None:
            os.environ[FORMAT_VARIABLE] = chosen
            configure_logs()


def _of(step: Callable[[], Any]) -> list[str]:
    try:
        step()
    except (ValueError, OSError, ImportError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # Of a ConfigError every line is a fault; others are one, and go on below it.
        rest = lines[1:] if isinstance(error, ConfigError) else [f"  {line.strip()}" for line in lines[1:]]
        return [lines[0], *rest]
    return []


def _parts(fields: Mapping[str, Any]) -> list[str]:
    """What can be said of input, model and lake by themselves, each where its own field is sound."""
    from operators.lake import Lake
    from operators.model_places import is_uri
    from operators.shards import list_shards

    options, faults = _options(fields)
    if fields.get("input") and not faults:
        inputs = [fields["input"]] if isinstance(fields["input"], str) else fields["input"]
        how = fields.get("format") or "auto"
        faults += _of(lambda: list_shards(inputs, format=how, storage_options=options))
    if fields.get("model") and not (is_uri(fields["model"]) and faults):
        faults += _of(lambda: _check_model(fields["model"], fields.get("revision"), options))
    if fields.get("lake"):
        faults += _of(lambda: Lake(fields["lake"], options))
    return faults


def _options(fields: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """The storage options of a job, and what is wrong with them."""
    given = fields.get("storage_options")
    if not isinstance(given, str):
        return given, []
    try:
        return read_storage_options(given), []
    except ConfigError as error:
        return None, str(error).splitlines()


def _check_model(model: str, revision: str | None, options: Mapping[str, Any] | None) -> None:
    """Whether there is such a model; what is not on this machine is not fetched but for small files.

    Raises:
        ModelError: there is none. ObjectError: its storage refuses.
    """
    from operators.model_places import ModelPlace, is_uri

    place = ModelPlace.find(model, revision, options)
    if not is_uri(model):
        place.folder(weights=place.revision is None)


def _lake_faults(verb: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """Whether the lake that a verb reads is there, and the runs that it names: each of them that is not."""
    from jobs.query import check_lake, check_run

    known = fields_of(tuple(verb)) if verb else {}
    reads = "lake" in known and known["lake"].flag is None and not fields.get("input")
    if not reads or "lake" not in fields:
        return []
    options, unread = _options(fields)
    if unread:
        return []  # said where the input is looked at
    faults = _of(lambda: check_lake(fields["lake"], options))
    runs = (run for name, value in fields.items() for run in _runs(known[name], value))
    return faults or [
        fault for run in dict.fromkeys(runs) for fault in _of(partial(check_run, fields["lake"], run, options))
    ]


def _runs(field: Field, value: Any) -> list[str]:
    """The runs that a field names, by what its help calls its value."""
    if field.name != "run_id" and field.metavar not in ("RUN_ID", "NAME=RUN_ID"):
        return []
    texts = [str(each) for each in (value if isinstance(value, list) else [value])]
    return [text.partition("=")[2] if field.metavar == "NAME=RUN_ID" else text for text in texts]
