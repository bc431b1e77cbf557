"""Hand-made shards of each format: exactly the expected rows, keys and reasons."""

from __future__ import annotations

import gzip
import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from operators.identity import key_check
from operators.pieces import Piece
from operators.read import KEYS, ReadOptions, StorageError, doc_id, read_keys, read_pieces
from operators.shards import Format, Shard, list_shards
from schemas.flow import READ
from schemas.rejects import Reason

PLAIN = ReadOptions()
ALL = ReadOptions(id_column="id", label_column="label", domain_column="domain", keep_columns=("lang", "meta"))


def read(path: Path, options: ReadOptions = PLAIN, *, kind: Format | None = None, **how: Any) -> list[Any]:
    """The rows of one file as dicts; checks on the way what holds for every block."""
    [shard] = list_shards([str(path)], format=kind or "auto")
    rows: list[Any] = []
    for block in read_pieces([Piece(shard)], options, **how):
        assert block.schema == READ
        assert 0 < block.num_rows <= options.block_documents
        block.validate(full=True)
        rows += block.to_pylist()
    assert {row["source"] for row in rows} <= {shard.uri}
    assert all((row["text"] is None) != (row["reason"] is None) for row in rows)
    assert all(len(row["detail"] or "") <= 200 for row in rows)
    assert [row["row"] for row in rows] == sorted({row["row"] for row in rows})
    return rows


def verdicts(rows: list[Any]) -> dict[int, str]:
    """Row -> its text, or the reason it is a reject for."""
    return {row["row"]: row["reason"] or row["text"] for row in rows}


def write_lines(path: Path, *lines: bytes | dict[str, Any]) -> Path:
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def write_parquet(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(columns), path, **how)
    return path


