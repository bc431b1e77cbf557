"""Opens a shard through fsspec and tells a broken file from a broken storage.

What the decoder of a format makes of hostile bytes is the shard's fault and becomes a reject. What the storage raises
(time-outs, expired credentials, a disk error) says nothing about the data: it is a `StorageError` that stops the task,
so that an hour without network does not end as a corpus of rejects.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from operators.readers.record import UnreadableError

FILE_CHUNK_BYTES = 1 << 20
STREAM_CHUNK_BYTES = 1 << 12  # a read that meets the break of a stream loses what it had already decoded
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class StorageError(OSError):
    """The storage failed, not the data. Retry, or stop: the rows not yet yielded are neither read nor rejected."""


class Source(io.RawIOBase):
    """A file opened for reading that remembers whether it was the storage that failed."""

    def __init__(self, uri: str, file: IO[bytes], filesystem: Any) -> None:
        super().__init__()
        self.uri = uri
        self.failure: Exception | None = None
        self._file = file
        self._filesystem = filesystem  # kept alive: an archive is closed when its file system is forgotten

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._file.read(size)
        except (MemoryError, OverflowError):  # a size that only a broken file asks for
            raise
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # Not watched: seeking touches no storage, it fails on the offsets of a broken file.
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    @contextmanager
    def decoding(self, row: int) -> Iterator[None]:
        """Around a decoder's step that would give record `row`: whatever it raises makes the shard unreadable there.

        Decoders are large libraries on bytes from anywhere: no list of their exceptions is complete.

        Raises:
            UnreadableError: the decoder failed on what it was given.
            StorageError: it was given nothing, because the storage failed.
        """
        try:
            yield
        except UnreadableError:
            raise
        except Exception as error:
            if self.failure is not None:
                raise _storage_error(self.uri, self.failure) from error
            raise UnreadableError(row, f"{type(error).__name__}: {error}") from error

    @property
    def chunk_bytes(self) -> int:
        """How much to read at a time from `decompressed()`."""
        return FILE_CHUNK_BYTES if compression_of(self.uri) is None else STREAM_CHUNK_BYTES

    def decompressed(self) -> Any:
        """The stream of this file's content, by its suffix; all members of a gzip or frames of a zstd file.

        pyarrow's streams report a cut file, which `zstandard.stream_reader` passes off as its end. They hold windows
        of up to 128 MiB, as `zstd -d` does without `--long`.
        """
        compression = compression_of(self.uri)
        if compression is None:
            return self
        with self.decoding(0):
            if not self.read(1):
                raise EOFError(f"an empty file is no {compression} stream")
            self.seek(0)
        return pa.CompressedInputStream(self, compression)


def open_source(uri: str, storage_options: Mapping[str, Any] | None = None, **how: Any) -> Source:
    """Open `uri` for reading; `how` goes to the file system's `open`.

    Raises:
        UnreadableError: there is no such file any more.
        StorageError: the storage failed.
    """
    try:
        filesystem, path = locate(uri, storage_options)
        return Source(uri, filesystem.open(path, "rb", **how), filesystem)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UnreadableError(-1, f"{type(error).__name__}: {error}") from error
    except Exception as error:  # each storage library raises its own types
        raise _storage_error(uri, error) from error


def locate(uri: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of a URI or local path, and the path in it: for a local one absolute, without `..`."""
    if "://" in uri:
        filesystem, path = fsspec.core.url_to_fs(uri, **(storage_options or {}))
    else:  # a local name may hold `::`, which `url_to_fs` would take for a chain
        filesystem, path = fsspec.filesystem("file"), uri
    if isinstance(filesystem, LocalFileSystem):
        path = posixpath.normpath(Path(path).expanduser().absolute().as_posix())
    return filesystem, path


def compression_of(name: str) -> str | None:
    return next((kind for suffix, kind in COMPRESSIONS.items() if name.lower().endswith(suffix)), None)


def _storage_error(uri: str, error: Exception) -> StorageError:
    return StorageError(f"reading {uri}: the storage failed with {type(error).__name__}: {error}")
