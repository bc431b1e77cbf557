"""A folder on a disk or in an object store, through fsspec: list, read, and write objects whole.

Nothing half-written is ever visible under its own name: locally an object is a temporary file in the same folder,
synced and renamed; in an object store it is one PUT (or one multipart upload, which also appears whole). The price is
that an object is held in memory while it is written, unless it is a file already (`write_file`).

What fails on the way to an object store is asked again (`remote`); what fails for good is an `ObjectError`
(`object_error`), or FileNotFoundError where there is no such object.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from operators.storage.local_file import copy_whole, is_temporary, write_whole
from operators.storage.object_error import ObjectError, failure
from operators.storage.object_file import ObjectFile
from operators.storage.remote import ATTEMPTS, mistyped_option, options_for, patiently
from operators.storage.s3_options import upload_parts

__all__ = ["ObjectError", "Storage", "is_temporary"]

T = TypeVar("T")

BUFFER_BYTES = 1 << 20  # of a remote object read as a stream


@dataclass(frozen=True)
class Storage:
    """The folder `root` (a path or any fsspec URI) and everything below it; nothing outside it can be named.

    `options` are fsspec's (credentials, endpoint): those for the scheme of `root`, or all, by protocol; a local root
    takes none. A request to an object store is made up to `attempts` times. A local root is made absolute, so that it
    means the same folder in every process. Paths given to the methods are relative to `root`, with `/` between parts.

    Raises:
        ValueError: a path is empty, absolute, has a `.` or `..` part, or leads out of a local root by a symbolic link.
        ObjectError: an option that the storage does not know; and from every method that reaches the storage.
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    attempts: int = field(default=ATTEMPTS, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", options_for(self.root, self.options))
        try:
            filesystem, path = fsspec.core.url_to_fs(self.root, **self.options)
        except TypeError as error:
            if mistyped_option(error, self.options) is None:
                raise
            raise self._failure("open", "", error) from None
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

    # Reading

    def check(self) -> None:
        """Ask once whether the storage answers, knows these credentials, and has the bucket of `root`; local: nothing.

        Raises:
            ObjectError: it does not.
        """
        filesystem, root = fsspec.core.url_to_fs(self.root, **self.options)
        if isinstance(filesystem, LocalFileSystem):
            return
        bucket = root.strip("/").partition("/")[0]
        once = Storage(self.root, self.options, attempts=1)
        try:
            once._ask("open", "", lambda: _forgetful(filesystem).ls(root) if bucket else None)
        except FileNotFoundError:
            if not once._ask("open", "", lambda: filesystem.exists(bucket)):
                what = f"cannot open {self.root}: there is no {bucket!r}, or these credentials may not see it"
                raise ObjectError(errno.ENOENT, what) from None

    def list(self, folder: str) -> list[str]:
        """Names of what lies directly in `folder`, sorted; folders end in `/`. Empty where there is no such folder."""
        filesystem, full = self._place(folder)
        try:
            entries = self._ask("list", folder, lambda: _forgetful(filesystem).ls(full, detail=True))
        except FileNotFoundError:
            return []
        filesystem.invalidate_cache()  # or s3fs keeps them: a kB a name, and there may be millions
        # Some object stores list the folder among its own entries.
        inside = (e for e in entries if e["name"].rstrip("/") != full.rstrip("/"))
        return sorted(_base_name(e["name"]) + ("/" if e["type"] == "directory" else "") for e in inside)

    def find(self, folder: str = "") -> dict[str, Mapping[str, Any]]:
        """Every object below `folder`, or below `root`, at any depth: its path, and what fsspec says of it.

        Object stores list a thousand names a request, however many folders these make up.
        """
        filesystem, full = self._place(folder) if folder else fsspec.core.url_to_fs(self.root, **self.options)
        found = self._ask("list", folder, lambda: _forgetful(filesystem).find(full, detail=True))
        above = len(full.rstrip("/")) - len(folder)
        return {name[above:].lstrip("/"): info for name, info in found.items()}

    def exists(self, path: str) -> bool:
        filesystem, full = self._place(path)
        try:  # not by fsspec's own `exists`: it may take an outage for a no
            self._ask("look up", path, lambda: _forgetful(filesystem).info(full))
        except FileNotFoundError:
            return False
        return True

    def size(self, path: str) -> int:
        """Bytes of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, full = self._place(path)
        return int(self._ask("look up", path, lambda: _forgetful(filesystem).info(full))["size"])

    def open(self, path: str) -> IO[bytes]:
        """Open an object for reading, buffered.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, full = self._place(path)
        if self.is_local:
            return cast("IO[bytes]", self._ask("read", path, lambda: filesystem.open(full, "rb")))
        return io.BufferedReader(self.ranges(path), BUFFER_BYTES)

    def ranges(self, path: str, size: int | None = None) -> ObjectFile:
        """Open an object for reading by exact ranges; `size` in bytes, where it is known, saves a request.

        Raises:
            FileNotFoundError: there is none; where `size` is given, on reading.
        """
        filesystem, full = self._place(path)

        def fetch(start: int, end: int) -> bytes:
            return self._ask("read", path, lambda: _whole(filesystem.cat_file(full, start=start, end=end), end - start))

        return ObjectFile(fetch, self.size(path) if size is None else size)

    def read(self, path: str) -> bytes:
        """All bytes of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, full = self._place(path)
        return bytes(self._ask("read", path, lambda: filesystem.cat_file(full)))

    @contextmanager
    def parquet(self, path: str, *, verify_checksums: bool = False) -> Iterator[pq.ParquetFile]:
        """Open a Parquet object; columns and row groups are fetched as they are asked for.

        From an object store that is one request for the size, one for the footer, and one for each run of
        neighbouring columns.

        Raises:
            FileNotFoundError: there is none.
            OSError, pa.ArrowException: it is broken, noticed here or while reading; a note names the object.
        """
        _, full = self._place(path)
        source = full if self.is_local else self.ranges(path)
        how = {"page_checksum_verification": verify_checksums, "pre_buffer": not self.is_local}
        try:
            with pq.ParquetFile(source, **how) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            error.add_note(f"while reading {self.uri(path)}")
            raise

    # Writing

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write or replace one object: readers see all of the old one or all of the new one.

        A large object goes to an object store in several requests; one that fails for good is called off. A process
        killed meanwhile leaves pieces that nobody sees and the store bills: let the bucket expire unfinished uploads.
        """
        filesystem, full = self._place(path)
        if self.is_local:
            self._ask("write", path, lambda: write_whole(Path(full), data))
            return
        held = bytes(data)
        try:
            self._ask("write", path, lambda: filesystem.pipe_file(full, held))
        except FileNotFoundError as error:  # not the object: what should hold it
            raise self._failure("write", path, error) from None

    def write_file(self, path: str, local: Path) -> None:
        """As `write`, of what a local file holds, of which little is in memory at once (64 MiB on the way to S3)."""
        (filesystem, full), size = self._place(path), local.stat().st_size
        if self.is_local:
            self._ask("write", path, lambda: copy_whole(local, Path(full)))
            return
        parts = upload_parts(size) if "s3" in filesystem.protocol else {}
        try:
            self._ask("write", path, lambda: filesystem.put_file(str(local), full, **parts))
        except FileNotFoundError as error:
            raise self._failure("write", path, error) from None

    def delete(self, path: str) -> None:
        """Remove one object; no error where there is none."""
        filesystem, full = self._place(path)
        try:
            self._ask("remove", path, lambda: filesystem.rm_file(full))
        except FileNotFoundError:
            return

    def delete_empty_folder(self, folder: str) -> None:
        """Remove a local folder that holds nothing; object stores have no folders."""
        _, full = self._place(folder)
        if self.is_local and Path(full).is_dir() and not any(Path(full).iterdir()):
            Path(full).rmdir()

    # On the way there

    def _place(self, path: str) -> tuple[Any, str]:
        """The file system and the full path."""
        _check_parts(path)
        filesystem, root = fsspec.core.url_to_fs(self.root, **self.options)
        full = f"{root.rstrip('/')}/{path}"
        if isinstance(filesystem, LocalFileSystem) and not Path(full).resolve().is_relative_to(Path(root).resolve()):
            raise ValueError(f"{path!r} leads out of {self.root}")
        return filesystem, full

    def _ask(self, verb: str, path: str, action: Callable[[], T]) -> T:
        """`action()`, patiently where the storage is remote; its failures in our words."""
        local = self.is_local
        try:
            return action() if local else patiently(action, attempts=self.attempts)
        except (FileNotFoundError, ValueError, MemoryError):
            raise
        except Exception as error:  # each storage library raises its own types
            ours = isinstance(error, TypeError) and mistyped_option(error, self.options) is None
            if ours or (local and not isinstance(error, OSError)):
                raise
            # The chain is cut: the library's own words may hold what `redact` takes out.
            raise self._failure(verb, path, error) from None

    def _failure(self, verb: str, path: str, error: Exception) -> ObjectError:
        return failure(verb, f"{self.root.rstrip('/')}/{path}".rstrip("/"), error, self.options)


def _forgetful(filesystem: Any) -> Any:
    """The file system with its listings forgotten: other processes write here too."""
    filesystem.invalidate_cache()
    return filesystem


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise EOFError(f"{len(data)} bytes came, {size} were asked for")  # a cut answer: asked again
    return data


def _check_parts(path: str) -> None:
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} is not a relative path of plain parts")


def _base_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
