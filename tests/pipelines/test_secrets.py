"""Secrets by reference: looked up whole or not at all, kept by reference alone, and taken out of what is printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators.storage.credentials import redact
from pipelines.config import ConfigError
from pipelines.secrets import (
    LARGEST,
    REFERENCES,
    _works,
    check_reference,
    check_variable,
    for_workers,
    missing_here,
    take,
    take_in_worker,
)

VALUE = "hunter-two-and-a-half"


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test sets is gone after it."""
    before = dict(os.environ)
    os.environ.pop(REFERENCES, None)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_driver_and_workers_find_what_the_references_lead_to(tmp_path: Path) -> None:
    os.environ["OTHER"] = VALUE
    (tmp_path / "key").write_bytes(b"line one\nline two\r\n")
    references = {"MINE": "env:OTHER", "KEY": f"file:{tmp_path / 'key'}"}
    take(references)
    assert (os.environ["MINE"], os.environ["KEY"]) == (VALUE, "line one\nline two")
    told = for_workers()
    assert VALUE not in json.dumps(told)
    assert told["worker_process_setup_hook"] == "pipelines.secrets.take_in_worker"
    # A worker has its node's environment and what Ray was told.
    for name in references:
        del os.environ[name]
    os.environ.update(told["env_vars"])
    take_in_worker()
    assert os.environ["MINE"] == VALUE
    assert missing_here() == []


def test_without_references_nothing_is_told() -> None:
    take({})
    assert for_workers() == {}
    assert REFERENCES not in os.environ
    take_in_worker()


def test_every_missing_reference_is_named_and_nothing_set(tmp_path: Path) -> None:
    os.environ["THERE"] = VALUE
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "zero").write_bytes(b"a\0b")
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    (tmp_path / "empty").write_bytes(b"\n")
    os.environ["NOTHING"] = ""
    references = {
        "A": "env:THERE",
        "B": "env:NOT_THERE",
        "C": f"file:{tmp_path / 'nothing'}",
        "D": f"file:{tmp_path}",
        "E": f"file:{tmp_path / 'binary'}",
        "F": f"file:{tmp_path / 'zero'}",
        "G": f"file:{tmp_path / 'large'}",
        "H": f"file:{tmp_path / 'empty'}",
        "I": "env:NOTHING",
    }
    with pytest.raises(ConfigError) as error:
        take(references)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"submit.secrets.{name}" for name in "BCDEFGHI"]
    assert "NOT_THERE is not set in the environment of" in lines[0]
    assert "A" not in os.environ
    assert REFERENCES not in os.environ


def test_a_worker_without_the_value_says_so_where_it_is_asked() -> None:
    os.environ[REFERENCES] = json.dumps({"A": "env:NOT_THERE"})
    take_in_worker()
    assert "A" not in os.environ
    assert [line.split(":")[0] for line in missing_here()] == ["submit.secrets.A"]


def test_no_job_sets_what_the_references_are_kept_in() -> None:
    with pytest.raises(ValueError, match="set by Assay itself"):
        check_variable(REFERENCES)


@pytest.mark.parametrize(("resources", "works"), [({"CPU": 2.0}, True), ({"GPU": 8.0}, True), ({"memory": 1.0}, False)])
def test_the_nodes_that_are_asked_are_those_that_work(resources: dict[str, float], works: bool) -> None:
    assert _works(resources) is works


@pytest.mark.parametrize("reference", [VALUE, "env:", "env:A B", "file:relative", "file:", "vault:x", "", "env:A=1"])
def test_what_is_no_reference_is_refused_without_being_quoted(reference: str) -> None:
    with pytest.raises(ValueError, match="expected env:NAME or file:/path") as error:
        check_reference("NAME_OF_IT", reference)
    assert not reference or reference not in str(error.value).replace("env:NAME or file:/path", "")


def test_values_of_a_job_are_taken_out_of_messages_whatever_they_are_called() -> None:
    os.environ["OTHER"] = VALUE + "\nsecond-line-of-it"
    assert VALUE in redact(f"failed with {VALUE}")
    take({"PLAIN_NAME": "env:OTHER"})
    del os.environ["OTHER"]
    assert redact(f"failed with {VALUE} and second-line-of-it") == "failed with *** and ***"
    os.environ[REFERENCES] = "not JSON"
    assert redact("as it was") == "as it was"
