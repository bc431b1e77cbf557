"""Pieces tile their file: whatever the cuts, the rows of the pieces are the rows of the whole."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators.pieces import Piece, count_lines, numbered, split
from operators.read import ReadOptions, StorageError, read_keys, read_pieces
from operators.shards import Format, Shard, list_shards

OPTIONS = ReadOptions()


def shard_of(name: str, data: bytes, kind: Format = "jsonl") -> Shard:
    fsspec.filesystem("memory").pipe(f"/pieces/{name}", data)
    return Shard(f"memory://pieces/{name}", kind, len(data))


def rows_of(pieces: list[Piece], options: ReadOptions = OPTIONS) -> list[Any]:
    return [row for block in read_pieces(pieces, options) for row in block.to_pylist()]


def lines_of(data: bytes) -> list[bytes]:
    """Every line, blank ones included; what follows the last newline is one only if it is not empty."""
    *ended, rest = data.split(b"\n")
    return [*ended, rest] if rest else ended


LINE = st.one_of(
    st.text(max_size=12).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "replace")),
    st.sampled_from(
        [b"", b" ", b"\r", b'{"text": "a"}\r', b"broken", b"\xff", b"\xef\xbb\xbf", b'{"text": "\xc3\xa9"}']
    ),
)
FILE = st.builds(
    lambda bom, lines, end: bom + b"\n".join(lines) + end,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(LINE, max_size=12),
    st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]),
)


@settings(max_examples=400, deadline=None)
@given(FILE, st.sets(st.integers(1, 200), max_size=8))
@example(b"a\nb\n", {2})
@example(b"a\nb\n", {1, 2, 3, 4})
@example(b"\xef\xbb\xbf{}", {1, 2, 3})
@example(b"", {1})
def test_any_cut_of_lines_gives_the_rows_of_the_whole(data: bytes, cuts: set[int]) -> None:
    shard = shard_of("a.jsonl", data)
    bounds = [0, *sorted(cuts)]
    pieces = [
        Piece(shard, start, stop, None if start else 0) for start, stop in zip(bounds, [*bounds[1:], None], strict=True)
    ]
    counts = [count_lines(piece) for piece in pieces]
    starts = [0, *(at + 1 for at, byte in enumerate(data[:-1]) if byte == 10)] if data else []
    assert counts == [sum(p.start <= at < (p.stop or len(data) + 1) for at in starts) for p in pieces]
    assert sum(counts) == count_lines(Piece(shard)) == len(lines_of(data))
    assert rows_of(numbered(pieces, counts)) == rows_of([Piece(shard)])


@settings(max_examples=100, deadline=None)
@given(FILE, st.integers(1, 60))
def test_split_lines(data: bytes, piece_bytes: int) -> None:
    shard = shard_of("b.jsonl", data)
    pieces = split(shard, piece_bytes)
    assert (pieces[0].start, pieces[0].first_row, pieces[-1].stop) == (0, 0, None)
    assert [piece.stop for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert all(piece.stop - piece.start <= piece_bytes for piece in pieces if piece.stop is not None)
    assert rows_of(numbered(pieces, [count_lines(piece) for piece in pieces])) == rows_of([Piece(shard)])


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(json.dumps({"text": f"\xe9{i}"}).encode() for i in range(9))
    shard = shard_of("c.jsonl", data)
    expected = rows_of([Piece(shard)])
    for module in ("source", "jsonl"):
        monkeypatch.setattr(f"operators.readers.{module}.FILE_CHUNK_BYTES", chunk)
    pieces = split(shard, 20)
    counts = [count_lines(piece) for piece in pieces]
    assert sum(counts) == 9
    assert rows_of(numbered(pieces, counts)) == expected


def test_a_line_over_many_pieces_belongs_to_the_first() -> None:
    data = b'{"text": "' + b"x" * 100 + b'"}\n{"text": "b"}'
    pieces = split(shard_of("d.jsonl", data), 10)
    counts = [count_lines(piece) for piece in pieces]
    assert [i for i, count in enumerate(counts) if count] == [0, 11]
    known = numbered(pieces, counts)
    assert [(piece.start, piece.first_row) for piece in known] == [(0, 0), (pieces[11].start, 1)]
    assert [row["text"] for row in rows_of(known)] == ["x" * 100, "b"]


def test_a_piece_reads_no_more_of_a_foreign_line_than_its_own_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of("e.jsonl", b"x" * 10_000)
    monkeypatch.setattr("operators.readers.jsonl.FILE_CHUNK_BYTES", 100)
    passed: list[int] = []
    real = fsspec.implementations.memory.MemoryFile.read

    def read(file: Any, size: int) -> bytes:
        passed.append(size)
        return real(file, size)

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", read)
    assert rows_of([Piece(shard, 1000, 2000, 1)]) == []
    assert sum(passed) == 1000


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 7, 0, 0, 2], [0, 0, 5, 0], [0], [], [4]])
@pytest.mark.parametrize("piece_bytes", [1, 700, 1200])
def test_row_groups(sizes: list[int], piece_bytes: int) -> None:
    buffer, row = io.BytesIO(), 0
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(buffer, schema) as file:
        for size in sizes:
            file.write_table(pa.table({"text": [f"text {row + i}" for i in range(size)]}, schema))
            row += size
    shard = shard_of("a.parquet", buffer.getvalue(), "parquet")
    pieces = split(shard, piece_bytes)
    everything = rows_of([Piece(shard)])
    assert [r["row"] for r in everything] == list(range(sum(sizes)))
    assert rows_of(pieces) == everything
    for piece in pieces:
        rows = [r["row"] for r in rows_of([piece])]
        assert rows[:1] == ([piece.first_row] if rows else [])
    if piece_bytes == 1:
        assert len(pieces) == max(1, sum(size > 0 for size in sizes))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_any_cut_of_row_groups_gives_the_rows_of_the_whole(sizes: list[int], data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, pa.schema([("text", pa.string())])) as file:
        for group, size in enumerate(sizes):
            file.write_table(pa.table({"text": pa.array([f"{group}.{i}" for i in range(size)], pa.string())}))
    shard = shard_of("b.parquet", buffer.getvalue(), "parquet")
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, len(sizes) - 1)) if len(sizes) > 1 else st.just(set())))]
    pieces = [
        Piece(shard, start, stop, sum(sizes[:start])) for start, stop in zip(cuts, [*cuts[1:], None], strict=True)
    ]
    assert rows_of(pieces) == rows_of([Piece(shard)])


def test_pieces_of_row_groups_are_about_as_large_as_asked() -> None:
    buffer = io.BytesIO()
    table = pa.table({"text": [f"{i:08d}" * 20 for i in range(5000)]})
    pq.write_table(table, buffer, row_group_size=100, compression="zstd")
    shard = shard_of("c.parquet", buffer.getvalue(), "parquet")
    pieces = split(shard, shard.n_bytes // 5)
    assert 5 <= len(pieces) <= 6
    assert len({piece.first_row for piece in pieces}) == len(pieces)


def test_what_cannot_be_cut_is_one_piece(tmp_path: Path) -> None:
    line = b'{"text": "a"}\n' * 100
    shards = [
        shard_of("a.jsonl.gz", gzip.compress(line)),
        shard_of("a.txt", line, "text"),
        shard_of("a.arrow", line, "arrow"),
        shard_of("broken.parquet", line, "parquet"),
        Shard("memory://pieces/gone.parquet", "parquet", 1000),
        Shard("memory://pieces/a.jsonl", "jsonl", 0),
        Shard(f"zip://a.jsonl::{tmp_path}/a.zip", "jsonl", 1000),
        shard_of("small.jsonl", line[:14]),
    ]
    for shard in shards:
        assert split(shard, 14) == [Piece(shard)]
    with pytest.raises(ValueError, match="piece_bytes is 0"):
        split(shards[0], 0)
    for shard in (*shards[:3], shards[6]):
        with pytest.raises(ValueError, match="can only be read whole"):
            Piece(shard, 1, None)
    for start, stop, row in ((-1, None, 0), (5, 5, 0), (0, None, -1)):
        with pytest.raises(ValueError, match="no piece from"):
            Piece(shards[7], start, stop, row)


def test_lines_of_compressed_cut_and_gone_files_are_counted() -> None:
    packed = gzip.compress(b"\n".join(b"%d" % i for i in range(5000)))
    assert count_lines(Piece(shard_of("whole.jsonl.gz", packed))) == 5000
    assert 0 < count_lines(Piece(shard_of("cut.jsonl.gz", packed[:-2000]))) < 5000
    assert count_lines(Piece(Shard("memory://pieces/gone.jsonl", "jsonl", 5))) == 0
    with pytest.raises(ValueError, match="no lines to count"):
        count_lines(Piece(shard_of("b.txt", b"x", "text")))


def test_a_piece_whose_first_row_is_not_known_cannot_be_read_but_has_keys() -> None:
    shard = shard_of("f.jsonl", b'{"text": "a", "id": 1}\n{"text": "b", "id": 2}\n')
    with pytest.raises(ValueError, match="count the lines before"):
        rows_of(split(shard, 25))
    second = split(shard, 25)[1]
    [keys] = read_keys(second, ReadOptions(id_column="id"))
    assert keys["row"].to_pylist() == [0]


def test_an_unreadable_piece_is_one_reject_with_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {i}" for i in range(60)]
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=20, use_dictionary=False, compression="none",
        write_page_checksum=True,
    )  # fmt: skip
    [shard] = list_shards([str(path)])
    pieces = split(shard, 1)
    assert [piece.first_row for piece in pieces] == [0, 20, 40]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"text 30", b"test 30").replace(b"text 10", b"test 10"))
    rows = rows_of([*pieces, Piece(shard_of("g.jsonl", b'{"text": "next"}'))])
    broken = [row["row"] for row in rows if row["reason"] == "unreadable_shard"]
    assert broken == [-1, 20]
    assert [row["text"] for row in rows if row["text"]] == [*texts[40:], "next"]
    path.unlink()
    assert [row["row"] for row in rows_of(pieces)] == [-1, 20, 40]


def test_small_files_share_blocks() -> None:
    pieces = [Piece(shard_of(f"small{i}.txt", b"12345", "text")) for i in range(7)]
    lines = Piece(shard_of("small.jsonl", b'{"text": "12345"}\n' * 3))
    blocks = list(read_pieces([*pieces, lines], ReadOptions(block_bytes=20)))
    assert [len(block) for block in blocks] == [4, 4, 2]
    assert blocks[1]["source"].to_pylist() == [p.shard.uri for p in pieces[4:]] + [lines.shard.uri]
    blocks = list(read_pieces([*pieces, lines], ReadOptions(block_documents=6)))
    assert [len(block) for block in blocks] == [6, 4]


def test_a_failing_storage_is_no_broken_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 100}), path)
    [shard] = list_shards([str(path)])

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", fail)
    with pytest.raises(StorageError, match="gone"):
        split(shard, 10)
    with pytest.raises(StorageError, match="gone"):
        count_lines(Piece(Shard(str(path), "jsonl", 5)))
