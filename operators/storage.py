"""A folder on a disk or in an object store, through fsspec: list, read, and write objects whole.

Nothing half-written is ever visible under its own name: locally an object is a temporary file in the same folder,
synced and renamed; in an object store it is one PUT (or one multipart upload, which also appears whole). The price is
that an object is held in memory while it is written.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished local write: `.<name>.<32 hex digits>.tmp`."""
    return _TEMPORARY.fullmatch(name) is not None


@dataclass(frozen=True)
class Storage:
    """The folder `root` (a path or any fsspec URI) and everything below it; nothing outside it can be named.

    `options` are fsspec's for the scheme of `root` (credentials, endpoint). A local root is made absolute, so that it
    means the same folder in every process. Paths given to the methods are relative to `root`, with `/` between parts.

    Raises:
        ValueError: a path is empty, absolute, has a `.` or `..` part, or leads out of a local root by a symbolic link.
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        filesystem, path = fsspec.core.url_to_fs(self.root, **self.options)
        local = isinstance(filesystem, LocalFileSystem)
        object.__setattr__(self, "root", path if local else str(filesystem.unstrip_protocol(path)))

    @property
    def filesystem(self) -> Any:
        """The fsspec file system of `root`; fsspec keeps one instance for equal options."""
        return fsspec.core.url_to_fs(self.root, **self.options)[0]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, LocalFileSystem)

    def uri(self, path: str) -> str:
        """`path` as other tools read it: an absolute local path, or a URI with its scheme."""
        _check_parts(path)
        return f"{self.root.rstrip('/')}/{path}"

    def list(self, folder: str) -> list[str]:
        """Names of what lies directly in `folder`, sorted; folders end in `/`. Empty where there is no such folder."""
        filesystem, full = self._fresh(folder)
        try:
            entries = filesystem.ls(full, detail=True)
        except FileNotFoundError:
            return []
        # Some object stores list the folder among its own entries.
        inside = (e for e in entries if e["name"].rstrip("/") != full.rstrip("/"))
        return sorted(_base_name(e["name"]) + ("/" if e["type"] == "directory" else "") for e in inside)

    def exists(self, path: str) -> bool:
        filesystem, full = self._fresh(path)
        return bool(filesystem.exists(full))

    def open(self, path: str) -> IO[bytes]:
        """Open an object for reading.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, full = self._fresh(path)
        return cast("IO[bytes]", filesystem.open(full, "rb"))

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            return file.read()

    @contextmanager
    def parquet(self, path: str, *, verify_checksums: bool = False) -> Iterator[pq.ParquetFile]:
        """Open a Parquet object; columns and row groups are fetched as they are asked for.

        Raises:
            FileNotFoundError: there is none.
            OSError, pa.ArrowException: it is broken, noticed here or while reading; a note names the object.
        """
        filesystem, full = self._fresh(path)
        try:
            with pq.ParquetFile(full, filesystem=filesystem, page_checksum_verification=verify_checksums) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            error.add_note(f"while reading {self.uri(path)}")
            raise

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write or replace one object: readers see all of the old one or all of the new one."""
        filesystem, full = self._fresh(path)
        if isinstance(filesystem, LocalFileSystem):
            _write_local(Path(full), data)
        else:
            filesystem.pipe_file(full, bytes(data))

    def delete(self, path: str) -> None:
        """Remove one object; no error where there is none."""
        filesystem, full = self._fresh(path)
        try:
            filesystem.rm_file(full)
        except FileNotFoundError:
            return

    def delete_empty_folder(self, folder: str) -> None:
        """Remove a local folder that holds nothing; object stores have no folders."""
        filesystem, full = self._fresh(folder)
        if isinstance(filesystem, LocalFileSystem) and Path(full).is_dir() and not any(Path(full).iterdir()):
            Path(full).rmdir()

    def _fresh(self, path: str) -> tuple[Any, str]:
        """The file system and the full path, with listings forgotten: other processes write here too."""
        _check_parts(path)
        filesystem, root = fsspec.core.url_to_fs(self.root, **self.options)
        full = f"{root.rstrip('/')}/{path}"
        if isinstance(filesystem, LocalFileSystem) and not Path(full).resolve().is_relative_to(Path(root).resolve()):
            raise ValueError(f"{path!r} leads out of {self.root}")
        filesystem.invalidate_cache()
        return filesystem, full


def _check_parts(path: str) -> None:
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} is not a relative path of plain parts")


def _base_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _write_local(path: Path, data: bytes | memoryview) -> None:
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
