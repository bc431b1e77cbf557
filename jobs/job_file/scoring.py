"""What is wrong with the fields of a scoring job among themselves, all of it, without looking beyond the file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from pipelines.config import ConfigError, ScoreConfig

# Stand for a field whose fault is said already, or that the base run in the lake will give.
_ANY: dict[str, Any] = {"model": "-", "input": ("-",), "lake": "-", "run_id": "stands-for-a-run-id"}
_NAMED = re.compile(r"--([a-z][a-z-]*)[ :]")


def score_faults(fields: Mapping[str, Any], given: Collection[str], *, nightly: bool = False) -> list[str]:
    """One line a fault. `given`: every name in the file, those of fields with a fault of their own too.

    A file that names storage options is not opened: it may be on the cluster alone.
    """
    job = dict(fields)
    copies = job.pop("copies", None)
    if isinstance(job.get("storage_options"), str) and not job["storage_options"].lstrip().startswith("{"):
        del job["storage_options"]
    expected = {name for name in _ANY if name in given and name not in fields}
    if nightly:
        expected.add("run_id")
    if "transform" in given and "transform" not in fields:
        _drop(job, "transform")
    if fields.get("base_run") is not None:
        expected |= {"model", "input"}
        job.setdefault("id_column", "-")
    for name in expected:
        job.setdefault(name, _ANY[name])
    faults = [*_faults(job), *_copies_faults(fields, copies)]
    return list(dict.fromkeys(faults))


def _faults(job: dict[str, Any]) -> list[str]:
    """Validates again and again without what was wrong: faults between fields are found only where each is sound.

    Ends: a round in which no further field is dropped is the last one.
    """
    faults: list[str] = []
    dropped: set[str] = set()
    while True:
        try:
            ScoreConfig(**job)
        except ValidationError as error:
            found = [_named(fault) for fault in error.errors(include_input=False, include_url=False)]
        else:
            return faults
        further = [(name, message) for name, message in found if name not in dropped]
        faults += [message for _, message in further]
        dropped.update(name for name, _ in further)
        changed = [_drop(job, name) for name in dict(further)]
        if not any(changed):
            return faults


def _named(fault: Mapping[str, Any]) -> tuple[str, str]:
    """The field that a fault is about, and the fault in a line, as a job file names fields."""
    message = fault["msg"].removeprefix("Value error, ")
    if fault["loc"]:
        name = str(fault["loc"][0])
        message = message.removeprefix(f"--{name.replace('_', '-')}: ")
        return name, f"{name}: {'is needed' if fault['type'] == 'missing' else message}"
    named = _NAMED.match(message)
    name = named[1].replace("-", "_") if named else ""
    return name, message.removeprefix("--").replace(name.replace("_", "-"), name, 1)


def _drop(job: dict[str, Any], name: str) -> bool:
    """Leave a faulty field out, or let anything stand for it; False where that changes nothing."""
    if name in _ANY and job.get(name) != _ANY[name]:
        job[name] = _ANY[name]
        if name == "run_id":
            job.pop("overwrite", None)
        return True
    if name == "transform":  # one is said to be needed with the other
        job.pop("base_run", None)
    return job.pop(name, None) is not None


def _copies_faults(fields: Mapping[str, Any], copies: int | None) -> list[str]:
    if copies is None:
        return []
    from jobs.score import copied

    try:
        copied(dict(fields), copies)
    except ConfigError as error:
        return [line.removeprefix("--") for line in str(error).splitlines()]
    return []
