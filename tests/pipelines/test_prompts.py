"""Prompts, templates and nested columns from end to end: what is scored, what is flagged, and what SQL makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import runs
from runs import rows

from jobs.score import unescaped
from operators.lake import Lake
from operators.query import query
from operators.verify import verify
from pipelines.config import ConfigError

RECORDS: list[dict[str, Any]] = [
    {"meta": {"id": "a", "title": "First"}, "prompt": "def add(a, b):\n", "text": "    return a + b\n"},
    {"meta": {"id": "b", "title": "Second"}, "prompt": "", "text": "no prompt at all"},
    {"meta": {"id": "c", "title": "Third"}, "prompt": None, "text": "null prompt"},
    {"meta": {"id": "d", "title": "Fourth"}, "prompt": "ünïcödé ", "text": "漢字 follow"},
]


def write(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"in.{kind}"
    table = pa.Table.from_pylist(RECORDS)
    if kind == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, str(path))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
def test_a_prompt_is_context_and_its_tokens_are_flagged(model_folder: Path, tmp_path: Path, kind: str) -> None:
    lake = tmp_path / "lake"
    runs.run(model_folder, write(tmp_path / "in", kind), lake, prompt_column="prompt", id_column="meta.id")
    joined = tmp_path / "joined.jsonl"
    texts = {r["meta"]["id"]: (r["prompt"] or "") + r["text"] for r in RECORDS}
    joined.write_text("".join(json.dumps({"id": k, "text": t}) + "\n" for k, t in texts.items()), encoding="utf-8")
    runs.run(model_folder, joined, lake, "joined", id_column="id")
    with_prompts, plain = rows(lake, "tokens"), rows(lake, "tokens", "joined")
    assert with_prompts.drop_columns(["in_prompt"]).equals(plain)
    documents = {row["key"]: row for row in rows(lake, "documents").to_pylist()}
    assert {k: d["text"] for k, d in documents.items()} == texts
    assert [documents[k]["prompt_bytes"] for k in "abcd"] == [15, 0, 0, 12]
    assert verify(Lake(str(lake))) == []


def test_completions_alone_are_one_sql_condition(model_folder: Path, tmp_path: Path) -> None:
    corpus = write(tmp_path / "in", "jsonl")
    runs.run(model_folder, corpus, tmp_path / "lake", prompt_column="prompt", id_column="meta.id")
    tokens = rows(tmp_path / "lake", "tokens").to_pylist()
    keys = {row["doc_id"]: row["key"] for row in rows(tmp_path / "lake", "documents").to_pylist()}
    found = query(
        tmp_path / "lake",
        """select key, sum(logprob) as total, count(logprob) as n, min(byte_start) as first
           from tokens join documents using (run_id, doc_id) where not in_prompt group by key order by key""",
    ).to_pylist()
    for row in found:
        mine = [t for t in tokens if keys[t["doc_id"]] == row["key"] and not t["in_prompt"]]
        scored = [t["logprob"] for t in mine if t["logprob"] is not None]
        assert row["n"] == len(scored)
        assert row["total"] == pytest.approx(sum(scored), rel=1e-6)
    assert [row["first"] for row in found] == [14, 0, 0, 12]  # one token holds the prompt's last newline and indents


def test_a_template_makes_the_text_of_several_columns(model_folder: Path, tmp_path: Path) -> None:
    template = unescaped(r"{meta.title}\n\n{text} {{end}}")
    runs.run(model_folder, write(tmp_path / "in", "parquet"), tmp_path / "lake", text_template=template)
    texts = rows(tmp_path / "lake", "documents", order="row").to_pylist()
    assert texts[0]["text"] == "First\n\n    return a + b\n {end}"


@pytest.mark.parametrize("template", ["{}", "{0!r}", "{text:>10}", "{text", "no column"])
def test_a_template_that_says_nothing_sound_is_refused(model_folder: Path, tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError):
        runs.run(model_folder, write(tmp_path / "in", "jsonl"), tmp_path / "lake", text_template=template)
