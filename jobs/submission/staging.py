"""The folder that is uploaded: the job file, the files it names, and, with `code: working-dir`, the installed packages.

Ray names an upload by its content: the same code is uploaded once.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.job_file import JobFile
from jobs.submission.paths import LocalFile
from pipelines.config import ConfigError

PACKAGES = ("schemas", "operators", "pipelines", "jobs")
JOB = "job.yaml"
_CODE = (".py", ".sql")


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
        for file in files:
            (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_bytes(file.content)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        yield Staged(folder, len(sizes), sum(sizes))


def _copy_package(name: str, target: Path) -> None:
    """What a wheel of it holds, from where it is imported here."""
    spec = importlib.util.find_spec(name)
    source = Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None
    if source is None:
        raise ConfigError(f"submit.code: the package {name!r} is not installed as files; give code: image")
    for path in sorted(source.rglob("*")):
        if path.suffix in _CODE and path.is_file():
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
