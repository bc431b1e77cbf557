"""A lake in an object store as DuckDB sees it: a read-only file system that holds the lake and nothing else.

    view --> glob: one flat listing --> sizes and times remembered --> open: no request --> read: one exact range each

Through a stock fsspec file system DuckDB asks three times for each object's size before it reads, lists folder by
folder, and each read fetches 50 MiB ahead; here a query costs one listing a thousand objects, one request for each
footer, and one for each run of neighbouring columns. Every query begins with a listing, so sizes are never older than
it. No file elsewhere, no other bucket, and no writing pass through here, whatever SQL asks for.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast

import duckdb
from fsspec.spec import AbstractFileSystem
from fsspec.utils import glob_translate

from operators.storage import Storage
from operators.storage.object_file import ObjectFile

WHOLE_BYTES = 1 << 21  # objects below this DuckDB reads in one piece, however few columns a query names
KEPT_BYTES = 1 << 26  # of them, kept for the next read

_MAGIC = re.compile(r"[*?\[]")


class _Seen(NamedTuple):
    """What a listing said of an object; all that is kept of it, for a lake may hold a million."""

    size: int  # bytes
    modified: datetime | None
    tag: str  # changes with the content, where the store has such a thing


class LakeFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What lies below the root of `storage`. Paths are URIs with the root's scheme, as DuckDB gives them.

    Raises:
        PermissionError: from every method, for a path outside the root, and for opening to write.
        ObjectError: the storage failed.
    """

    cachable = False  # one for each connection

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.protocol = storage.filesystem.protocol
        self._storage = storage
        self._root = storage.root.rstrip("/")
        self._found: dict[str, _Seen] = {}
        self._kept: dict[tuple[str, _Seen], bytes] = {}  # the oldest first
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def glob(self, path: str, **_: Any) -> list[str]:
        """URIs of the objects that match, sorted. Patterns are DuckDB's: `*`, `?`, `[...]` within a part, and `**`."""
        pattern = self._relative(path)
        parts = pattern.split("/")
        plain = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
        with self._remembering():
            if plain is None:
                return [f"{self._root}/{pattern}"] if self._storage.exists(pattern) else []
            listed = self._storage.find("/".join(parts[:plain])).items()
        matches = re.compile(glob_translate(pattern)).match
        found = {name: _seen(info) for name, info in listed if matches(name)}
        self._found.update(found)
        return sorted(f"{self._root}/{name}" for name in found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._relative(path)
        seen = self._found.get(name)
        size = self._storage.size(name) if seen is None else seen.size
        return {"name": f"{self._root}/{name}", "size": size, "type": "file"}

    def modified(self, path: str) -> datetime:
        name = self._relative(path)
        seen = self._found.get(name)
        if seen is not None and seen.modified is not None:
            return seen.modified
        filesystem = self._storage.filesystem
        return cast("datetime", filesystem.modified(filesystem._strip_protocol(self._storage.uri(name))))

    def exists(self, path: str, **_: Any) -> bool:
        return self._storage.exists(self._relative(path))

    def open(self, path: str, mode: str = "rb", **_: Any) -> ObjectFile:
        if mode != "rb":
            raise PermissionError(errno.EPERM, "the lake is opened for reading only", path)
        name = self._relative(path)
        seen = self._found.get(name) or _Seen(self._storage.size(name), None, "")
        if seen.size >= WHOLE_BYTES:
            return self._ranges(name, seen)
        return ObjectFile(lambda start, end: self._small(name, seen)[start:end], seen.size)

    def _small(self, name: str, seen: _Seen) -> bytes:
        """All of a small object: DuckDB opens each part twice, for its footer and for its rows."""
        with self._lock:
            data = self._kept.get((name, seen))
        if data is None:
            data = self._ranges(name, seen).read()
            with self._lock:
                self._kept_bytes += len(data) - len(self._kept.pop((name, seen), b""))
                self._kept[name, seen] = data
                while self._kept_bytes > KEPT_BYTES:
                    self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))
        return data

    def _ranges(self, name: str, seen: _Seen) -> ObjectFile:
        file = self._storage.ranges(name, seen.size)

        def fetch(start: int, end: int) -> bytes:
            with self._remembering():
                return file.fetch(start, end)

        return ObjectFile(fetch, seen.size)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            raise

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise what the storage raised instead of what DuckDB makes of it: a traceback as a message.

        Raises:
            ObjectError: the storage failed.
            FileNotFoundError: an object has gone since it was listed.
            PermissionError: a path outside the lake.
        """
        self.failure = None
        try:
            yield
        except duckdb.Error:
            if self.failure is not None:
                raise self.failure from None
            raise

    def unstrip_protocol(self, name: str) -> str:
        return name  # `glob` gives whole URIs

    def _relative(self, path: str) -> str:
        """The part below the root, of a path or of a pattern whose root is escaped or not."""
        for above in (escape_glob(self._root), self._root):
            if path.startswith(f"{above}/"):
                name = path[len(above) + 1 :]
                if all(part not in ("", ".", "..") for part in name.split("/")):
                    return name
        self.failure = PermissionError(errno.EPERM, "not in the lake", path)
        raise self.failure


def _seen(info: Mapping[str, Any]) -> _Seen:
    """The time and the tag as far as the listing says them: S3 says both, the file system in memory the time."""
    time = info.get("LastModified") or info.get("created")
    return _Seen(int(info["size"]), time if isinstance(time, datetime) else None, str(info.get("ETag", "")))


def escape_glob(path: str) -> str:
    """`path` as a pattern that matches only itself."""
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)
