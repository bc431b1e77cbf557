"""Runs on code from end to end: comments are flagged as marked by hand, and what SQL makes of the flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from runs import rows

from operators.lake import Lake
from operators.query import query
from operators.verify import verify
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

# Comments stand between « and ».
MARKED = {
    "a": '«"""Adds."""»\n\n\ndef add(a, b):  «# two numbers»\n    «"""Their sum: ünï, 漢字."""»\n    return a + b\n',
    "b": "x = '# no'\n",
    "c": "«# only a comment»",
    "d": "def broken(:\n    x = 1 «# yes»\n",
}

pytestmark = pytest.mark.usefixtures("no_catalog")


def unmarked(marked: str) -> tuple[str, list[bool]]:
    """The text, and for each byte whether it counts: between the marks, and not white space."""
    text, mask = "", []
    for i, piece in enumerate(marked.replace("»", "«").split("«")):
        text += piece
        mask += [i % 2 == 1 and byte not in b" \n\t" for byte in piece.encode()]
    return text, mask


def corpus(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    records = [{"id": key, "text": unmarked(marked)[0]} for key, marked in MARKED.items()]
    for record in records:
        record |= {name: values.get(record["id"]) for name, values in more.items()}
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def flags_by_key(lake: Path, run_id: str = "run") -> dict[str, list[bool | None]]:
    keys = {row["doc_id"]: row["key"] for row in rows(lake, "documents", run_id).to_pylist()}
    flags: dict[str, list[bool | None]] = {}
    for token in rows(lake, "tokens", run_id).to_pylist():
        flags.setdefault(keys[token["doc_id"]], []).append(token["in_comment"])
    return flags


def expected(lake: Path, key: str, before: int = 0, run_id: str = "run") -> list[bool]:
    """By hand: a token is in a comment if one of its bytes counts. `before`: bytes of a prompt."""
    mask = [False] * before + unmarked(MARKED[key])[1]
    identity = {row["key"]: row["doc_id"] for row in rows(lake, "documents", run_id).to_pylist()}[key]
    tokens = [row for row in rows(lake, "tokens", run_id).to_pylist() if row["doc_id"] == identity]
    return [any(mask[t["byte_start"] : t["byte_start"] + t["n_bytes"]]) for t in tokens]


def test_comments_of_a_language_are_flagged(model_folder: Path, tmp_path: Path) -> None:
    path, lake = corpus(tmp_path / "in"), tmp_path / "lake"
    runs.run(model_folder, path, lake, id_column="id", language="Python")
    flags = flags_by_key(lake)
    assert flags == {key: expected(lake, key) for key in MARKED}
    assert not all(flags["a"])
    counts = {row["key"]: row["comment_tokens"] for row in rows(lake, "documents").to_pylist()}
    assert counts == {key: sum(map(bool, values)) for key, values in flags.items()}
    assert verify(Lake(str(lake))) == []
    runs.run(model_folder, path, lake, "plain", id_column="id")
    assert rows(lake, "tokens").drop_columns(["in_comment"]).equals(rows(lake, "tokens", "plain"))


def test_the_entropy_of_code_alone_is_one_sql_condition(model_folder: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    runs.run(model_folder, corpus(tmp_path / "in"), lake, id_column="id", language="python", precision="full")
    found = query(
        lake,
        """select key, -avg(entropy) filter (not in_comment) as score
           from tokens join documents using (run_id, doc_id) group by key order by key""",
    ).to_pylist()
    keys = {row["doc_id"]: row["key"] for row in rows(lake, "documents").to_pylist()}
    tokens = rows(lake, "tokens").to_pylist()
    for row in found:
        mine = [t for t in tokens if keys[t["doc_id"]] == row["key"]]
        kept = [
            t["entropy"]
            for t, inside in zip(mine, expected(lake, row["key"]), strict=True)
            if not inside and t["entropy"] is not None
        ]
        assert row["score"] == (pytest.approx(-np.mean(kept)) if kept else None)


def test_the_language_of_each_document_by_a_column(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    languages = {"a": "Python", "b": "Klingon", "d": "py"}
    lake = tmp_path / "lake"
    path = corpus(tmp_path / "in", lang=languages)
    runs.run(model_folder, path, lake, id_column="id", language_column="lang", keep_columns=("id",))
    flags = flags_by_key(lake)
    for key in "ad":
        assert flags[key] == expected(lake, key)
    for key in "bc":
        assert set(flags[key]) == {None}
    kept = {row["key"]: dict(row["attributes"] or ()) for row in rows(lake, "documents").to_pylist()}
    assert kept == {key: {"id": key, **({"lang": languages[key]} if key in languages else {})} for key in MARKED}
    (unknown,) = query(lake, "select count(*) as n from documents where comment_tokens is null").to_pylist()
    assert unknown["n"] == 2
    assert "comments of 2 of 4 documents in a block cannot be told" in caplog.text
    assert verify(Lake(str(lake))) == []


def test_of_a_prompted_document_the_completion_is_code(model_folder: Path, tmp_path: Path) -> None:
    prompt = "# Write it, it's urgent:\n"
    lake = tmp_path / "lake"
    path = corpus(tmp_path / "in", prompt=dict.fromkeys(MARKED, prompt))
    runs.run(model_folder, path, lake, id_column="id", prompt_column="prompt", language="python")
    assert flags_by_key(lake) == {key: expected(lake, key, len(prompt)) for key in MARKED}
    assert verify(Lake(str(lake))) == []


def test_a_transformed_run_is_in_the_language_of_its_base_run(model_folder: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    runs.run(model_folder, corpus(tmp_path / "in"), lake, id_column="id", language="python")
    job = {"lake": str(lake), "run_id": "lower", "base_run": "run", "transform": "lowercase"}
    fields = inherited(job)
    assert fields["language"] == "python"
    assert "language" not in inherited({**job, "language_column": "lang"})
    score_corpus(make_plan(ScoreConfig.parse(**fields)))
    assert flags_by_key(lake, "lower") == {key: expected(lake, key, run_id="lower") for key in MARKED}
    assert rows(lake, "documents", "lower")["text"].to_pylist() != rows(lake, "documents")["text"].to_pylist()


def test_a_run_that_is_not_on_code_goes_on_under_its_old_identity(model_folder: Path, tmp_path: Path) -> None:
    fields = {"model": model_folder, "corpus": corpus(tmp_path / "in"), "lake": tmp_path / "lake"}
    plain = runs.config(**fields)
    assert {"language", "language_column"}.isdisjoint(plain.identity)
    on_code = runs.config(**fields, language="Python")
    assert on_code.identity["language"] == "python"
    assert on_code.identity == runs.config(**fields, language="py").identity
    assert make_plan(runs.config(**fields, language_column="lang")).identity["language_column"] == "lang"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": "pythn"}, "--language: unknown language 'pythn': did you mean python"),
        ({"language": "c", "language_column": "lang"}, "--language-column: --language says"),
    ],
)
def test_a_language_that_cannot_be_is_refused(
    model_folder: Path, tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        runs.config(model_folder, corpus(tmp_path / "in"), tmp_path / "lake", **fields)
