"""Arrays of one kind of number as plain files: written bit by bit, read back as memory maps; and partitions of records.

Maps of one file share their memory among the processes of a machine, and what is not touched takes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from operators.overlap.words import Hashes, Ids

PARTITIONS = 64
_PARTITION_BITS = np.uint64(58)  # what is left of 64
_READ_BYTES = 1 << 20


class ArrayWriter:
    """A context that appends to one file; `length` is how many numbers it holds."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0

    def __enter__(self) -> ArrayWriter:
        self._file: BinaryIO = self.path.open("xb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, values: npt.NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self.length += len(values)


def mapped(path: Path, dtype: npt.DTypeLike, mode: Any = "r") -> npt.NDArray[Any]:
    """The numbers of a file, mapped; in mode `r+` what is written to them is written to the file."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode))  # a plain array: indexing a memmap costs as much as a small look-up


def checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


class Partitions:
    """Records with a hash, laid into files by its first bits: each holds a share, and they are in the order of hashes.

    A context for writing: `add` in any order. Then `read` each, in the order in which its records were added. `schema`:
    of the records, with a column `hash`.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.schema = schema
        self._paths = [folder / f"{name}-{k}.arrows" for k in range(PARTITIONS)]

    def __enter__(self) -> Partitions:
        self._stack = ExitStack()
        self._writers: dict[int, Any] = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def add(self, hashes: Hashes, records: pa.Table) -> None:
        part = (hashes >> _PARTITION_BITS).astype(np.uint8)
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(PARTITIONS + 1))
        records = records.take(pa.array(order)).combine_chunks()
        for k in np.flatnonzero(np.diff(bounds)).tolist():
            if k not in self._writers:
                self._writers[k] = self._stack.enter_context(pa.ipc.new_stream(str(self._paths[k]), self.schema))
            self._writers[k].write_table(records.slice(bounds[k], bounds[k + 1] - bounds[k]))

    def read(self) -> Iterator[pa.Table]:
        """Each partition that has records as a table; its file is gone when the next is read."""
        for k in sorted(self._writers):
            path = self._paths[k]
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                yield reader.read_all()
            path.unlink()


def group_bounds(sorted_values: npt.NDArray[Any]) -> Ids:
    """Where each run of equal values starts, and the length of the whole."""
    if not len(sorted_values):
        return np.zeros(1, np.int64)
    changes = np.flatnonzero(sorted_values[1:] != sorted_values[:-1]) + 1
    return np.concatenate([np.zeros(1, np.int64), changes, np.array([len(sorted_values)], np.int64)])
