"""An object of a remote storage as a file read by ranges: each read is one request for just the bytes asked for.

Parquet readers know which bytes they need; reading ahead, fsspec's default of 50 MiB a time, would fetch whole parts
for one column. The price: a reader of small pieces makes a request for each, and wants `io.BufferedReader` around it.
"""

from __future__ import annotations

import io
from collections.abc import Callable

Fetch = Callable[[int, int], bytes]


class ObjectFile(io.RawIOBase):
    """`fetch(start, end)` gives the bytes from `start` up to and without `end`; `size` is the object's, in bytes."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        super().__init__()
        self.size = size
        self.fetch = fetch
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the object's end."""
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        data = self.fetch(self._position, self._position + wanted)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
