"""Writes a file on a local disk whole: a temporary file in the same folder, synced and renamed."""

from __future__ import annotations

import mmap
import os
import re
import uuid
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished local write: `.<name>.<32 hex digits>.tmp`."""
    return _TEMPORARY.fullmatch(name) is not None


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write or replace `path`: readers see all of the old file or all of the new one, after a power cut too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def copy_whole(local: Path, path: Path) -> None:
    """`write_whole` of what the file `local` holds."""
    if not local.stat().st_size:  # nothing that could be mapped
        write_whole(path, b"")
        return
    with (
        local.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        write_whole(path, data)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, so that after a power cut no receipt is there without its twin."""
    if os.name != "posix":
        return  # folders cannot be opened elsewhere; the rename is still atomic
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
