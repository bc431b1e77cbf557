"""Column paths, templates and prompts: the same texts and verdicts from JSON Lines, Parquet and Arrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import list_shards

FORMATS = ("jsonl", "parquet", "arrow")


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    table = pa.Table.from_pylist(rows, schema)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table)
    return path


def read(path: Path, **options: Any) -> list[Any]:
    pieces = [Piece(shard) for shard in list_shards([str(path)])]
    return [row for block in read_pieces(pieces, ReadOptions(**options)) for row in block.to_pylist()]


def verdicts(rows: list[Any]) -> list[str]:
    return [row["reason"] or row["text"] for row in rows]


# --- paths

NESTED = pa.schema(
    [
        ("text", pa.string()),
        ("meta", pa.struct([("url", pa.string()), ("of", pa.struct([("id", pa.int64()), ("y", pa.bool_())]))])),
    ]
)


@pytest.mark.parametrize("kind", FORMATS)
def test_nested_columns(tmp_path: Path, kind: str) -> None:
    rows = [
        {"text": "a", "meta": {"url": "u", "of": {"id": 5, "y": True}}},
        {"text": "b", "meta": {"url": None, "of": {"id": 6, "y": None}}},
        {"text": "c", "meta": {"url": "w", "of": None}},
        {"text": "d", "meta": None},
    ]
    path = write(tmp_path / f"a.{kind}", rows, NESTED)
    found = read(
        path, label_column="meta.of.y", domain_column="meta.url", keep_columns=("meta.url", "meta.of", "meta.of.id")
    )
    assert [row["label"] for row in found] == [1, None, None, None]
    assert [row["domain"] for row in found] == ["u", None, "w", None]
    assert found[0]["attributes"] == [("meta.url", "u"), ("meta.of", '{"id":5,"y":true}'), ("meta.of.id", "5")]
    assert found[1]["attributes"][-1] == ("meta.of.id", "6")
    assert found[2]["attributes"] == [("meta.url", "w")]
    assert found[3]["attributes"] == []
    assert verdicts(read(path, text_column="meta.url")) == ["u", "null_text", "w", "null_text"]
    keyed = read(path, id_column="meta.of.id")
    assert [row["key"] for row in keyed] == ["5", "6", None, None]
    assert verdicts(keyed) == ["a", "b", "invalid_key", "invalid_key"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_with_dots_wins_over_a_path(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", [{"a": {"b": "nested", "c": "inner"}, "a.b": "dotted"}])
    assert verdicts(read(path, text_column="a.b")) == ["dotted"]
    assert verdicts(read(path, text_column="a.c")) == ["inner"]


@pytest.mark.parametrize(
    "column", ["gone", "meta.gone", "meta.url.x", "list.url", "list.0", "text.x", "meta.", ".meta", "."]
)
def test_paths_that_lead_nowhere(tmp_path: Path, column: str) -> None:
    rows = [{"text": "a", "meta": {"url": "u"}, "list": [{"url": "u"}]}]
    assert verdicts(read(write(tmp_path / "a.jsonl", rows), text_column=column)) == ["missing_text"]
    assert verdicts(read(write(tmp_path / "a.jsonl", rows), id_column=column)) == ["invalid_key"]
    [row] = read(write(tmp_path / "a.jsonl", rows), domain_column=column, keep_columns=(column,))
    assert (row["text"], row["domain"], row["attributes"]) == ("a", None, [])
    for kind in ("parquet", "arrow"):
        path = write(tmp_path / f"a.{kind}", rows)
        [row] = read(path, label_column=column, domain_column=column, keep_columns=("text", column))
        assert (row["text"], row["label"], row["domain"], row["attributes"]) == ("a", None, None, [("text", "a")])
        # A column that the text or the key needs makes the file unreadable, whatever else it is used for.
        for needed in ("text_column", "id_column", "prompt_column"):
            [row] = read(path, **{needed: column}, domain_column=column)
            assert (row["row"], row["reason"]) == (-1, "unreadable_shard")
        assert f"no column '{column}'; the file has: text, meta, list" in row["detail"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_struct_that_a_writer_typed_as_null(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", [{"text": "a", "meta": None}])
    [row] = read(path, domain_column="meta.url", keep_columns=("meta.of.id",))
    assert (row["text"], row["domain"], row["attributes"]) == ("a", None, [])


# --- templates


@pytest.mark.parametrize("kind", FORMATS)
def test_a_template(tmp_path: Path, kind: str) -> None:
    schema = pa.schema([("title", pa.string()), ("n", pa.int64()), ("of", pa.struct([("body", pa.large_string())]))])
    rows = [
        {"title": "Größe", "n": 7, "of": {"body": "b"}},
        {"title": None, "n": 7, "of": {"body": "b"}},
        {"title": "t", "n": None, "of": {"body": "b"}},
        {"title": "t", "n": -1, "of": None},
        {"title": "", "n": 0, "of": {"body": ""}},
    ]
    path = write(tmp_path / f"a.{kind}", rows, schema)
    found = read(path, text_template="{{{title}}} {n}\n\n{of.body}{title}")
    assert verdicts(found) == ["{Größe} 7\n\nbGröße", "null_text", "null_text", "null_text", "{} 0\n\n"]
    assert [row["prompt_bytes"] for row in found] == [None] * 5
    assert verdicts(read(path, text_template="{title}{of.body}"))[-1] == "empty_text"
    limits = verdicts(read(path, text_template="{title}" * 3, max_document_bytes=20))
    assert limits == ["document_too_large", "null_text", "ttt", "ttt", "empty_text"]
    assert verdicts(read(path, text_template="{title}" * 3, max_document_bytes=21))[0] == "Größe" * 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", "1 "),
        ('"1"', "1 "),
        ("true", "text_not_string"),
        ("1.0", "text_not_string"),
        ("[1]", "text_not_string"),
        ("{}", "text_not_string"),
        ("null", "null_text"),
        ('"\\ud800"', "invalid_utf8"),
        (str(10**100), f"{10**100} "),
    ],
)
def test_values_in_a_template(tmp_path: Path, value: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a": {value}}}\n{{"b": 1}}')
    rows = read(path, text_template="{a} ")
    assert verdicts(rows) == [expected, "missing_text"]
    assert "no field 'a'; the record has: b" in rows[1]["detail"]


@pytest.mark.parametrize(
    "template",
    ["{}", "{a!r}", "{a:>8}", "{a:{b}}", "{a[0]}", "{a", "a}", "{a!}", "plain", "", "{{a}}", "{a}\ud800", "{a}{}"],
)
def test_templates_that_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="text_template"):
        ReadOptions(text_template=template)


def test_a_template_excludes_a_text_column() -> None:
    with pytest.raises(ValueError, match=r"text_template '\{\}'.*only one of them"):
        ReadOptions(text_template="{}", text_column="body")
    assert ReadOptions(text_template="{b}{a.c}{b}", id_column="i", prompt_column="p").columns == ("b", "a.c", "p", "i")


# --- prompts


@pytest.mark.parametrize("kind", FORMATS)
def test_a_prompt_comes_before_the_text(tmp_path: Path, kind: str) -> None:
    schema = pa.schema([("q", pa.struct([("p", pa.string())])), ("text", pa.string())])
    rows = [
        {"q": {"p": "Größe? "}, "text": "é"},
        {"q": {"p": ""}, "text": "t"},
        {"q": {"p": None}, "text": "t"},
        {"q": None, "text": "t"},
        {"q": {"p": "p"}, "text": ""},
        {"q": {"p": "p"}, "text": None},
    ]
    path = write(tmp_path / f"a.{kind}", rows, schema)
    found = read(path, prompt_column="q.p")
    assert verdicts(found) == ["Größe? é", "t", "t", "t", "empty_text", "null_text"]
    assert [row["prompt_bytes"] for row in found] == [9, 0, 0, 0, None, None]
    assert [row["prompt_bytes"] for row in read(path)] == [None] * 6
    assert verdicts(read(path, prompt_column="q.p", max_document_bytes=11))[0] == "Größe? é"
    assert verdicts(read(path, prompt_column="q.p", max_document_bytes=10))[:2] == ["document_too_large", "t"]
    assert verdicts(read(path, prompt_column="q.p", text_template="{text}!"))[0] == "Größe? é!"


@pytest.mark.parametrize("prompt", ["5", "true", "[]", '{"a": 1}', "1.5"])
def test_a_prompt_must_be_a_string(tmp_path: Path, prompt: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "t", "p": {prompt}}}\n{{"text": "t"}}\n{{"text": "t", "p": "\\ud800"}}\n')
    rows = read(path, prompt_column="p")
    assert verdicts(rows) == ["invalid_prompt", "invalid_prompt", "invalid_utf8"]
    assert "no field 'p'" in rows[1]["detail"]


def test_templates_and_prompts_do_not_apply_to_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("all of it")
    [row] = read(tmp_path / "a.txt", text_template="{a}", prompt_column="p")
    assert (row["text"], row["prompt_bytes"]) == ("all of it", 0)
    [row] = read(tmp_path / "a.txt", text_column="p", prompt_column="p")
    assert (row["text"], row["prompt_bytes"]) == ("all of it", 0)
    assert read(tmp_path / "a.txt")[0]["prompt_bytes"] is None
    (tmp_path / "a.txt").write_text("")
    [row] = read(tmp_path / "a.txt", prompt_column="p")
    assert (row["reason"], row["prompt_bytes"]) == ("empty_text", None)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_missing_column_is_null_in_every_row(tmp_path: Path, kind: str) -> None:
    rows = [{"text": f"t{i}", "meta": {"url": f"u{i}"}, "a.b": i} for i in range(5)]
    path = write(tmp_path / f"a.{kind}", rows)
    options = {"label_column": "meta.label", "domain_column": "meta.url", "keep_columns": ("gone", "a.b", "meta.x.y")}
    found = read(path, block_documents=2, **options)
    assert [(row["text"], row["label"], row["domain"], row["attributes"]) for row in found] == [
        (f"t{i}", None, f"u{i}", [("a.b", str(i))]) for i in range(5)
    ]
