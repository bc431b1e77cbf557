"""The command line as a user types it: every verb, its help, its mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from jobs.cli import app


def verbs(command: Any, *words: str) -> Iterator[list[str]]:
    """Every verb, and those below it."""
    if not hasattr(command, "commands"):
        yield [*words]
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, *words, name)


VERBS = list(verbs(get_command(app)))


def assay(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def lake(model_folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    done = assay("score", "--model", model_folder, "--input", corpus, "--lake", folder, "--run-id", "run",
                 "--id-column", "id", "--label-column", "label", "--engine", "inline", "--context", 64)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "run run: 30 documents" in done.stdout
    return folder


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: list[str]) -> None:
    done = assay(*verb, "--help")
    assert done.exit_code == 0
    assert "Example:" in done.output
    assert f"assay {' '.join(verb)}" in done.output


def test_the_version_is_shown() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"assay {version('corpus-assay')}\n")


def test_no_arguments_show_help() -> None:
    assert "Usage" in assay().output


def test_a_mistyped_option_is_named_with_the_nearest() -> None:
    done = assay("score", "--modle", "x")
    assert done.exit_code == 2
    assert "--modle" in done.output
    assert "--model" in done.output


def test_missing_fields_are_all_named() -> None:
    done = assay("score")
    assert done.exit_code == 2
    for field in ("--model", "--input", "--lake", "--run-id"):
        assert f"{field}: is needed" in done.stderr


def test_a_missing_model_is_a_clear_error(corpus: Path, tmp_path: Path) -> None:
    done = assay("score", "--model", tmp_path / "none", "--input", corpus, "--lake", tmp_path / "l", "--run-id", "r")
    assert done.exit_code == 2
    assert "no such folder" in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "l").exists()


def test_job_file_and_flags_that_win(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    fields = {"model": str(model_folder), "input": [str(corpus)], "lake": str(tmp_path / "lake"), "run_id": "from-file",
              "engine": "inline", "id-column": "id", "context": 32, "features": ["extremes"]}  # fmt: skip
    job.write_text(json.dumps(fields), encoding="utf-8")
    done = assay("score", "--config", job, "--run-id", "from-flag", "--limit", 3)
    assert done.exit_code == 0, done.output
    ledger = json.loads((tmp_path / "lake" / "runs" / "from-flag.json").read_text(encoding="utf-8"))
    assert ledger["config"]["features"] == ["extremes"]
    assert ledger["totals"]["documents"] == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "expected fields"),
        ("a: [", "--config"),
        ("colour: red", "--colour: is not a field"),
        ("context: many", "--context"),
    ],
)
def test_broken_job_files(tmp_path: Path, text: str, complaint: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(text, encoding="utf-8")
    done = assay("score", "--config", job)
    assert done.exit_code == 2
    assert complaint in done.stderr


def test_dry_run_prints_the_plan_and_writes_nothing(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    done = assay("score", "--model", model_folder, corpus, "--lake", tmp_path / "l", "--run-id", "r", "--dry-run")
    assert done.exit_code == 0, done.output
    for word in ("read", "tokenize", "score", "write", "llama", "context 128", str(corpus)):
        assert word in done.stdout
    assert not (tmp_path / "l").exists()


def test_the_same_command_again_does_nothing(lake: Path, model_folder: Path, corpus: Path) -> None:
    done = assay("score", "--model", model_folder, "--input", corpus, "--lake", lake, "--run-id", "run",
                 "--id-column", "id", "--label-column", "label", "--engine", "inline", "--context", 64)  # fmt: skip
    assert done.exit_code == 0
    assert "finished already" in done.stderr


def test_a_run_that_scores_nothing_says_so(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    done = assay("score", "--model", model_folder, "--input", corpus, "--lake", tmp_path / "l", "--run-id", "r",
                 "--text-column", "nope", "--engine", "inline")  # fmt: skip
    assert "0 documents, 30 rejected" in done.stdout
    assert "is --text-column (or --text-template) right?" in done.stderr


@pytest.mark.cluster
def test_a_worker_that_fails_is_one_clear_line(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    """Under Ray, in a process of its own: what the model's loading raised, without a page of wrappings."""
    import shutil

    broken = shutil.copytree(model_folder, tmp_path / "broken")
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    command = [sys.executable, "-m", "jobs.cli", "score", "--model", str(broken), "--input", str(corpus),
               "--lake", str(tmp_path / "l"), "--run-id", "r", "--actors", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "error: ModelError: model" in done.stderr
    assert "cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_sql_formats_and_output(lake: Path, tmp_path: Path) -> None:
    query = "select key, label, n_tokens from documents order by key limit 2"
    assert "doc-0" in assay("sql", lake, query).stdout
    csv = assay("sql", lake, query, "--format", "csv").stdout
    assert csv.splitlines()[0] == '"key","label","n_tokens"'
    rows = [json.loads(line) for line in assay("sql", lake, query, "--format", "json").stdout.splitlines()]
    assert rows[0]["key"] == "doc-0"
    out = tmp_path / "out.csv"
    assert assay("sql", lake, query, "--format", "csv", "--output", out).exit_code == 0
    assert out.read_text(encoding="utf-8") == csv


def test_sql_runs_score_macros(lake: Path) -> None:
    done = assay(
        "sql", lake, "select count(*) as n, count(score) as defined from min_k('run', ratio := 0.2)", "--format", "json"
    )
    assert json.loads(done.stdout)["n"] == 30


@pytest.mark.parametrize(
    "query",
    [
        "select nothing from tokens",
        "drop view tokens",
        "copy tokens to '/tmp/x.csv'",
        "select * from read_csv('/etc/passwd')",
        "",
    ],
)
def test_sql_that_fails_or_writes_is_refused(lake: Path, query: str) -> None:
    done = assay("sql", lake, query)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.output


def test_hostile_text_reaches_the_terminal_harmless(lake: Path) -> None:
    done = assay("sql", lake, "select chr(27) || '[31mred[/bold]' as text")
    assert "\x1b[31m" not in done.stdout
    assert "red[/bold]" in done.stdout


def test_catalog_prints_its_runs(lake: Path) -> None:
    done = assay("catalog", lake)
    assert done.exit_code == 0
    assert "finished" in done.stdout
    assert (lake / "lake.duckdb").is_file()


def test_verify_is_quiet_on_a_sound_lake_and_loud_on_a_broken_one(lake: Path, tmp_path: Path) -> None:
    import shutil

    assert assay("verify", lake).exit_code == 0
    broken = shutil.copytree(lake, tmp_path / "broken")
    for part in (broken / "documents" / "run_id=run").iterdir():
        part.unlink()
    done = assay("verify", broken)
    assert done.exit_code == 1
    assert "faults" in done.stdout


@pytest.mark.parametrize("verb", ["catalog", "sql", "verify"])
def test_a_lake_that_is_not_there_is_an_error(verb: str, tmp_path: Path) -> None:
    done = assay(verb, tmp_path / "none", *(["select 1"] if verb == "sql" else []))
    assert done.exit_code == 2, done.output
    assert "no lake" in done.stderr


# `assay`, held at its second receipt for a minute: there a signal finds it, on a quick machine too.
_HELD = """
import time
from jobs.cli import main
from operators.storage import Storage

write, receipts = Storage.write, []

def held(self, path, data):
    if path.startswith("documents/"):
        receipts.append(path)
        if len(receipts) == 2:
            time.sleep(60)
    write(self, path, data)

Storage.write = held
main()
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_lake_that_resumes(model_folder: Path, tmp_path: Path) -> None:
    """A real process, a real SIGINT while it scores."""
    corpus = tmp_path / "long.jsonl"
    line = json.dumps({"text": "def f(x): return x + 1\n" * 300})
    corpus.write_text((line + "\n") * 60, encoding="utf-8")
    flags = ["score", "--model", str(model_folder), "--input", str(corpus), "--lake", str(tmp_path / "lake"),
             "--run-id", "r", "--engine", "inline"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", _HELD, *flags], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("lake/documents/*/*.parquet")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command again to resume" in stderr
    assert "Traceback" not in stderr
    command = [sys.executable, "-m", "jobs.cli", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming run r" in done.stderr
    assert "60 documents" in done.stdout
    assert assay("verify", tmp_path / "lake").exit_code == 0
