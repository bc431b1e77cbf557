"""Arrow IPC files and streams: every type, hostile sizes, and files that were cut."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.readers.cells import slices
from operators.readers.ipc import parse_message
from operators.shards import list_shards

MIB = 1 << 20
MAKERS = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}
PLAIN = ReadOptions()


def write(path: Path, table: pa.Table, how: str = "stream", codec: str | None = None, batch_rows: int = 1000) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with path.open("wb") as file, MAKERS[how](file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def read(path: Path, options: ReadOptions = PLAIN) -> list[Any]:
    pieces = [Piece(shard) for shard in list_shards([str(path)])]
    return [row for block in read_pieces(pieces, options) for row in block.to_pylist()]


def verdicts(rows: list[Any]) -> dict[int, str]:
    return {row["row"]: row["reason"] or row["text"] for row in rows}


def strings(values: list[bytes | None], kind: pa.DataType) -> Any:
    """A string array that was never checked for UTF-8."""
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}[kind]
    return pa.array(values, binary).view(kind)


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
@pytest.mark.parametrize("how", MAKERS)
def test_files_and_streams(tmp_path: Path, how: str, codec: str | None) -> None:
    texts = [f"text {i} " * 20 for i in range(50)]
    table = pa.table({"id": range(50), "text": texts, "other": [b"x" * 100] * 50})
    path = write(tmp_path / "a.arrow", table, how, codec, batch_rows=7)
    options = ReadOptions(id_column="id", block_bytes=500)
    rows = read(path, options)
    assert verdicts(rows) == dict(enumerate(texts))
    assert [row["key"] for row in rows] == [str(i) for i in range(50)]
    pq.write_table(table, tmp_path / "a.parquet")
    ours, theirs = ([{**row, "source": ""} for row in read(tmp_path / n, options)] for n in ("a.arrow", "a.parquet"))
    assert ours == theirs


def test_feather_and_files_of_hugging_face_datasets(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    assert verdicts(read(tmp_path / "a.feather")) == {0: "a", 1: "b"}
    # What `Dataset.save_to_disk` writes: a stream whose schema carries the features.
    features = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}
    marked = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    assert verdicts(read(write(tmp_path / "data-00000-of-00001.arrow", marked))) == {0: "a", 1: "b"}
    (tmp_path / "old.feather").write_bytes(b"FEA1" + bytes(100) + b"FEA1")
    [row] = read(tmp_path / "old.feather")
    assert "Feather version 1" in row["detail"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("codec", [None, "zstd"])
def test_invalid_utf8_rejects_its_rows_only(tmp_path: Path, kind: pa.DataType, codec: str | None) -> None:
    good = [b"0", b"1", b"2", None, b"a longer text than a view holds inline"]
    bad = [b"0", b"\xff\xfe", b"2", None, b"x" * 20 + b"\xc3"]
    table = pa.table({"text": strings(bad, kind), "domain": strings([b"\xff", *good[1:]], kind)})
    path = write(tmp_path / "a.arrow", table, "file", codec)
    assert verdicts(read(path)) == {0: "0", 1: "invalid_utf8", 2: "2", 3: "null_text", 4: "invalid_utf8"}
    assert verdicts(read(path, ReadOptions(text_column="domain"))) == {
        0: "invalid_utf8",
        1: "1",
        2: "2",
        3: "null_text",
        4: "a longer text than a view holds inline",
    }


def test_invalid_utf8_within_dictionaries_and_lists(tmp_path: Path) -> None:
    values = strings([b"good", b"\xff"], pa.string())
    text = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, None], pa.int8()), values)
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 1, 2, 2], pa.int32()), values)
    table = pa.table({"text": text, "tags": tags})
    path = write(tmp_path / "a.arrow", table)
    assert verdicts(read(path)) == {0: "good", 1: "invalid_utf8", 2: "good", 3: "null_text"}
    rows = read(path, ReadOptions(keep_columns=("tags",)))
    assert verdicts(rows) == {0: "good", 1: "invalid_utf8", 2: "invalid_utf8", 3: "null_text"}


def test_dictionaries_that_change_between_batches(tmp_path: Path) -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    batches = [pa.array(words, kind) for words in (["a", "b"], ["a", "b", "c", "a"], ["z"])]
    for emit_deltas in (False, True):
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=emit_deltas)
        with pa.ipc.new_stream(tmp_path / "a.arrow", pa.schema([("text", kind)]), options=options) as file:
            for batch in batches:
                file.write_batch(pa.record_batch([batch], ["text"]))
        assert list(verdicts(read(tmp_path / "a.arrow")).values()) == ["a", "b", "a", "b", "c", "a", "z"]


def test_columns_are_there_once_or_the_file_is_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"body": ["a"], "x": [1]}))
    [row] = read(path)
    assert (row["row"], row["reason"]) == (-1, "unreadable_shard")
    assert "no column 'text'; the file has: body, x" in row["detail"]
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"]), pa.array([1])], names=["text", "text", "id"])
    [row] = read(write(tmp_path / "a.arrow", twice))
    assert "more than one column 'text'" in row["detail"]


@pytest.mark.parametrize("how", MAKERS)
def test_a_cut_file_keeps_the_batches_before_the_cut(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": [f"{i:05d}" for i in range(100)]}), how, batch_rows=10)
    whole = path.read_bytes()
    kept = set()
    for cut in range(0, len(whole), 4):  # messages begin at multiples of 8
        path.write_bytes(whole[:cut])
        *documents, broken = read(path)
        assert (broken["reason"], broken["row"]) == ("unreadable_shard", len(documents) or -1), cut
        assert [row["row"] for row in documents] == list(range(len(documents)))
        kept.add(len(documents))
    assert kept == set(range(0, 101, 10))


def test_a_stream_without_its_end_marker_and_bytes_after_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["a"]}))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    *documents, broken = read(path)
    assert verdicts(documents) == {0: "a"}
    assert "without its end marker" in broken["detail"]
    path.write_bytes(whole + whole)
    *documents, broken = read(path)
    assert verdicts(documents) == {0: "a"}
    assert "follow the end marker" in broken["detail"]


def test_a_file_written_before_arrow_0_15(tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = pa.table({"text": ["a", "b"]})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(use_legacy_format=True)) as file:
        file.write_table(table)
    (tmp_path / "a.arrow").write_bytes(sink.getvalue())
    assert sink.getvalue()[:4] != b"\xff\xff\xff\xff"
    assert verdicts(read(tmp_path / "a.arrow")) == {0: "a", 1: "b"}


def test_a_file_without_rows(tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    for how in MAKERS:
        assert read(write(tmp_path / "a.arrow", empty, how)) == []


# --- hostile sizes


def test_a_body_that_is_declared_too_large_is_not_fetched(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["a" * 1000]}))
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xff\xff\xff", 8)  # the record batch follows the schema
    length = struct.unpack_from("<i", data, start + 4)[0]
    declared = parse_message(bytes(data[start + 8 : start + 8 + length])).body_bytes
    at = data.rindex(struct.pack("<q", declared), 0, start + 8 + length)
    for size, word in ((1 << 40, "declares"), (-1, "declares"), (1 << 29, "cut")):
        struct.pack_into("<q", data, at, size)
        path.write_bytes(data)
        [row] = read(path)
        assert (row["row"], row["reason"]) == (-1, "unreadable_shard")
        assert word in row["detail"]


@pytest.mark.parametrize("declared", [1 << 31, 1 << 50])
def test_a_buffer_that_would_unpack_to_too_much_is_not_unpacked(tmp_path: Path, declared: int) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["abc" * 1000]}), codec="zstd")
    data = path.read_bytes()
    at = data.rindex(struct.pack("<q", 3000))  # the buffer of the characters, the last one, begins with its length
    path.write_bytes(data[:at] + struct.pack("<q", declared) + data[at + 8 :])
    [row] = read(path)
    assert row["reason"] == "unreadable_shard"
    unpacked = int(row["detail"].split("unpacks to ")[1].split()[0])
    assert declared <= unpacked < declared + 100


def test_dictionaries_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.readers.ipc.MAX_BODY_BYTES", 1000)
    kind = pa.dictionary(pa.int16(), pa.string())
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    words: list[str] = []
    with pa.ipc.new_stream(tmp_path / "a.arrow", pa.schema([("text", kind)]), options=options) as file:
        for i in range(20):
            words.append(f"word {i} " * 10)
            array = pa.DictionaryArray.from_arrays(pa.array([i], pa.int16()), pa.array(words))
            file.write_batch(pa.record_batch([array], ["text"]))
    *documents, broken = read(tmp_path / "a.arrow")
    assert 2 < len(documents) < 19
    assert "dictionaries take more than 1000 bytes" in broken["detail"]


def test_offsets_outside_their_buffer_are_found_before_they_are_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["aaaa", "bbbb"]}))
    data = path.read_bytes()
    offsets = struct.pack("<iii", 0, 4, 8)
    assert data.count(offsets) == 1
    for wrong in ((0, 4, 1 << 30), (0, -4, 8), (0, 1 << 30, 8), (5, 4, 8)):
        path.write_bytes(data.replace(offsets, struct.pack("<iii", *wrong)))
        assert verdicts(read(path)) == {-1: "unreadable_shard"}


def _largest_and_rows(path: Path, options: ReadOptions) -> tuple[int, int]:
    """Bytes of the largest block, and rows read."""
    peak = rows = 0
    for block in read_pieces([Piece(s) for s in list_shards([str(path)])], options):
        rows += len(block)
        peak = max(peak, block.nbytes)
    return peak, rows


@pytest.mark.parametrize("kind", ["dictionary", "view", "runs"])
def test_a_long_value_that_many_rows_share_is_not_multiplied(kind: str) -> None:
    long, n = "x" * MIB, 500
    if kind == "dictionary":
        column: Any = pa.DictionaryArray.from_arrays(pa.array([0, 1] * (n // 2), pa.int8()), pa.array([long, "y"]))
    elif kind == "view":
        views = struct.pack("<i4sii", MIB, b"xxxx", 0, 0) * n
        buffers = [None, pa.py_buffer(views), pa.py_buffer(long.encode())]
        column = pa.Array.from_buffers(pa.string_view(), n, buffers)
        column.validate(full=True)
    else:
        column = pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), pa.array([long]))
    parts = list(slices([column], n, max_bytes=4 * MIB, max_rows=100))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, n)
    assert max(part.stop - part.start for part in parts) <= (10 if kind == "dictionary" else 4)


def test_slices_follow_the_lengths_of_the_values() -> None:
    sizes = [10, 10, 100, None, 5, 5, 5, 200]
    for kind in (pa.string(), pa.large_binary(), pa.string_view(), pa.binary_view()):
        column = pa.array([None if size is None else "x" * size for size in sizes], pa.string()).cast(kind)
        padded = pa.concat_arrays([pa.array(["pad"] * 3, pa.string()).cast(kind), column])
        for array in (column, padded.slice(3)):
            parts = [(p.start, p.stop) for p in slices([array], 8, max_bytes=20, max_rows=3)]
            assert parts == [(0, 2), (2, 3), (3, 6), (6, 7), (7, 8)], kind
    numbers = pa.array(np.zeros(100_000))
    assert sum(p.stop - p.start for p in slices([numbers], 100_000, max_bytes=8000, max_rows=1 << 30)) == 100_000
    assert max(p.stop - p.start for p in slices([numbers], 100_000, max_bytes=8000, max_rows=1 << 30)) == 1000


def test_a_large_batch_gives_blocks_of_bounded_size(tmp_path: Path) -> None:
    n = 64 * 64
    path = write(tmp_path / "a.arrow", pa.table({"text": [f"{i:08d}" * 2048 for i in range(n)]}), batch_rows=n)
    peak, rows = _largest_and_rows(path, ReadOptions(block_bytes=MIB))
    assert rows == n
    assert peak < 1.1 * MIB
