"""`assay frequencies` as it is typed: what it prints, and how its errors read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from output import unfolded
from typer.testing import CliRunner

from jobs.cli import app


def assay(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def lake(model_folder: Path, corpus: Path, tmp_path: Path) -> Path:
    """A lake with counts called `c`."""
    done = assay("frequencies", tmp_path / "lake", "--name", "c", "--input", corpus, "--model", model_folder,
                 "--engine", "inline")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "corpus c: 30 documents" in done.stdout
    assert "331 vocabulary ids occur" in done.stdout
    assert "dc_pdd('RUN', 'c')" in done.stdout
    assert done.stderr == ""
    return tmp_path / "lake"


def test_rejects_are_printed_by_reason_with_names_escaped(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "a\x1b[31m\nb.jsonl"
    hostile.write_text(corpus.read_text(encoding="utf-8") + '{"text": 3}\n{"text": ""}\n', encoding="utf-8")
    done = assay("frequencies", tmp_path / "lake", "--name", "c", "--input", tmp_path, "--model", model_folder,
                 "--engine", "inline", "--first-tokens", 3)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "warning: 2 records were rejected and not counted:" in done.stderr
    assert "1  text_not_string; the first: " in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_one_document_and_one_reject_are_said_as_such(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"text": "one"}\n{"text": 3}\n', encoding="utf-8")
    done = assay("frequencies", tmp_path / "lake", "--name", "c", "--input", tmp_path / "few.jsonl", "--model",
                 model_folder, "--engine", "inline", "--first-tokens", 1)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "corpus c: 1 document, 1 token, 1 of " in done.stdout
    assert "warning: 1 record was rejected and not counted:" in done.stderr


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--name", "c", "--model", "MODEL", "--input", "CORPUS"), 2, "--overwrite c"),
        (("--name", "c/..", "--model", "MODEL", "--input", "CORPUS"), 2, "--name: corpus 'c/..'"),
        (("--name", "d", "--input", "CORPUS"), 2, "--model or --tokenizer: give one of them"),
        (("--name", "d", "--model", "MODEL"), 2, "--input or --from-run: give one of them"),
        (("--name", "d", "--model", "MODEL", "--input", "nowhere"), 2, "nowhere"),
        (("--name", "d", "--from-run", "monday"), 2, "no lake at"),
        (("--name", "d", "--from-run", "monday", "--limit", "3"), 2, "leave out --limit"),
        (("--name", "d", "--from-run", "monday", "--overwrite", "c"), 2, "--overwrite: it names 'c'"),
    ],
)
def test_errors_say_what_to_do(
    lake: Path, model_folder: Path, corpus: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    places = {"MODEL": str(model_folder), "CORPUS": str(corpus)}
    done = assay("frequencies", lake, *(places.get(word, word) for word in more))
    assert done.exit_code == code, done.output
    assert said in unfolded(done.stderr)
    assert "Traceback" not in done.output
