"""Opens a shard through fsspec and tells a broken file from a broken storage.

What the decoder of a format makes of hostile bytes is the shard's fault and becomes a reject. What the storage raises
(time-outs, expired credentials, a disk error) says nothing about the data: it is a `StorageError` that stops the task,
so that an hour without network does not end as a corpus of rejects. Before that a remote storage is asked again, with
growing pauses, where waiting may help.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from operators.readers.record import UnreadableError
from operators.storage.remote import mistyped_option, options_for, patiently, redact

FILE_CHUNK_BYTES = 1 << 20
STREAM_CHUNK_BYTES = 1 << 12  # a read that meets the break of a stream loses what it had already decoded
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# fsspec's own choice for S3 is 50 MiB a file: too much for a worker with many files open.
READ_AHEAD_BYTES = 4 << 20


class StorageError(OSError):
    """The storage failed, not the data. Retry, or stop: the rows not yet yielded are neither read nor rejected."""


class Source(io.RawIOBase):
    """A file opened for reading that remembers whether it was the storage that failed.

    Reads of a remote file are repeated patiently, on the same file or, where the failure closed it, on a new one.
    """

    def __init__(
        self,
        uri: str,
        file: IO[bytes],
        reopen: Callable[[], IO[bytes]] | None,
        filesystem: Any,
        options: Mapping[str, Any],
    ) -> None:
        """`reopen`: for a remote file, None for a local one; `options`: whose credentials no message may hold."""
        super().__init__()
        self.uri = uri
        self.failure: Exception | None = None
        self.promised: int | None = None  # records of the piece that is read, where the format says
        self._file = file
        self._reopen = reopen
        self._filesystem = filesystem  # kept alive: an archive is closed when its file system is forgotten
        self._options = options

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._file.read(size) if self._reopen is None else self._read_patiently(size, self._reopen)
        except (MemoryError, OverflowError):  # a size that only a broken file asks for
            raise
        except Exception as error:
            self.failure = error
            raise

    def _read_patiently(self, size: int, reopen: Callable[[], IO[bytes]]) -> bytes:
        if self.closed:
            raise ValueError("read of a closed file")
        position = self._file.tell()

        def read() -> bytes:
            if self._file.closed:
                self._file = reopen()
            if self._file.tell() != position:
                self._file.seek(position)
            return self._file.read(size)

        return patiently(read)

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
                raise storage_error(self.uri, self.failure, self._options) from None
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


def open_source(uri: str, storage_options: Mapping[str, Any] | None = None, *, scattered: bool = False) -> Source:
    """Open `uri` for reading, front to back or `scattered`: then nothing is read ahead.

    Raises:
        UnreadableError: there is no such file any more.
        StorageError: the storage failed.
    """
    options = storage_options or {}
    try:
        filesystem, path = locate(uri, options)
        if isinstance(filesystem, LocalFileSystem):
            return Source(uri, filesystem.open(path, "rb"), None, filesystem, options)
        how = {"cache_type": "none"} if scattered else {"cache_type": "readahead", "block_size": READ_AHEAD_BYTES}
        opener = partial(filesystem.open, path, "rb", **how)
        return Source(uri, patiently(opener), opener, filesystem, options)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UnreadableError(-1, redact(f"{type(error).__name__}: {error}", options)) from None
    except Exception as error:  # each storage library raises its own types
        raise storage_error(uri, error, options) from None


def locate(uri: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of a URI or local path, and the path in it: for a local one absolute, without `..`.

    `storage_options`: flat or by protocol, see `options_for`; in a chain they are for its last link.
    """
    if "://" in uri:
        filesystem, path = fsspec.core.url_to_fs(uri, **_options(uri, storage_options))
    else:  # a local name may hold `::`, which `url_to_fs` would take for a chain
        filesystem, path = fsspec.filesystem("file"), uri
    if isinstance(filesystem, LocalFileSystem):
        path = posixpath.normpath(Path(path).expanduser().absolute().as_posix())
    return filesystem, path


def _options(uri: str, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    *outer, last = uri.split("::")
    options = options_for(last, storage_options)
    return {last.partition("://")[0]: options} if outer and options else options


def compression_of(name: str) -> str | None:
    """ "gzip" or "zstd" by the suffix of a path or URI; in a chain, of the link that names the file."""
    if "://" in name:
        name = next(link for link in name.split("::") if "://" in link)
    return next((kind for suffix, kind in COMPRESSIONS.items() if name.lower().endswith(suffix)), None)


def storage_error(uri: str, error: Exception, options: Mapping[str, Any] | None) -> StorageError:
    """What a failure of the storage becomes: what happened and what to do, without credentials.

    Raise it `from None`: the library's own error may print the request it sent.
    """
    tried = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    if (mistyped := mistyped_option(error, options)) is not None:
        what = f"cannot read {uri}: {mistyped}"
    elif isinstance(error, PermissionError):
        what = f"no permission to read {uri}: {error}{tried}; check the credentials, or the rights of the file"
    else:
        what = (
            f"reading {uri}: the storage failed with {type(error).__name__}: {error}{tried}; "
            "check that it can be reached from here, then run again to go on"
        )
    return StorageError(redact(what, options))
