"""The distinct words of a benchmark, numbered in the order of their hashes, and which of them a text's words are.

Numbers stand for words exactly: a word is found by its hash and compared byte by byte with every word of that hash. So
whatever is done with numbers (n-grams verified, matches extended) is done on the text.
Shapes: `V` words of the vocabulary, `A` words looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.files import ArrayWriter, Partitions, mapped
from operators.overlap.options import OverlapError
from operators.overlap.words import EIGHT, Bytes, Hashes, Ids, Words, equal_bytes, padded, ranges, running

UNKNOWN = -1
MOST_WORDS = 2**31 - 1
RECORDS = pa.schema([("hash", pa.uint64()), ("word", pa.large_binary())])
FILES = {"vocabulary_hash": "<u8", "vocabulary_at": "<i8", "vocabulary_bytes": "u1"}


@dataclass(frozen=True)
class Vocabulary:
    """`hash_V`, ascending; word v is `norm[at_V[v] : at_V[v + 1]]`."""

    hash_V: Hashes
    at_V: Ids
    norm: Bytes

    @classmethod
    def open(cls, folder: Path) -> Vocabulary:
        return cls(*(mapped(folder / name, dtype) for name, dtype in FILES.items()))

    def __len__(self) -> int:
        return len(self.hash_V)

    def find(self, words: Words, hash_W: Hashes, chosen_A: Ids) -> npt.NDArray[np.int32]:
        """The number of each chosen word, UNKNOWN where the benchmark does not have it."""
        found_A = np.full(len(chosen_A), UNKNOWN, np.int32)
        if not len(self):
            return found_A
        wanted_A = hash_W[chosen_A]
        left = np.arange(len(chosen_A))
        number = np.searchsorted(self.hash_V, wanted_A)
        while True:
            known = (number < len(self)) & (self.hash_V[np.minimum(number, len(self) - 1)] == wanted_A[left])
            left, number = left[known], number[known]
            if not len(left):
                return found_A
            w, at, sizes = chosen_A[left], self.at_V[number], self.at_V[number + 1] - self.at_V[number]
            same = sizes == words.size_W[w]
            same[same] = equal_bytes(self.norm, at[same], words.norm, words.at_W[w][same], sizes[same])
            found_A[left[same]] = number[same]
            left, number = left[~same], number[~same] + 1


def distinct(words: Words, hash_W: Hashes) -> tuple[npt.NDArray[np.int32], pa.Table]:
    """Each word's place among the distinct ones, and these (`RECORDS`)."""
    values = binary(words.norm[ranges(words.at_W, words.size_W)], running(words.size_W))
    encoded = values.dictionary_encode()
    place_W = np.asarray(encoded.indices.to_numpy(), np.int32)
    hash_D = np.zeros(len(encoded.dictionary), np.uint64)
    hash_D[place_W] = hash_W
    return place_W, pa.table([pa.array(hash_D), encoded.dictionary], schema=RECORDS)


def binary(data: Bytes, offsets: Ids) -> pa.LargeBinaryArray:
    """The values `data[offsets[i]:offsets[i + 1]]`."""
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def as_words(values: pa.LargeBinaryArray) -> Words:
    """Words that are no text's, to be looked up."""
    sizes = np.asarray(pc.binary_length(values).to_numpy(zero_copy_only=False), np.int64)
    nowhere = np.empty(0, np.int64)
    return Words(padded(b"".join(values.to_pylist())), running(sizes)[:-1], sizes, nowhere, nowhere, nowhere)


def write_vocabulary(folder: Path, records: Partitions) -> None:
    """Number the distinct words of all records: by hash, and words of one hash by their bytes.

    Raises:
        OverlapError: more than `MOST_WORDS`.
    """
    hash_file, at_file, bytes_file = (ArrayWriter(folder / name, dtype) for name, dtype in FILES.items())
    with hash_file, at_file, bytes_file:
        at_file.add(np.zeros(1, np.int64))
        for part in _unique(records):
            words = part["word"].combine_chunks()
            sizes = np.asarray(pc.binary_length(words).to_numpy(), np.int64)
            hash_file.add(part["hash"].to_numpy())
            at_file.add(bytes_file.length + np.cumsum(sizes))
            bytes_file.add(np.frombuffer(b"".join(words.to_pylist()), np.uint8))
        bytes_file.add(np.zeros(EIGHT, np.uint8))
        if hash_file.length > MOST_WORDS:
            raise OverlapError(f"the benchmark has {hash_file.length:,} distinct words; {MOST_WORDS:,} are the most")


def _unique(records: Partitions) -> Iterator[pa.Table]:
    """The records of each partition, each word once, sorted."""
    for table in records.read():
        encoded = table["word"].combine_chunks().dictionary_encode()
        first = np.zeros(len(encoded.dictionary), np.int64)
        first[np.asarray(encoded.indices.to_numpy(), np.int64)] = np.arange(len(table))
        if len(first):
            yield table.take(pa.array(first)).sort_by([("hash", "ascending"), ("word", "ascending")])
