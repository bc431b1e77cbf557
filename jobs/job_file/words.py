"""The command line that a job file stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jobs.job_file.read import JobFile
from jobs.job_file.verbs import NIGHTLY, Field, fields_of

# Of these the command line reads `\n`, `\t` and `\\` as typed; a file holds what they stand for.
_ESCAPED = ("_template", "separator")


def words(job: JobFile) -> list[str]:
    """What follows `assay`, each value in one word with its flag: no value can be taken for a flag of its own."""
    if job.verb == NIGHTLY:
        return [*job.verb, str(job.path)]
    known = fields_of(job.verb)
    arguments = [_argument(job.fields[name]) for name, f in known.items() if f.flag is None and name in job.fields]
    flags = [word for name, value in job.fields.items() for word in _flags(known[name], value)]
    return [*job.verb, *flags, *(["--", *arguments] if arguments else [])]


def _argument(value: Any) -> str:
    return str(value)


def _flags(field: Field, value: Any) -> Iterator[str]:
    if field.flag is None:
        return
    if field.kind is bool:
        flag = field.flag if value else field.off
        yield from [flag] if flag else []  # without an `off`, false is what is left out
        return
    for each in value if isinstance(value, list) else [value]:
        yield f"{field.flag}={_text(field, each)}"


def _text(field: Field, value: Any) -> str:
    if isinstance(value, dict):
        return _transform(value) if field.name == "transform" else json.dumps(value)
    if field.name.endswith(_ESCAPED):
        return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return str(value)


def _transform(value: dict[str, Any]) -> str:
    from operators.transform import parse_transform

    return str(parse_transform(value).canonical)
