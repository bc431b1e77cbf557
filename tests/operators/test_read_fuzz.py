"""Random damage to valid shards never raises, and every record is accounted for."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import Format, Shard
from schemas.flow import READ
from schemas.rejects import Reason

OPTIONS = ReadOptions(
    id_column="id", label_column="label", domain_column="domain", keep_columns=("meta",), block_bytes=200
)
RECORDS = [
    {"id": f"k{i}", "text": f"héllo {i} " * (i % 5 + 1), "label": i % 2, "domain": "d", "meta": {"a": [i, None]}}
    for i in range(40)
]
LINES = b"".join(json.dumps(record, ensure_ascii=i % 2 == 0).encode() + b"\n" for i, record in enumerate(RECORDS))


def _parquet(**how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), buffer, row_group_size=15, **how)
    return buffer.getvalue()


def _zstd_frames(data: bytes) -> bytes:
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return pack(data[:1500]) + pack(data[1500:])


PARQUET = [
    _parquet(),
    _parquet(compression="none", use_dictionary=False),
    _parquet(compression="zstd", data_page_version="2.0", data_page_size=64, write_page_checksum=True),
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with 1 to 6 places overwritten, removed, inserted, repeated or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 16))
        match draw(st.sampled_from(["overwrite", "overwrite", "remove", "insert", "repeat", "cut"])):
            case "overwrite":
                data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "remove":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=length) | st.sampled_from([b"\n", b'"', b"\\ud800", b"\xff"]))
            case "repeat":
                data[at:at] = data[:at][-50 * length :]
            case "cut":
                del data[at:]
    return bytes(data)


def rows_of(name: str, kind: Format, data: bytes, options: ReadOptions = OPTIONS) -> tuple[list[Any], bool]:
    """The records, and whether the shard was read to its end."""
    uri = f"memory://fuzz/{name}"
    fsspec.filesystem("memory").pipe("/fuzz/" + name, data)
    tables = list(read_pieces([Piece(Shard(uri, kind, len(data)))], options))
    for table in tables:
        assert table.schema == READ
        table.validate(full=True)
    rows = [row for table in tables for row in table.to_pylist()]
    assert all((row["text"] is None) != (row["reason"] is None) for row in rows)
    assert all(row["reason"] is None or row["reason"] in set(Reason) for row in rows)
    assert [row["row"] for row in rows] == sorted({row["row"] for row in rows})
    broken = [row for row in rows if row["reason"] == Reason.UNREADABLE_SHARD]
    assert broken in ([], rows[-1:])
    return (rows[:-1], False) if broken else (rows, True)


def lines_of(data: bytes) -> list[int]:
    """The rows a JSONL file has: its lines that are not blank."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [row for row, line in enumerate(lines) if line.strip(b" \t\r")]


@settings(max_examples=300, deadline=None)
@given(damaged(LINES))
def test_damaged_lines(data: bytes) -> None:
    rows, complete = rows_of("a.jsonl", "jsonl", data)
    assert complete
    assert [row["row"] for row in rows] == lines_of(data)
    # A line that was not touched is a document.
    whole_lines = dict(zip(LINES.split(b"\n"), RECORDS, strict=False))
    lines = data.split(b"\n")
    for row in rows:
        if (record := whole_lines.get(lines[row["row"]])) is not None:
            assert row["text"] == record["text"]


@settings(max_examples=200, deadline=None)
@given(damaged(gzip.compress(LINES, mtime=0)))
def test_damaged_gzip(data: bytes) -> None:
    _check_stream("a.jsonl.gz", data)


@settings(max_examples=200, deadline=None)
@given(damaged(_zstd_frames(LINES)))
def test_damaged_zstd(data: bytes) -> None:
    _check_stream("a.jsonl.zst", data)


_unpacker, _ALL = zstandard.ZstdDecompressor(), {"read_across_frames": True}


def _check_stream(name: str, data: bytes) -> None:
    rows, complete = rows_of(name, "jsonl", data)
    if complete:  # then another decoder reads the same lines
        stream = io.BytesIO(data)
        other: Any = gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else _unpacker.stream_reader(stream, **_ALL)
        assert [row["row"] for row in rows] == lines_of(other.read())


# The same examples every time: pyarrow sets aside what a damaged page header asks for, up to 2 GiB.
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(PARQUET).flatmap(damaged))
def test_damaged_parquet(data: bytes) -> None:
    rows, complete = rows_of("a.parquet", "parquet", data)
    assert [row["row"] for row in rows] == list(range(len(rows)))
    if complete:
        assert len(rows) == pq.ParquetFile(io.BytesIO(data)).metadata.num_rows


@settings(max_examples=100, deadline=None)
@given(damaged("ein Text, größer als ein Satz\r\n".encode() * 20))
def test_damaged_text(data: bytes) -> None:
    rows, complete = rows_of("a.txt", "text", data)
    assert complete
    [row] = rows
    content = data.removeprefix(b"\xef\xbb\xbf")
    try:
        expected = content.decode() or Reason.EMPTY_TEXT
    except UnicodeDecodeError:
        expected = Reason.INVALID_UTF8
    assert (row["text"] or row["reason"]) == expected


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(RECORDS[0], JSON_VALUES)), max_size=8))
def test_any_json_in_any_field(records: list[dict[str, Any]]) -> None:
    data = "\n".join(json.dumps(record) for record in records).encode()
    rows, complete = rows_of("b.jsonl", "jsonl", data)
    assert complete
    assert [row["row"] for row in rows] == list(range(len(records)))
    for row, record in zip(rows, records, strict=True):
        if row["reason"] is None:
            assert (row["text"], row["key"]) == (record["text"], str(record["id"]))
            assert row["label"] == (None if record.get("label") is None else int(record["label"]))
