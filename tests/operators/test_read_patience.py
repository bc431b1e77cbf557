"""A remote storage that fails now and then costs time, not rows; one that stays away is a `StorageError`."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from operators.pieces import Piece, count_lines, numbered, split
from operators.read import ReadOptions, StorageError, read_keys, read_pieces
from operators.readers.source import open_source
from operators.shards import InputError, Shard, list_shards

OPTIONS = ReadOptions(id_column="id", block_documents=50)
TEXTS = [f"text {i} " * 100 for i in range(400)]


class FlakyFile(MemoryFile):
    """Counts reads; every third one of the whole file system fails, half of those close the file as well."""

    def read(self, size: int = -1, /) -> bytes:
        FlakyFileSystem.reads += 1
        if FlakyFileSystem.reads % FlakyFileSystem.fails_every == 0:
            super().read(size // 2)  # the position is anywhere by now
            if FlakyFileSystem.reads % 2:
                self.really_close()
            raise FlakyFileSystem.error
        return super().read(size)

    def really_close(self) -> None:
        io.BytesIO.close(self)


class FlakyFileSystem(MemoryFileSystem):
    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    reads = opens = listings = 0
    fails_every = 3
    error: Exception = ConnectionError("reset by peer")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def _open(self, path: str, *_: Any, **__: Any) -> Any:
        FlakyFileSystem.opens += 1
        if FlakyFileSystem.opens % FlakyFileSystem.fails_every == 0:
            raise FlakyFileSystem.error
        if path not in self.store:
            raise FileNotFoundError(path)
        return FlakyFile(self, path, self.store[path].getvalue())

    def info(self, path: str, **how: Any) -> Any:
        FlakyFileSystem.listings += 1
        if FlakyFileSystem.listings % FlakyFileSystem.fails_every == 0:
            raise FlakyFileSystem.error
        return super().info(path, **how)


@pytest.fixture(autouse=True)
def _flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("operators.storage.remote.FIRST_PAUSE", 0.0005)
    monkeypatch.setattr("operators.storage.remote.LONGEST_PAUSE", 0.001)
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    for name in ("reads", "opens", "listings"):
        monkeypatch.setattr(FlakyFileSystem, name, 0)
    yield
    FlakyFileSystem.store.clear()


def put(name: str, data: bytes) -> None:
    path = f"/patience/{name}"
    FlakyFileSystem.store[path] = MemoryFile(None, path, data)


def contents() -> dict[str, bytes]:
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=100, use_dictionary=False, compression="none")
    with pa.ipc.new_file(arrow, table.schema) as file:
        file.write_table(table, max_chunksize=100)
    return {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.zst": zstandard.ZstdCompressor().compress(lines),
        "a.parquet": parquet.getvalue(),
        "a.arrow": arrow.getvalue(),
        "a.txt": b"".join(text.encode() for text in TEXTS),
    }


def rows_of(pieces: list[Piece]) -> list[Any]:
    return [row for block in read_pieces(pieces, OPTIONS) for row in block.to_pylist()]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow", "a.txt"])
def test_every_third_request_fails_and_no_row_is_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.readers.source.FILE_CHUNK_BYTES", 1 << 14)
    monkeypatch.setattr("operators.readers.parquet.BUFFER_BYTES", 1 << 14)
    put(name, contents()[name])
    [shard] = list_shards(["flaky://patience"])
    pieces = split(shard, shard.n_bytes // 3)
    if shard.format == "jsonl":
        pieces = numbered(pieces, [count_lines(piece) for piece in pieces])
    rows = rows_of(pieces)
    expected = ["".join(TEXTS)] if name == "a.txt" else TEXTS
    assert [row["text"] for row in rows] == expected
    if name != "a.txt":
        assert [k for p in pieces for t in read_keys(p, OPTIONS) for k in t["row"].to_pylist()] == list(range(400))
    assert FlakyFileSystem.reads > 6
    assert FlakyFileSystem.opens > 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("reset by peer"), r"failed with ConnectionError: reset by peer \(tried 5 times\); check"),
        (PermissionError("Forbidden"), r"no permission to read .*a\.jsonl: Forbidden; check the credentials"),
        (OSError("bad key AKSECRETKEY"), r"bad key \*\*\*"),
    ],
)
def test_a_storage_that_stays_away(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    put("a.jsonl", b'{"text": "a"}\n')
    monkeypatch.setattr(FlakyFileSystem, "fails_every", 1)
    monkeypatch.setattr(FlakyFileSystem, "error", error)
    piece = Piece(Shard("flaky://patience/a.jsonl", "jsonl", 14))
    options = {"flaky": {"secret": "AKSECRETKEY"}}
    with pytest.raises(StorageError, match=words) as raised:
        list(read_pieces([piece], ReadOptions(), storage_options=options))
    assert raised.value.__suppress_context__
    assert FlakyFileSystem.opens == (1 if isinstance(error, PermissionError) else 5)
    with pytest.raises(InputError, match=str(error).replace("AKSECRETKEY", r"\*\*\*")):
        list_shards(["flaky://patience/a.jsonl"], storage_options=options)
    assert FlakyFileSystem.listings == (1 if isinstance(error, PermissionError) else 3)


def test_a_read_that_stays_away_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.jsonl", b'{"text": "a"}\n')
    with open_source("flaky://patience/a.jsonl") as source:
        monkeypatch.setattr(FlakyFileSystem, "fails_every", 1)
        with pytest.raises(StorageError, match=r"reading flaky://patience/a\.jsonl"), source.decoding(0):
            source.read(5)
        assert isinstance(source.failure, ConnectionError)
    with pytest.raises(ValueError, match="closed"):
        source.read(1)


def test_a_file_that_is_gone_is_no_failure_of_the_storage() -> None:
    [row] = rows_of([Piece(Shard("flaky://patience/gone.jsonl", "jsonl", 14))])
    assert (row["row"], row["reason"]) == (-1, "unreadable_shard")


def test_local_files_are_not_asked_twice(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("x")
    opened = []

    def fail(*_: Any, **__: Any) -> None:
        opened.append(1)
        raise OSError(5, "input/output error")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", fail)
    with pytest.raises(StorageError, match="input/output error"):
        rows_of([Piece(Shard(str(tmp_path / "a.txt"), "text", 1))])
    assert opened == [1]
