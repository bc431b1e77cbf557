"""Which local paths of a job mean something on a cluster: small files go along with the job, the rest is refused.

    go along   settings and small tables named by a relative path below the current folder: --storage-options without
               credentials, --errors, --matrix, --caps, the file of a transform
    refused    relative paths of corpora, benchmarks, models, lakes and outputs: they mean another folder there, one
               that is dropped with the job. What all nodes see has an absolute path or a URI.

Absolute paths and URIs are taken as they are: whether the cluster has them is seen there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from jobs.job_file import JobFile
from jobs.job_file.verbs import Verb
from operators.storage.credentials import secret_names

LARGEST = 16 << 20  # bytes of a file that goes along; Ray keeps what is uploaded in the head's memory

SETTINGS = frozenset({"storage_options"})
TABLES = frozenset({"errors", "matrix", "caps", "file"})
STORED = frozenset({"input", "lake", "output", "figure", "heatmap", "corpora", "detector", "folder"})
HUB_OR_STORED = frozenset({"model", "tokenizer"})
# Of other verbs these are names of runs.
_STORED_BY_VERB: dict[Verb, frozenset[str]] = {("overlap",): frozenset({"benchmark", "corpus"})}


@dataclass(frozen=True)
class LocalFile:
    """A file that goes along. `name`: relative, as the job names it and as it will lie beside the job file there."""

    name: str
    content: bytes


def local_files(job: JobFile) -> tuple[list[LocalFile], list[str]]:
    """The files that go along with a job, and a line for each path that cannot."""
    files: dict[str, LocalFile] = {}
    faults: list[str] = []
    for field, value in _named(job.fields):
        try:
            if field in SETTINGS | TABLES or field == "transform":
                found = _along(field, value)
                files |= {} if found is None else {found.name: found}
            elif field in STORED | _STORED_BY_VERB.get(job.verb, frozenset()):
                _refuse_relative(value)
            elif field in HUB_OR_STORED:
                _refuse_local(value)
        except ValueError as error:
            faults.append(f"{field}: {error}")
    for field, value in _of_nights(job):
        try:
            _refuse_relative(value)
        except ValueError as error:
            faults.append(f"{field}: {error}")
    return list(files.values()), faults


def _of_nights(job: JobFile) -> Iterator[tuple[str, str]]:
    """(field, text) of every path in the section of nightly runs."""
    for benchmark in job.nightly.benchmarks if job.nightly else ():
        for value in benchmark.input:
            yield f"nightly.benchmarks.{benchmark.name}.input", value


def _named(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, text) of every path that a field may hold."""
    for field, value in fields.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if field == "transform":
                each = _file_of(each)
            if isinstance(each, str):
                yield field, each


def _file_of(transform: Any) -> str | None:
    from operators.transform import parse_transform

    file = parse_transform(transform).get("file")
    return None if file is None else str(file)


def _along(field: str, value: str) -> LocalFile | None:
    """The file to take; None where the value is none, or leads elsewhere by itself.

    Raises:
        ValueError: it is not there, or must not be uploaded.
    """
    if _is_elsewhere(value) or (field in SETTINGS and value.lstrip().startswith("{")):
        return None
    name = PurePosixPath(value)
    if ".." in name.parts:
        raise ValueError(f"{value!r} leads out of this folder; a file that goes along lies below it")
    path = Path(value)
    if path.resolve() != Path.cwd().resolve() / name:
        raise ValueError(f"{value!r} is a link; name the file that it leads to")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{value!r}: {error.strerror}") from None
    if len(content) > LARGEST:
        raise ValueError(f"{value!r} is larger than {LARGEST >> 20} MiB: put it where the cluster can read it")
    if field in SETTINGS and (hidden := _secrets(content)):
        raise ValueError(
            f"{value!r} holds credentials ({', '.join(hidden)}), which are not uploaded: put the file on the nodes and "
            "name its absolute path, or give them as submit.secrets"
        )
    return LocalFile(str(name), content)


def _secrets(content: bytes) -> list[str]:
    try:
        options = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError("not YAML or JSON") from None
    return secret_names(options) if isinstance(options, dict) else []


def _refuse_relative(value: str) -> None:
    """Raises:
    ValueError: a path that means another folder on the cluster.
    """
    path = value.partition("=")[2] if _has_name(value) else value
    if not _is_elsewhere(path):
        raise ValueError(
            f"{value!r} is a path below this machine's current folder; the cluster's nodes need an absolute path that "
            "all of them share, or a URI such as s3://bucket/folder"
        )


def _refuse_local(value: str) -> None:
    """Raises:
    ValueError: a folder of this machine, and no hub id.
    """
    path = value.partition("=")[2] if _has_name(value) else value
    if path.startswith(".") or (not _is_elsewhere(path) and Path(path).exists()):
        _refuse_relative(value)


def _has_name(value: str) -> bool:
    """Whether it is `NAME=PATH`."""
    name, equals, _ = value.partition("=")
    return bool(equals) and not any(c in name for c in "/\\.*?")


def _is_elsewhere(value: str) -> bool:
    return "://" in value or "::" in value or value.startswith(("/", "~"))
