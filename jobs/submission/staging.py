"""The folder that is uploaded: the job file, the files it names, and, with `code: working-dir`, the installed packages.

Ray names an upload by its content: the same code with the same job file is uploaded once.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.job_file import JobFile, read_job_file
from jobs.submission.paths import LocalFile
from pipelines.config import ConfigError

PACKAGES = ("schemas", "operators", "pipelines", "jobs")
JOB = "job.yaml"
_LEFT = ("__pycache__", "*.py[co]", ".*")  # what running or editing leaves behind


@dataclass(frozen=True)
class Staged:
    """`n_bytes`: of all files, before they are packed."""

    folder: Path
    n_files: int
    n_bytes: int


@contextmanager
def staged(job: JobFile, files: Sequence[LocalFile]) -> Iterator[Staged]:
    """The folder, for as long as the context lasts.

    Raises:
        ConfigError: the job file has been changed into another meanwhile, or a file would lie over what is staged.
    """
    taken = {JOB, *(PACKAGES if job.submit.code == "working-dir" else ())}
    if clash := [file.name for file in files if Path(file.name).parts[0] in taken]:
        raise ConfigError(f"{clash[0]}: files of this name are the job's own on the cluster; give it another name")
    with tempfile.TemporaryDirectory(prefix="assay-submit-") as temporary:
        folder = Path(temporary)
        if job.submit.code == "working-dir":
            for package in PACKAGES:
                _copy_package(package, folder / package)
        (folder / JOB).write_bytes(job.path.read_bytes())
        _check_same(job, folder / JOB)
        for file in files:
            (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_bytes(file.content)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        yield Staged(folder, len(sizes), sum(sizes))


def _check_same(job: JobFile, copied: Path) -> None:
    """Raises:
    ConfigError: the file that would be sent is not the one that was validated.
    """
    try:
        same = replace(read_job_file(copied), path=job.path) == job
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(f"{job.path}: it changed while it was read, or can be read once only; submit it again")


def _copy_package(name: str, target: Path) -> None:
    """All of it, templates and SQL too, from where it is imported here."""
    spec = importlib.util.find_spec(name)
    source = Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None
    if source is None:
        raise ConfigError(f"submit.code: the package {name!r} is not installed as files; give code: image")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT), copy_function=shutil.copyfile)
