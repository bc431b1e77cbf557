"""Verbs of job files: which there are, their fields, and the command line that a file stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import job_files
import pytest
import typer
from job_files import faults

from jobs.cli import app
from jobs.job_file import JobFile, job_verbs, words
from jobs.job_file.document import parse
from jobs.job_file.fields import typed_fields
from jobs.job_file.verbs import fields_of
from pipelines.config import ScoreConfig


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., JobFile]:
    """Reads a text as a job file."""
    return partial(job_files.read, tmp_path)


def test_another_verb_has_its_own_fields(read: Any) -> None:
    job = read("verb: mixture fit\nlake: lake\nrun_id: [small, large]\nvocabulary: no\nconfidence: 0.9\n")
    assert job.verb == ("mixture", "fit")
    assert words(job) == [
        "mixture", "fit", "--run-id=small", "--run-id=large", "--no-vocabulary", "--confidence=0.9", "--", "lake"
    ]  # fmt: skip
    assert faults(read, "verb: mixture fit\nconfidence: high\nrun: x\n") == [
        "confidence: expected a number, found 'high'",
        "run: is not a field of `assay mixture fit`; the nearest is run_id",
        "lake: is needed by `assay mixture fit`",
        "run_id: is needed by `assay mixture fit`",
    ]


@pytest.mark.parametrize("verb", ["sql", "check", "run", "submit", "job stop", "detector show", "status"])
def test_verbs_that_do_no_work_are_no_jobs(read: Any, verb: str) -> None:
    (said, *_) = faults(read, f"verb: {verb}\n")
    assert said.startswith(f"verb: {verb} cannot be a job: ")
    assert "score, scores, frequencies" in said


def test_a_mistyped_verb_is_named_with_the_nearest(read: Any) -> None:
    assert faults(read, "verb: evalute\n") == ["verb: there is no verb 'evalute'; the nearest is evaluate"]
    assert faults(read, "verb: [score]\n")[0].startswith("verb: expected a verb such as score")


def _value(field: Any) -> str:
    """Something that a field holds, as hostile as it may be."""
    if field.choices:
        return str(field.choices[-1])
    if field.kind is str:
        return '"--overwrite=x; $(y) \\u00e9"'
    low = field.minimum or 0
    middle = (low + (low + 1 if field.maximum is None else field.maximum)) / 2
    return {bool: "true", int: str(int(low or 7)), float: str(middle)}[field.kind]


@cache
def command_line() -> Any:
    return typer.main.get_command(app)


def _called(line: list[str]) -> dict[str, Any]:
    """What a verb's function is called with for a command line, as typer reads it."""
    command = command_line()
    context = command.make_context("assay", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        command, name = command.commands[line[0]], line[0]
        line = line[1:]
    found = command.make_context(name, list(line), parent=context).params
    flags = {
        p.name: next((o[2:].replace("-", "_") for o in p.opts if o.startswith("--")), p.name) for p in command.params
    }
    return {flags.get(name, name): value for name, value in found.items()}


@pytest.mark.parametrize("verb", [verb for verb in job_verbs() if verb != ("nightly",)], ids=" ".join)
def test_every_field_of_every_verb_reaches_it_as_the_file_says(tmp_path: Path, verb: tuple[str, ...]) -> None:
    known = fields_of(verb)
    given = {name: _value(field) for name, field in known.items()}
    lines = [
        f"{name}: [{value}, {value}]" if known[name].repeatable else f"{name}: {value}" for name, value in given.items()
    ]
    value, wrong = parse("\n".join(lines))
    assert not wrong
    fields, wrong = typed_fields(verb, value, known)
    assert not wrong
    assert fields.keys() == known.keys()
    called = _called(words(JobFile(tmp_path, verb, fields, submit=None)))  # type: ignore[arg-type]
    for name, said in fields.items():
        found = called[name]
        found = [_plain(each) for each in found] if isinstance(found, list | tuple) else _plain(found)
        if name.endswith(("_template", "separator")):
            assert found == said.replace("\\", "\\\\")
        else:
            assert found == said, name


def _plain(value: Any) -> Any:
    return getattr(value, "value", value) if not isinstance(value, Path) else str(value)


@pytest.mark.parametrize("verb", job_verbs(), ids=" ".join)
def test_no_flag_has_more_states_than_a_file_can_say(verb: tuple[str, ...]) -> None:
    """A flag that may be given, denied or left out needs a word for no."""
    for field in fields_of(verb).values():
        if field.kind is bool and verb in (("score",), ("nightly",)):
            assert field.off is not None, field.name


def test_every_field_of_scoring_is_one_of_its_config() -> None:
    assert fields_of(("score",)).keys() - {"copies"} == ScoreConfig.model_fields.keys()