def string_array(values: list[bytes | None]) -> Any:
    """A string column that was never checked for UTF-8, as some writers make them."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())


# --- JSON Lines


def test_every_fault_of_a_line_is_one_reject_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        {"text": "first"},
        b'{"text": "cut',
        b"[1, 2]",
        b'"text"',
        {"body": "x"},
        {"text": None},
        {"text": 5},
        {"text": ["x"]},
        {"text": ""},
        {"text": " \n"},
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "\\ud83d\\ude00"}',
        b"\xef\xbb\xbf" + b'{"text": "a mark in the middle"}',
        {"text": "last"},
    )
    assert verdicts(read(path)) == {
        0: "first",
        1: "broken_json",
        2: "not_an_object",
        3: "not_an_object",
        4: "missing_text",
        5: "null_text",
        6: "text_not_string",
        7: "text_not_string",
        8: "empty_text",
        9: " \n",
        10: "invalid_utf8",
        11: "invalid_utf8",
        12: "\N{GRINNING FACE}",
        13: "broken_json",
        14: "last",
    }


def test_rows_count_lines_and_blank_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\n  \t\r\n{"text": "b"}\n\n{"text": "no newline"}')
    rows = read(path)
    assert verdicts(rows) == {0: "a", 3: "b", 5: "no newline"}
    assert [row["key"] for row in rows] == [f"{path}#0", f"{path}#3", f"{path}#5"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_records_gives_no_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert read(path) == []


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x85d\N{LINE SEPARATOR}e\rf\0"
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": text}, ensure_ascii=False), newline="")
    assert verdicts(read(path)) == {0: text}


def test_metadata(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        {"id": "k", "text": "t", "label": 1, "domain": "web", "lang": "de", "meta": {"é": [1, 2.5, None, True]}},
        {"id": 7, "text": "t", "domain": 3, "lang": None, "meta": float("nan")},
        {"id": -1, "text": "t", "domain": True, "meta": False},
    )
    rows = read(path, ALL)
    assert [row["key"] for row in rows] == ["k", "7", "-1"]
    assert [row["label"] for row in rows] == [1, None, None]
    assert [row["domain"] for row in rows] == ["web", "3", "True"]
    assert [row["attributes"] for row in rows] == [
        [("lang", "de"), ("meta", '{"é":[1,2.5,null,true]}')],
        [("meta", "NaN")],
        [("meta", "false")],
    ]


def test_attributes_are_null_unless_asked_for_and_empty_where_there_are_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "t", "lang": None})
    assert read(path)[0]["attributes"] is None
    assert read(path, ReadOptions(keep_columns=("lang", "meta")))[0]["attributes"] == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [("0", 0), ("1", 1), ("true", 1), ("false", 0), ("null", None), ("1.0", 1), ("-0.0", 0), ('"0"', 0), ('"1"', 1)],
)
def test_labels(tmp_path: Path, label: str, expected: int | None) -> None:
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "t", "label": ' + label.encode() + b"}")
    assert [row["label"] for row in read(path, ReadOptions(label_column="label"))] == [expected]


@pytest.mark.parametrize("label", ["2", "-1", "0.5", '"yes"', '""', "[]", "[1]", "{}", "NaN", "1e400", '"\\ud800"'])
def test_invalid_labels(tmp_path: Path, label: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "t", "label": ' + label.encode() + b"}")
    [row] = read(path, ReadOptions(label_column="label"))
    assert (row["reason"], row["key"]) == (Reason.INVALID_LABEL, f"{path}#0")


@pytest.mark.parametrize("key", ["null", "true", "1.0", "[]", "{}", '""', '"\\udfff"', f'"{"k" * 4097}"'])
def test_invalid_keys(tmp_path: Path, key: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "t", "id": ' + key.encode() + b"}", {"text": "t"})
    rows = read(path, ReadOptions(id_column="id"))
    assert [(row["reason"], row["key"]) for row in rows] == [(Reason.INVALID_KEY, None)] * 2


def test_lone_surrogates_in_metadata(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        b'{"id": 0, "text": "t", "domain": "\\ud800"}',
        b'{"id": 1, "text": "t", "lang": "\\ud800"}',
        b'{"id": 2, "text": "t", "meta": ["\\ud800"]}',
        b'{"id": 3, "text": "t", "unused": "\\ud800"}',
    )
    rows = read(path, ALL)
    assert verdicts(rows) == {0: "invalid_utf8", 1: "invalid_utf8", 2: "invalid_utf8", 3: "t"}
    assert ["domain" in rows[0]["detail"], "lang" in rows[1]["detail"], "meta" in rows[2]["detail"]] == [True] * 3


def test_numbers_and_nesting_that_break_parsers(tmp_path: Path) -> None:
    deepest = b"[" * 499 + b"]" * 499
    path = write_lines(
        tmp_path / "a.jsonl",
        b'{"text": "t", "n": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b'{"text": "t", "meta": [' + deepest + b"]}",
        b'{"text": "t", "meta": ' + deepest + b"}",
        {"text": "{" * 1000},
        b'{"text": "t", "n": 1e999999, "m": -Infinity}',
    )
    rows = read(path, ReadOptions(keep_columns=("meta",)))
    assert verdicts(rows) == {0: "broken_json", 1: "broken_json", 2: "broken_json", 3: "t", 4: "{" * 1000, 5: "t"}
    assert rows[3]["attributes"] == [("meta", deepest.decode())]


def test_records_that_repeat_a_key_are_rejects_unless_they_have_a_fault_of_their_own(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        {"id": "a", "text": "has a"},
        {"id": "a", "text": "late"},
        {"id": "a", "text": ""},
        {"id": "a", "text": "t", "label": 7},
        {"id": "b", "text": "collides"},
        b"broken",
        {"id": "c", "text": "c"},
    )
    repeat = (Reason.DUPLICATE_KEY, "row 0 has it")
    collision = (Reason.HASH_COLLISION, "another key")
    repeats = {(str(path), row): repeat for row in (1, 2, 3, 5)} | {(str(path), 4): collision, ("other", 6): repeat}
    rows = read(path, ReadOptions(id_column="id", label_column="label"), repeats=repeats)
    assert verdicts(rows) == {
        0: "has a",
        1: "duplicate_key",
        2: "empty_text",
        3: "invalid_label",
        4: "hash_collision",
        5: "broken_json",
        6: "c",
    }
    assert [row["key"] for row in rows] == ["a", "a", "a", "a", "b", None, "c"]
    assert rows[1]["detail"] == "row 0 has it"


def test_texts_and_lines_that_are_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.readers.options.MAX_LINE_BYTES", 100)
    path = write_lines(
        tmp_path / "a.jsonl",
        {"text": "12345678"},
        {"text": "123456789"},
        b'{"text": "1234567\xc3\xa9"}',
        {"text": "1234", "other": "x" * 71},
        {"text": "1234", "other": "x" * 72},
        {"text": "1234", "other": "x" * 3_000_000},
        {"text": "last"},
    )
    rows = read(path, ReadOptions(max_document_bytes=8))
    too_large = Reason.DOCUMENT_TOO_LARGE.value
    assert [len(line) for line in path.read_bytes().split(b"\n")][3:5] == [100, 101]
    assert verdicts(rows) == {
        0: "12345678",
        1: too_large,
        2: too_large,
        3: "1234",
        4: too_large,
        5: too_large,
        6: "last",
    }
    assert "line longer than 100 bytes" in rows[5]["detail"]


def test_details_are_short_and_hold_no_text(tmp_path: Path) -> None:
    secret = "secret " * 50
    path = write_lines(
        tmp_path / "a.jsonl",
        {secret * 10: 1, "\n\ud800": 2, **{f"column {i}": 0 for i in range(100)}},
        {"text": [secret]},
        {"text": secret, "label": secret},
        json.dumps({"text": secret})[:-1].encode(),
    )
    rows = read(path, ReadOptions(label_column="label"))
    assert [row["reason"] for row in rows] == ["missing_text", "text_not_string", "invalid_label", "broken_json"]
    assert all(secret not in row["detail"] and "\n" not in row["detail"] for row in rows)


# --- compressed streams

LINES = b"".join(json.dumps({"text": f"line {i} " * 20}).encode() + b"\n" for i in range(400))
_zstd = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": _zstd}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_lines_in_several_members(tmp_path: Path, suffix: str) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / f"a.jsonl{suffix}"
    plain.write_bytes(LINES)
    # Members may end anywhere, within a line too.
    packed.write_bytes(b"".join(COMPRESS[suffix](part) for part in (LINES[:777], b"", LINES[777:])))
    assert verdicts(read(packed)) == verdicts(read(plain))


def test_skippable_zstd_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.json.zst"
    path.write_bytes(_zstd(b'{"text": "a"}\n') + b"\x50\x2a\x4d\x18\x03\0\0\0xyz" + _zstd(b'{"text": "b"}\n'))
    assert verdicts(read(path)) == {0: "a", 1: "b"}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_cut_stream_keeps_the_rows_before_the_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    first, second = (COMPRESS[suffix](part) for part in (LINES, LINES))
    path.write_bytes(first + second[:-20])
    rows = read(path)
    *documents, broken = rows
    assert len(documents) >= 380  # of the first member's 400 lines at most the last 4 KiB are lost
    assert all(row["reason"] is None for row in documents)
    assert (broken["reason"], broken["row"]) == (Reason.UNREADABLE_SHARD, len(documents))
    assert "runcated" in broken["detail"]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("content", [b"", b"\n", b"not compressed at all\n"])
@pytest.mark.parametrize("stem", ["a.jsonl", "a.txt"])
def test_what_is_no_compressed_stream_is_one_reject(tmp_path: Path, stem: str, suffix: str, content: bytes) -> None:
    path = tmp_path / (stem + suffix)
    path.write_bytes(content)
    rows = read(path)
    assert [(row["row"], row["key"], row["reason"]) for row in rows] == [(-1, None, Reason.UNREADABLE_SHARD)]


# --- text files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\r\nb\n", "a\r\nb\n"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (b" ", " "),
        (b"12345678", "12345678"),
        (b"\xef\xbb\xbf12345678", "12345678"),
        (b"", "empty_text"),
        (b"\xef\xbb\xbf", "empty_text"),
        (b"abc\xff", "invalid_utf8"),
        (b"\xed\xa0\x80", "invalid_utf8"),
        (b"123456789", "document_too_large"),
        (b"1234567\xc3\xa9", "document_too_large"),
        (b"\xff" * 3_000_000, "document_too_large"),
    ],
)
def test_a_text_file_is_one_document(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    [row] = read(path, ReadOptions(max_document_bytes=8))
    assert (row["reason"] or row["text"], row["row"], row["key"]) == (expected, 0, f"{path}#0")


def test_columns_do_not_apply_to_text_files(tmp_path: Path) -> None:
    path = tmp_path / "a.md.gz"
    path.write_bytes(gzip.compress(b"# title"))
    [row] = read(path, ReadOptions(text_column="body", id_column="id", label_column="y", keep_columns=("z",)))
    assert (row["text"], row["key"], row["label"], row["attributes"]) == ("# title", f"{path}#0", None, None)


def test_any_file_can_be_read_as_text(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "a"})
    assert verdicts(read(path, kind="text")) == {0: '{"text": "a"}\n'}


# --- Parquet


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_every_string_type_of_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["plain", "é\0\N{GRINNING FACE}", None, "", " "]
    path = write_parquet(tmp_path / "a.parquet", {"text": pa.array(texts, pa.string()).cast(kind)})
    assert verdicts(read(path)) == {0: "plain", 1: "é\0\N{GRINNING FACE}", 2: "null_text", 3: "empty_text", 4: " "}


def test_invalid_utf8_in_parquet_rejects_its_rows_only(tmp_path: Path) -> None:
    good: list[bytes | None] = [b"0", b"1", b"2", b"3", b"4"]
    columns = {name: list(good) for name in ("id", "text", "domain", "lang")}
    for row, name in enumerate(columns):
        columns[name][row] = b"\xff\xfe"
    arrays = {name: string_array(values) for name, values in columns.items()}
    path = write_parquet(tmp_path / "a.parquet", arrays)
    rows = read(path, ReadOptions(id_column="id", domain_column="domain", keep_columns=("lang",)))
    assert verdicts(rows) == {0: "invalid_key", 1: "invalid_utf8", 2: "invalid_utf8", 3: "invalid_utf8", 4: "4"}
    assert [row["key"] for row in rows] == [None, "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2]),
        pa.array([[b"x"], []]),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2),
        pa.array([True, False]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_text_column_of_another_type(tmp_path: Path, values: Any) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": values})
    assert verdicts(read(path)) == {0: "text_not_string", 1: "text_not_string"}
    rows = read(write_parquet(tmp_path / "b.parquet", {"text": ["a", "b"], "id": values}), ReadOptions(id_column="id"))
    expected = None if pa.types.is_integer(values.type) else Reason.INVALID_KEY
    assert [row["reason"] for row in rows] == [expected] * 2


def test_null_typed_columns(tmp_path: Path) -> None:
    nulls = pa.nulls(1)
    path = write_parquet(tmp_path / "a.parquet", {"text": ["t"], "label": nulls, "domain": nulls, "lang": nulls})
    [row] = read(path, ReadOptions(label_column="label", domain_column="domain", keep_columns=("lang",)))
    assert (row["label"], row["domain"], row["attributes"]) == (None, None, [])
    path = write_parquet(tmp_path / "b.parquet", {"text": nulls})
    assert verdicts(read(path)) == {0: "null_text"}


def test_parquet_metadata(tmp_path: Path) -> None:
    identity = uuid.uuid4()
    instant = datetime(2026, 11, 20, 1, 2, 3, 400_000, tzinfo=UTC)
    struct = pa.struct([("a", pa.list_(pa.int64())), ("b", pa.string())])
    columns = {
        "text": pa.array(["t"]),
        "id": pa.array([identity.bytes], pa.uuid()),
        "label": pa.array([Decimal("1.00")]),
        "domain": pa.array([2.5]),
        "struct": pa.array([{"a": [1, None], "b": "é"}], struct),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        "instant": pa.array([instant], pa.timestamp("us", tz="Europe/Berlin")),
        "fine": pa.array([1], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.timestamp("us")),
        "fine_within": pa.array([[1]], pa.list_(pa.timestamp("ns"))),
        "decimal": pa.array([Decimal("1.50")]),
        "binary": pa.array([b"text"]),
        "bytes_within": pa.array([[b"text", b"\xff"]]),
        "flag": pa.array([True]),
        "half": pa.array([1.5], pa.float16()),
        "word": pa.array(["w"]).dictionary_encode(),
    }
    path = write_parquet(tmp_path / "a.parquet", columns)
    keep = tuple(name for name in columns if name not in ("text", "id", "label", "domain"))
    options = ReadOptions(id_column="id", label_column="label", domain_column="domain", keep_columns=keep)
    [row] = read(path, options)
    attributes = dict(row["attributes"])
    assert (row["key"], row["label"], row["domain"]) == (str(identity), 1, "2.5")
    assert attributes.pop("fine_within")  # what Python can hold of it depends on the libraries installed
    assert attributes.pop("far")
    assert attributes == {
        "struct": '{"a":[1,null],"b":"é"}',
        "map": '[["k",1]]',
        "instant": "2026-11-20 01:02:03.400000Z",
        "fine": "1970-01-01 00:00:00.000000001",
        "decimal": "1.50",
        "binary": "text",
        "bytes_within": '["text","ff"]',
        "flag": "true",
        "half": "1.5",
        "word": "w",
    }


def test_a_nested_string_of_invalid_utf8(tmp_path: Path) -> None:
    values = string_array([b"ok", b"\xff"])
    nested = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a", "b"], "lang": nested})
    assert verdicts(read(path, ReadOptions(keep_columns=("lang",)))) == {0: "a", 1: "invalid_utf8"}


@pytest.mark.parametrize(
    "options",
    [
        ReadOptions(text_column="body"),
        ReadOptions(text_template="{body} {lang}"),
        ReadOptions(id_column="uid"),
        ReadOptions(prompt_column="question"),
        ReadOptions(id_column="uid", keep_columns=("uid",)),
    ],
    ids=["text", "template", "id", "prompt", "id and keep"],
)
def test_a_parquet_file_without_a_column_it_needs(tmp_path: Path, options: ReadOptions) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"], "lang": ["en"]})
    [row] = read(path, options)
    assert (row["row"], row["key"], row["reason"]) == (-1, None, Reason.UNREADABLE_SHARD)
    assert "the file has: text, lang" in row["detail"]


def test_a_parquet_file_without_an_optional_column(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a", "b"], "lang": ["en", "de"]})
    rows = read(path, ReadOptions(label_column="y", domain_column="site", keep_columns=("lang", "tongue")))
    assert verdicts(rows) == {0: "a", 1: "b"}
    assert [(row["label"], row["domain"]) for row in rows] == [(None, None)] * 2
    assert [row["attributes"] for row in rows] == [[("lang", "en")], [("lang", "de")]]


def test_dotted_and_repeated_column_names(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"a.b": ["dotted"], "a": pa.array([{"b": "nested"}])})
    assert verdicts(read(path, ReadOptions(text_column="a.b"))) == {0: "dotted"}
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "b.parquet")
    [row] = read(tmp_path / "b.parquet")
    assert (row["row"], row["reason"]) == (-1, Reason.UNREADABLE_SHARD)


def test_row_groups_are_read_through_and_a_broken_one_ends_the_shard(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        {"text": [f"text {i}" for i in range(50)]},
        row_group_size=20,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
    )
    assert verdicts(read(path)) == {i: f"text {i}" for i in range(50)}
    path.write_bytes(path.read_bytes().replace(b"text 30", b"test 30"))
    *documents, broken = read(path)
    assert verdicts(documents) == {i: f"text {i}" for i in range(20)}
    assert (broken["row"], broken["reason"]) == (20, Reason.UNREADABLE_SHARD)


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_cut_parquet_file_is_one_reject(tmp_path: Path, cut: int) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"] * 100})
    path.write_bytes(path.read_bytes()[:cut])
    assert [(row["row"], row["reason"]) for row in read(path)] == [(-1, Reason.UNREADABLE_SHARD)]


def test_an_empty_parquet_file_has_no_rows(tmp_path: Path) -> None:
    assert read(write_parquet(tmp_path / "a.parquet", {"text": pa.array([], pa.string())})) == []


# --- identity, storage


def test_doc_id_is_63_bits_of_xxh3() -> None:
    assert doc_id("") == 0x2D06800538D394C2  # xxh3_64 of nothing, whose top bit is 0
    ids = [doc_id(f"key {i}") for i in range(1000)]
    assert len(set(ids)) == 1000
    assert all(0 <= i < 2**63 for i in ids)


def test_key_checks_are_64_signed_bits_of_their_own() -> None:
    assert key_check("") == 0x99AA06D3014798D8 - 2**64  # the upper half of xxh3_128 of nothing
    checks = [key_check(f"key {i}") for i in range(1000)]
    assert len(set(checks)) == 1000
    assert all(-(2**63) <= i < 2**63 for i in checks)
    assert min(checks) < 0 < max(checks)


KEYED: list[dict[str, Any]] = [
    {"id": "a", "text": ""},  # a reject has an id too
    {"id": "7", "text": "t"},
    {"id": None, "text": "t"},
    {"id": "", "text": "t"},
    {"id": "a", "text": "t"},
    {"id": "k" * 4097, "text": "t"},
    {"id": "\N{GRINNING FACE}", "text": None},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow"])
def test_keys_of_every_record_with_a_sound_id(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    table = pa.Table.from_pylist(KEYED)
    if name.endswith(".parquet"):
        pq.write_table(table, path)
    elif name.endswith(".arrow"):
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=3)
    else:
        write_lines(path, *KEYED)
        path.write_bytes(gzip.compress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes())
    [keys] = read_keys(Piece(list_shards([str(path)])[0]), ReadOptions(id_column="id", text_column="gone"))
    assert keys.schema == KEYS
    expected = {0: "a", 1: "7", 4: "a", 6: "\N{GRINNING FACE}"}
    assert keys["row"].to_pylist() == list(expected)
    assert keys["doc_id"].to_pylist() == [doc_id(key) for key in expected.values()]
    assert keys["check"].to_pylist() == [key_check(key) for key in expected.values()]


def test_keys_of_broken_lines_and_pieces(tmp_path: Path) -> None:
    options = ReadOptions(id_column="meta.id")
    path = write_lines(
        tmp_path / "a.jsonl", b'{"meta": {"id": 5}}', b"{", b'{"meta": 1}', b"[]", b'{"meta": {"id": 6}}'
    )
    shard = list_shards([str(path)])[0]
    assert [k["row"].to_pylist() for k in read_keys(Piece(shard), options)] == [[0, 4]]
    assert [k["row"].to_pylist() for k in read_keys(Piece(shard, 20, None, None), options)] == [[3]]
    assert [k["row"].to_pylist() for k in read_keys(Piece(shard, 20, None, 1), options)] == [[4]]
    (tmp_path / "b.parquet").write_bytes(b"broken")
    for shard in (*list_shards([str(tmp_path / "*.parquet")]), Shard(str(tmp_path / "gone.jsonl"), "jsonl", 0)):
        assert list(read_keys(Piece(shard), options)) == []
    with pytest.raises(ValueError, match="id_column"):
        next(read_keys(Piece(shard), PLAIN))


def test_an_id_may_be_the_generated_key_of_a_text_file(tmp_path: Path) -> None:
    text_path = tmp_path / "a.txt"
    text_path.write_text("text")
    lines = write_lines(tmp_path / "b.jsonl", {"id": f"{text_path}#0", "text": "line"})
    options = ReadOptions(id_column="id", prompt_column="p")
    of_text, of_line = (list(read_keys(Piece(shard), options)) for shard in list_shards([str(tmp_path)]))
    assert of_text == of_line
    assert of_text[0].to_pylist() == [
        {"row": 0, "doc_id": doc_id(f"{text_path}#0"), "check": key_check(f"{text_path}#0")}
    ]
    assert of_text[0].schema == KEYS
    assert read(text_path, options)[0]["key"] == f"{text_path}#0"
    for path in (text_path, lines):
        repeats = {(str(path), 0): (Reason.DUPLICATE_KEY, "seen")}
        found = read(path, ReadOptions(id_column="id"), repeats=repeats)
        assert verdicts(found) == {0: Reason.DUPLICATE_KEY}


def test_keys_come_in_tables_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.read._KEYS_ROWS", 1000)
    path = write_lines(tmp_path / "a.jsonl", *({"id": i} for i in range(2500)))
    tables = list(read_keys(Piece(list_shards([str(path)])[0]), ReadOptions(id_column="id")))
    assert [len(table) for table in tables] == [1000, 1000, 500]
    assert pa.concat_tables(tables)["row"].to_pylist() == list(range(2500))


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    for name in ("gone.jsonl", ""):
        [block] = read_pieces([Piece(Shard(str(tmp_path / name), "jsonl", 0))], PLAIN)
        assert block["reason"].to_pylist() == [Reason.UNREADABLE_SHARD]


class _FailingFile(io.BytesIO):
    """Serves its first bytes, then the network is gone."""

    reads_left = 1

    def read(self, size: int | None = -1, /) -> bytes:
        if self.reads_left == 0:
            raise ConnectionError("network is unreachable")
        self.reads_left -= 1
        return super().read(size)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt", "a.parquet", "a.arrow"])
def test_a_failing_storage_is_no_verdict_on_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    write_parquet(path, {"text": ["t"] * 100_000})
    content = path.read_bytes()
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", lambda *_, **__: _FailingFile(content))
    with pytest.raises(StorageError, match="network is unreachable") as raised:
        list(read_pieces([Piece(list_shards([str(path)])[0])], PLAIN))
    assert str(path) in str(raised.value)


def test_refused_access_is_no_verdict_on_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("the token has expired")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", refuse)
    with pytest.raises(StorageError, match=r"no permission to read .*a\.txt: the token has expired"):
        list(read_pieces([Piece(Shard(str(tmp_path / "a.txt"), "text", 0))], PLAIN))


def test_files_are_closed_when_reading_stops_early(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"text": "t"} for _ in range(10)))
    blocks = read_pieces([Piece(Shard(str(path), "jsonl", 0))], ReadOptions(block_documents=1))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]  # a leaked file would warn, and warnings are errors


def test_options_name_every_fault_at_once() -> None:
    with pytest.raises(ValueError, match=r"block_bytes.*block_documents.*max_document_bytes.*keep_columns"):
        ReadOptions(block_bytes=0, block_documents=0, max_document_bytes=0, keep_columns=("a", "a"))
