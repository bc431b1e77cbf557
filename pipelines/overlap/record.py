"""The driver's record of an overlap under way: what it compares, and what it has found out of its units so far.

    <lake>/overlap_items/progress/overlap=<name>/job.json                       identity, survey, files that kill
                                                 index/                         the index, as nodes fetch it
                                                 matches/<unit>.parquet         receipts of finished units
                                                 progress/run_id=corpus/        listing, units, repeats, claims
                                                 progress/run_id=benchmark/     listing, repeats

The folder is a lake in the lake, so that what scoring knows of units and repeats holds here. It goes when the tables
are there and `job.json` beside `overlap_items` says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operators.lake import Lake, overlap_job_path, overlap_path, overlap_progress, overlap_rejects_path
from operators.storage import is_temporary
from pipelines.previous import Listing, ResumeError, listing_changes, warn_of_touched
from schemas import OVERLAP_TABLES

_JOB = "job.json"


def scratch_lake(lake: Lake, name: str) -> Lake:
    """The lake in the lake that holds the record."""
    return Lake(f"{lake.root.rstrip('/')}/{overlap_progress(name)}", lake.storage_options)


@dataclass
class Record:
    """`index`: digest of what the benchmark was found to hold, None before it is read. `survey`: how many units there
    are and how many files of repeats, None before that is known. `dying`: as `probe.Dying` keeps it. `seconds`: of
    earlier attempts."""

    scratch: Lake
    identity: dict[str, Any]
    index: str | None = None
    survey: dict[str, Any] | None = None
    dying: dict[str, Any] | None = None
    seconds: float = 0.0

    @classmethod
    def read(cls, scratch: Lake) -> Record | None:
        """What an earlier attempt left; None where there was none."""
        said = read_json(scratch, _JOB)
        if said is None:
            return None
        known = {name: said.get(name) for name in ("index", "survey", "dying")}
        return cls(scratch, said["identity"], **known, seconds=float(said.get("seconds") or 0.0))

    def write(self) -> None:
        """Keep it, whole."""
        names = ("identity", "index", "survey", "dying", "seconds")
        write_json(self.scratch, _JOB, {name: getattr(self, name) for name in names})


def read_json(lake: Lake, path: str) -> dict[str, Any] | None:
    """A JSON object of a lake; None where there is none or it is damaged."""
    try:
        said = json.loads(lake.storage.read(path))
    except (FileNotFoundError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def write_json(lake: Lake, path: str, said: Mapping[str, Any]) -> None:
    """Write or replace a JSON object, whole; equal ones are equal bytes."""
    text = json.dumps(said, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    lake.storage.write(path, f"{text}\n".encode())


def check_same(
    name: str,
    root: str,
    before: Mapping[str, Any],
    identity: Mapping[str, Any],
    sides: Mapping[str, tuple[Listing | None, Listing]],
) -> None:
    """Raise ResumeError with the difference where an overlap of this name was made of something else.

    Args:
        sides: by side its listing as it was (None where that is not recorded) and as it is now.
    """
    listings = {f"{side}_listing" for side in sides}
    names = sorted({*before, *identity} - listings)
    changes = [
        f"{n}: was {before.get(n)!r}, now {identity.get(n)!r}" for n in names if before.get(n) != identity.get(n)
    ]
    for side, (was, now) in sides.items():
        if before.get(f"{side}_listing") != identity[f"{side}_listing"]:
            changes += [f"{side} {line}" for line in listing_changes(was, now)]
        elif was is not None:
            warn_of_touched(was, now)
    if changes:
        raise made_of_else(name, root, changes)


def made_of_else(name: str, root: str, changes: list[str]) -> ResumeError:
    """The error of a name that stands for something else."""
    return ResumeError(
        f"overlap {name!r} exists in {root} and compares something else:\n"
        + "\n".join(f"  {change}" for change in changes)
        + "\nrepeat the command as it was to resume, choose another --name, "
        + f"or drop what the overlap holds with --overwrite {name}"
    )


def drop_tables(lake: Lake, name: str) -> None:
    """Remove an overlap's tables, its job first: without it they count for nothing."""
    lake.storage.delete(overlap_job_path(name))
    lake.storage.delete(overlap_rejects_path(name))
    for table in OVERLAP_TABLES:
        path = overlap_path(table.name, name)
        lake.storage.delete(path)
        lake.storage.delete_empty_folder(path.rpartition("/")[0])


def clear_temporaries(lake: Lake, name: str) -> None:
    """Remove what unfinished local writes left beside an overlap's tables."""
    for table in OVERLAP_TABLES:
        folder = overlap_path(table.name, name).rpartition("/")[0]
        for entry in lake.storage.list(folder):
            if is_temporary(entry):
                lake.storage.delete(f"{folder}/{entry}")


def drop_progress(lake: Lake, name: str) -> None:
    """Remove the record: its job last, so that a kill meanwhile leaves a record that is still one."""
    folder = overlap_progress(name)
    for path in sorted(lake.storage.find(folder), key=lambda path: path == f"{folder}/{_JOB}"):
        lake.storage.delete(path)
    if lake.storage.is_local:  # folders, too, that a kill left empty
        shutil.rmtree(lake.storage.uri(folder), ignore_errors=True)
    lake.storage.delete_empty_folder(folder.rpartition("/")[0])
