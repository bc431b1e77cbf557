"""Every format from a real S3 server, whole and in pieces."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3

from operators.pieces import Piece, count_lines, numbered, split
from operators.read import ReadOptions, StorageError, read_keys, read_pieces
from operators.readers.source import READ_AHEAD_BYTES, open_source
from operators.shards import InputError, Shard, list_shards

TEXTS = [f"text {i} " * 400 for i in range(1500)]  # 4.5 MB, more than is read ahead


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "buckets"
    (root / "corpus" / "in").mkdir(parents=True)
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())
    folder = root / "corpus" / "in"
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    (folder / "a.txt").write_text("a text")
    pq.write_table(table, folder / "a.parquet", row_group_size=100, use_dictionary=False, compression="none")
    with pa.ipc.new_file(folder / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=500)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("b.jsonl.gz", gzip.compress(b'{"text": "zipped"}'))
    (root / "corpus" / "b.zip").write_bytes(packed.getvalue())
    with pytest.MonkeyPatch.context() as patch, s3.lone_server(root) as running:
        patch.setattr("operators.storage.remote.FIRST_PAUSE", 0.0005)
        yield running


def rows_of(pieces: list[Piece], options: Any, **how: Any) -> list[Any]:
    return [
        row for block in read_pieces(pieces, ReadOptions(**how), storage_options=options) for row in block.to_pylist()
    ]


def test_listing_gives_sizes_and_tags(server: s3.Server) -> None:
    shards = list_shards(["s3://corpus/in"], storage_options={"s3": server.options})
    folder = server.root / "corpus" / "in"
    assert [Path(shard.uri).name for shard in shards] == sorted(path.name for path in folder.iterdir())
    for shard in shards:
        content = (folder / Path(shard.uri).name).read_bytes()
        assert (shard.n_bytes, shard.tag) == (len(content), hashlib.md5(content).hexdigest())


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow"])
def test_every_format_in_pieces(server: s3.Server, name: str) -> None:
    options = {"s3": server.options, "gs": {"token": "anon"}}
    [shard] = list_shards([f"s3://corpus/in/{name}"], storage_options=options)
    pieces = split(shard, shard.n_bytes // 4 + 1, options)
    assert len(pieces) == {"a.jsonl": 4, "a.parquet": len(pieces)}.get(name, 1)
    assert name != "a.parquet" or len(pieces) in (4, 5)
    if name == "a.jsonl":
        pieces = numbered(pieces, [count_lines(piece, options) for piece in pieces])
    rows = rows_of(pieces, options)
    assert [row["text"] for row in rows] == TEXTS
    assert [row["key"] for row in rows] == [f"s3://corpus/in/{name}#{i}" for i in range(len(TEXTS))]
    keys = [t for p in pieces for t in read_keys(p, ReadOptions(id_column="id"), storage_options=options)]
    assert pa.concat_tables(keys)["row"].to_pylist() == list(range(len(TEXTS)))


def test_text_and_archives(server: s3.Server) -> None:
    shards = list_shards(["s3://corpus/in/*.txt", "zip://*::s3://corpus/b.zip"], storage_options=server.options)
    assert [row["text"] for row in rows_of([Piece(s) for s in shards], server.options)] == ["a text", "zipped"]


def test_little_is_read_ahead(server: s3.Server) -> None:
    with open_source("s3://corpus/in/a.jsonl", server.options) as source:
        source.read(10)
        cache = source._file.cache
        assert cache.blocksize == READ_AHEAD_BYTES
        assert len(cache.cache) <= READ_AHEAD_BYTES + 10
    with open_source("s3://corpus/in/a.parquet", server.options, scattered=True) as source:
        assert source._file.cache.name == "none"


def test_what_is_gone_and_what_is_refused(server: s3.Server) -> None:
    [row] = rows_of([Piece(Shard("s3://corpus/in/gone.jsonl", "jsonl", 5))], server.options)
    assert (row["row"], row["reason"]) == (-1, "unreadable_shard")
    wrong = {**server.options, "secret": "not-the-secret"}
    with pytest.raises(StorageError, match=r"no permission to read s3://corpus/in/a\.txt") as raised:
        rows_of([Piece(Shard("s3://corpus/in/a.txt", "text", 5))], wrong)
    with pytest.raises(InputError, match="PermissionError") as refused:
        list_shards(["s3://corpus/in"], storage_options=wrong)
    for message in (str(raised.value), str(refused.value)):
        assert "not-the-secret" not in message
        assert s3.KEY not in message
