"""Logs: lines for people and for machines, without credentials and control characters; warnings that travel."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import runs
from typer.testing import CliRunner

from jobs.cli import app
from operators.lake import Lake
from pipelines import logs
from pipelines.config import ConfigError
from pipelines.logs import LogOptions, Sayer, carry, configure_logs, configure_worker, log_place

log = logging.getLogger("pipelines.under_test")
BLOCK = pa.table({"x": [1]})


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process of its own: the root logger has no handler, and what is set up here goes."""
    monkeypatch.delenv(logs.FORMAT_VARIABLE, raising=False)
    root = logging.getLogger()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before, levels = root.handlers[:], {name: logging.getLogger(name).level for name in logs._OURS}
    root.handlers[:] = []
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def bare() -> None:
    """Without pytest's own handlers, which come back for every phase of a test."""
    logging.getLogger().handlers[:] = []


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_of_json_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("monday", format="json")
    with log_place(unit=3, block=1, file="s3://b/a.jsonl"):
        log.info("%d done", 7)
    log.warning("later")
    first, second = lines(capsys)
    assert first["time"].endswith("+00:00")
    assert {key: first[key] for key in ("level", "logger", "message", "run", "unit", "block", "file")} == {
        "level": "info", "logger": "pipelines.under_test", "message": "7 done", "run": "monday", "unit": 3, "block": 1,
        "file": "s3://b/a.jsonl",
    }  # fmt: skip
    assert isinstance(first["pid"], int)
    assert "unit" not in second


def test_an_exception_is_one_field_and_nothing_ends_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(format="json")
    try:
        raise ValueError("two\nlines \x1b[31m")
    except ValueError:
        log.exception("bad name %s", "a\x1b]0;b\x07\u2028c\nd")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.isascii()
    assert "\x1b" not in text
    found = json.loads(text)
    assert found["message"] == "bad name a\x1b]0;b\x07\u2028c\nd"
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("ValueError: two\nlines \x1b[31m")


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_holds_a_credential(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    configure_logs(format=form)
    with log_place(file="s3://me:hunter22@bucket/x"):
        log.warning("request wJalrXUtnFEMI to %s failed", "https://h/?X-Amz-Signature=abcdef1234")
    said = capsys.readouterr().err
    assert "***" in said
    assert not any(secret in said for secret in ("wJalrXUtnFEMI", "hunter22", "abcdef1234"))


def test_lines_for_people_are_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    bare()
    configure_logs()
    log.info("not said")
    log.warning("bell \x07 of %s", "x")
    assert capsys.readouterr().err == "WARNING: bell \\x07 of x\n"


def test_the_environment_chooses_and_a_wrong_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    assert configure_logs("a").format == "json"
    assert configure_logs("a", format="text").format == "text"
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "xml")
    with pytest.raises(ConfigError, match="ASSAY_LOG_FORMAT is 'xml': choose text or json"):
        configure_logs("a")


def test_setting_up_again_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("a", "a", "b"):
        configure_logs(run, format="json")
    log.warning("once")
    (line,) = lines(capsys)
    assert line["run"] == "b"


def test_handlers_of_a_program_around_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    configure_logs()
    log.warning("the program around decides")
    assert capsys.readouterr().err == ""


def test_libraries_are_heard_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(format="json")
    logging.getLogger("botocore").info("every request")
    logging.getLogger("botocore").warning("slow down")
    assert [line["message"] for line in lines(capsys)] == ["slow down"]


