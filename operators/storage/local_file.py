"""Writes a file on a local disk whole: a temporary file in the same folder, synced and renamed."""

from __future__ import annotations

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


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, so that after a power cut no receipt is there without its twin."""
    if os.name != "posix":
        return  # folders cannot be opened elsewhere; the rename is still atomic
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
