"""Logs: lines for people and for machines, without credentials and control characters; warnings that travel."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import runs

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
    before, levels = root.handlers[:], {name: logging.getLogger(name).level for name in logs._OURS}
    root.handlers[:] = []
    yield
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