def strictly(text: str) -> dict[str, Any]:
    """A line as a reader that knows JSON and no more has it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_numbers_that_json_has_not_and_values_of_other_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(format="json")
    files = [Path("/a"), "s3://me:hunter22@bucket/x"]
    fields = {"left": math.inf, "done": math.nan, "files": files, "seen": {"s3://me:hunter22@bucket": 1}}
    log.warning("odd", extra={"assay": fields})
    said = capsys.readouterr().err
    assert "hunter22" not in said
    found = strictly(said)
    assert (found["left"], found["done"]) == ("inf", "nan")
    assert found["files"] == ["/a", "s3://***@bucket/x"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_arguments_that_do_not_fit_lose_no_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    bare()
    configure_logs(format=form)
    log.warning("%d of %s", "many")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "%d of %s ('many',)" in said


def test_a_line_break_in_a_name_makes_no_line_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    bare()
    configure_logs()
    log.warning("cannot read %s", "a\nERROR: all is lost\r\nb")
    assert capsys.readouterr().err.splitlines() == ["WARNING: cannot read a", "  ERROR: all is lost\\r", "  b"]


def test_what_ends_a_process_and_what_python_warns_of_are_lines_too() -> None:
    program = (
        "import warnings; from pipelines.logs import configure_logs; configure_logs('r', format='json');"
        "warnings.warn('old\\nstyle'); raise KeyError('two\\nlines')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    warned, fatal = (strictly(line) for line in ended.stderr.splitlines())
    assert ended.returncode == 1
    assert "UserWarning: old\nstyle" in warned["message"]
    assert (fatal["level"], fatal["run"], fatal["message"]) == ("critical", "r", "KeyError: 'two\\nlines'")
    assert fatal["exception"].endswith("KeyError: 'two\\nlines'")


def test_the_error_that_ends_a_command_is_a_line_too(tmp_path: Path) -> None:
    bare()
    environment = {logs.FORMAT_VARIABLE: "json"}
    ended = CliRunner().invoke(app, ["status", str(tmp_path / "a\nb")], env=environment)
    found = strictly(ended.output)
    assert ended.exit_code == 2
    assert (found["level"], found["message"].splitlines()[0]) == ("error", f"no lake at {tmp_path}/a")


def test_what_a_look_warns_of_is_a_line_too(tmp_path: Path) -> None:
    bare()
    lake = Lake(str(tmp_path))
    lake.write_run("r", {"state": "failed"})
    lake.storage.write("progress/run_id=r/journal-00000001.parquet", b"torn")
    looked = CliRunner().invoke(app, ["status", str(tmp_path)], env={logs.FORMAT_VARIABLE: "json"})
    assert looked.exit_code == 0
    assert strictly(looked.stderr)["message"].endswith("is damaged: what it recorded is done again")


# Warnings that travel with blocks


def test_warnings_travel_with_the_next_block_and_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bare()
    configure_worker(LogOptions("run"))
    with log_place(unit=5):
        log.warning("batches of %d tokens", 8)
    first, second = carry(BLOCK), carry(BLOCK)
    assert first.schema.metadata
    assert not second.schema.metadata
    logging.getLogger().addHandler(caplog.handler)
    say = Sayer()
    for _ in range(3):
        say(first)
    assert [(r.getMessage(), r.name, r.assay["unit"]) for r in caplog.records] == [
        ("batches of 8 tokens", "pipelines.under_test", 5)
    ]


def test_a_block_keeps_what_earlier_steps_gave_it() -> None:
    configure_worker(LogOptions("run"))
    log.warning("one")
    block = carry(BLOCK.replace_schema_metadata({b"assay.block": b"[]"}))
    log.warning("two")
    both = carry(block)
    assert [entry["message"] for entry in json.loads(both.schema.metadata[logs.LOG_METADATA])] == ["one", "two"]
    assert both.schema.metadata[b"assay.block"] == b"[]"


def test_what_a_warning_carries_is_json_without_credentials() -> None:
    configure_worker(LogOptions("run"))
    with log_place(file=Path("/a"), source="s3://me:hunter22@bucket/x"):
        log.warning("cannot read s3://me:hunter22@bucket")
    (entry,) = json.loads(carry(BLOCK).schema.metadata[logs.LOG_METADATA])
    assert "hunter22" not in str(entry)
    assert entry["fields"]["file"] == "/a"


def test_a_warning_that_cannot_be_kept_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Ray goes away while a worker warns."""

    def gone() -> None:
        raise RuntimeError("the cluster has gone")

    bare()
    configure_worker(LogOptions("run"))
    monkeypatch.setattr(logs, "whereabouts", gone)
    log.warning("still at work")
    assert not carry(BLOCK).schema.metadata


def test_a_flood_of_warnings_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    bare()
    configure_worker(LogOptions("run"))
    for i in range(1000):
        log.warning("warning %d", i)
    logging.getLogger().addHandler(caplog.handler)
    say = Sayer()
    say(carry(BLOCK))
    assert len(caplog.records) == logs.MOST_ALIKE
    logging.getLogger().removeHandler(caplog.handler)
    for i in range(1000):
        log.warning("warning %d", i)
    assert len(json.loads(carry(BLOCK).schema.metadata[logs.LOG_METADATA])) == logs.MOST_HELD


@pytest.mark.usefixtures("no_catalog")
def test_an_inline_run_names_run_block_and_file(
    model_folder: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    configure_logs()
    runs.run(model_folder, corpus, tmp_path / "lake", "monday")
    found = lines(capsys)  # every line is one
    (progress,) = [line for line in found if line["logger"] == "pipelines.progress"]
    assert (progress["documents"], progress["rejects"]) == (30, 0)
    (done,) = [line for line in found if line["message"] == "block done"]
    assert (done["run"], done["unit"], done["block"], done["file"]) == ("monday", 0, 0, str(corpus))
    assert done["rows"] == 30
    assert done["seconds"] > 0
