"""Job files of strangers: nothing of them is obeyed, repeated where it may be a secret, or read without a bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import job_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_files import SCORE, faults

from jobs.job_file import JobFile, document, read_fields, read_job_file, scoring, words
from jobs.job_file.document import MAX_BYTES
from jobs.job_file.read import MOST_LINES
from jobs.job_file.verbs import known_verbs
from pipelines.config import ConfigError


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., JobFile]:
    """Reads a text as a job file."""
    return partial(job_files.read, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b"a: \x00",
        "a: [",
        "a: 'b",
        "[1, 2]",
        "",
        "- a\n",
        "just text",
        "a: 1\n---\nb: 2\n",
        "a: &x [1]\nb: *x\n",
        "model: !!python/object/apply:os.system [echo]",
        "? [a, b]\n: c\n",
        "a: " + "[" * 5000,
        "a: " + "{b: " * 5000,
        "a: " + "x" * (MAX_BYTES + 1),
        "submit: [1]",
        "nightly: 5",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_hostile_files_are_refused_in_one_clear_message(read: Any, text: str | bytes) -> None:
    said = faults(read, text)
    assert said
    assert all(len(line) < 400 for line in said)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode),
                 st.lists(st.sampled_from([b"a", b": ", b"\n", b"- ", b"[", b"]", b"{", b"}", b"&x ", b"*x", b"!!int ",
                                           b"'", b'"', b"  ", b"null", b"? ", b"verb", b"model", b"submit", b"nightly",
                                           b"1e9999", b"|", b">"]), max_size=30).map(b"".join)))  # fmt: skip
def test_no_file_is_a_defect(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text)
    try:
        job = read_job_file(path)
    except ConfigError:
        return
    assert words(job)[0] in {verb[0] for verb in known_verbs()}


def test_a_file_of_many_values_is_not_read_on(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_VALUES", 100)
    assert read(SCORE + "keep_columns: [" + "x, " * 80 + "]").fields["keep_columns"] == ["x"] * 80
    assert faults(read, SCORE + "keep_columns: [" + "x, " * 100 + "]") == [
        "line 5: more than 100 values, which no job file has"
    ]


def test_a_message_is_as_long_as_can_be_read(read: Any, tmp_path: Path) -> None:
    many = SCORE + "".join(f"field_{i}: 1\n" for i in range(2 * MOST_LINES))
    said = faults(read, many)
    assert len(said) == MOST_LINES + 1
    assert said[-1] == f"... and {MOST_LINES:,} more"
    with pytest.raises(ConfigError) as error:
        read_fields(tmp_path / "job.yaml", ("score",))
    assert len(str(error.value).splitlines()) == MOST_LINES + 1
    (one,) = faults(read, SCORE + f"? {'k' * 100_000}\n: 1\n")
    assert len(one) < 1100
    assert faults(read, SCORE + '"a\\nb": 1\n') == ["a b: is not a field of `assay score`"]


def test_no_text_holds_a_nul(read: Any) -> None:
    said = faults(read, SCORE.replace("lake: lake", 'lake: "a\\0b"').replace("c.jsonl", '["a\\0b"]'))
    assert set(said) == {
        "lake: holds a NUL character, which no name or text may",
        "input[0]: holds a NUL character, which no name or text may",
    }


def test_bombs_cost_nothing(read: Any) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
    )
    assert "anchors and aliases" in faults(read, bomb)[0]


@pytest.mark.parametrize(
    "line",
    [
        "lake: s3://someone:hunter2hunter2@bucket/lake",
        "storage_options: {s3: {secret: hunter2hunter2}}",
        "keep_columns: ['https://x/?sig=hunter2hunter2']",
        "hf_token: hunter2hunter2",
        "context: [hunter2hunter2hunter2hunter2]",
        "model: {hunter2hunter2: hunter2hunter2}\n",
        "'model': hunter2hunter2\n\t: [",
    ],
)
def test_no_message_repeats_a_secret(read: Any, line: str) -> None:
    text = "\n".join(each for each in SCORE.splitlines() if not line.startswith(each.partition(":")[0])) + f"\n{line}\n"
    said = faults(read, text)
    assert "hunter2" not in "\n".join(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("transform: {a: {b: c}}", "transform: no transform ''"),
        ("transform: {name: perturb, kind: [a, b]}", "transform: kind="),
        ("transform: [lowercase]", "transform: expected text, found a list"),
        ("storage_options: '{bad'", "storage_options: not JSON or YAML"),
        ('storage_options: \'{"s3": {"secret": "hunter2hunter2"}}\'', "storage_options: --storage-options holds"),
        ("max_rejects: -1", "max_rejects: '-1': give a count"),
        ("features: 5", "features: unknown 5"),
        ("input: []", "input: Tuple should have at least 1 item"),
    ],
)
def test_one_fault_is_one_line(read: Any, line: str, said: str) -> None:
    transform = "" if line.startswith("transform") else "transform: lowercase\n"
    (found,) = faults(read, f"lake: lake\nrun_id: b\nbase_run: a\n{transform}{line}\n")
    assert found.startswith(said)
    assert "hunter2" not in found


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["any", scoring._ANY["run_id"]])
def test_the_search_for_faults_ends_where_what_stands_for_a_field_is_at_fault_too(read: Any, name: str) -> None:
    text = f"model: m\ninput: c\nlake: lake\nrun_id: {name}\nid_column: id\ntransform: lowercase\nbase_run: {name}\n"
    assert [line.partition(":")[0] for line in faults(read, text)] == ["run_id"]
