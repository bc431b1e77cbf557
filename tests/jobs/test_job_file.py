"""Job files: every fault at once, and no value mistaken for another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import job_files
import pytest
from job_files import SCORE, faults

from jobs.job_file import JobFile, read_fields, words
from jobs.job_file.document import parse, typed
from pipelines.config import ConfigError


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., JobFile]:
    """Reads a text as a job file."""
    return partial(job_files.read, tmp_path)


def test_every_fault_of_a_file_is_said_at_once(read: Any) -> None:
    text = """
modle: m
input: [c.jsonl]
lake: lake
run_id: a/b
context: many
stride: 5000
actors: 0
engine: rya
format: [text, jsonl]
label_column: x
label_column: y
submit: {adress: "http://head:8265", env: {API_TOKEN: abc}}
transform: lowercase
"""
    said = faults(read, text)
    assert len(said) == 11
    for begins in (
        "line 12: label_column is given already in line 11",
        "modle: is not a field of `assay score`; the nearest is model",
        "model: is needed",
        "run_id: ",
        "context: expected a whole number, found 'many'",
        "actors: ",
        "engine: choose from ray, inline, not 'rya'; the nearest is ray",
        "format: expected text, found a list",
        "submit.adress: is not a field of submit; the nearest is address",
        "submit.env: API_TOKEN",
        "base_run: is needed with --transform",
    ):
        assert any(line.startswith(begins) for line in said), (begins, said)


def test_faults_between_fields_are_found_beside_those_of_fields(read: Any) -> None:
    said = faults(read, SCORE + "context: 8\nstride: 9\nactors: 0\nlanguage: python\nlanguage_column: lang\n")
    assert sorted(line.partition(":")[0] for line in said) == ["actors", "language_column", "stride"]


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ("run_id: 2026-11-20", "run_id", "2026-11-20"),  # a date to YAML
        ("run_id: 20261120", "run_id", "20261120"),
        ("run_id: 007", "run_id", "007"),  # octal
        ("run_id: 12:30:00", "run_id", None),  # a number to the base of 60; and no run id
        ("text_column: no", "text_column", "no"),  # false
        ("text_column: on", "text_column", "on"),
        ("label_column: 1.10", "label_column", "1.10"),
        ("label_column: 'null'", "label_column", "'null'"),
        ("label_column: null", "label_column", None),
        ("label_column:", "label_column", None),
        ("drop_text: yes", "drop_text", True),
        ("drop_text: 'off'", "drop_text", False),
        ("limit: '5'", "limit", 5),
        ("max_rejects: 1%", "max_rejects", "1%"),
        ("gpus_per_actor: .5", "gpus_per_actor", 0.5),
        ("id-column: id", "id_column", "id"),
        ("storage_options: {s3: {anon: true, retries: 3}}", "storage_options", {"s3": {"anon": True, "retries": 3}}),
    ],
)
def test_a_value_means_what_its_field_holds(read: Any, written: str, name: str, expected: Any) -> None:
    text = "\n".join(line for line in SCORE.splitlines() if not line.startswith(f"{name}:")) + f"\n{written}\n"
    if name == "run_id" and expected is None:
        assert any(line.startswith("run_id: ") for line in faults(read, text))
        return
    found = read(text).fields.get(name)
    assert found == (expected.strip("'") if isinstance(expected, str) else expected)
    assert type(found) is type(expected)


def test_values_of_sections_keep_their_spelling(read: Any) -> None:
    submit = read(SCORE + "submit: {env: {VERSION: 1.10, ZIP: 007}, entrypoint_num_cpus: 2, metadata: }").submit
    assert submit.env == {"VERSION": "1.10", "ZIP": "007"}
    assert submit.entrypoint_num_cpus == 2


def test_a_number_of_a_section_is_no_fault_and_changes_no_other_value(read: Any) -> None:
    """1e9 is text that no whole number is read from: it is typed by itself."""
    submit = read(SCORE + "submit: {entrypoint_memory: 1e9, env: {VERSION: 1.10}, metadata: {n: 007}}").submit
    assert (submit.entrypoint_memory, submit.env, submit.metadata) == (10**9, {"VERSION": "1.10"}, {"n": "007"})
    assert faults(read, SCORE + "submit: {entrypoint_memory: 1e9, adress: x}") == [
        "submit.adress: is not a field of submit; the nearest is address"
    ]


@pytest.mark.parametrize("number", ["1e999", "9" * 390, "-1e999", ".inf", "nan"])
def test_a_number_that_is_none_here_is_refused(read: Any, number: str) -> None:
    for name in ("gpus_per_actor", "limit"):
        (said,) = faults(read, SCORE + f"{name}: {number}\n")
        assert said.startswith(f"{name}: expected a ")


def test_sections_are_read_as_strictly_as_fields(read: Any) -> None:
    nightly = "model: m\ninput: c/\nlake: lake\nnightly:\n  name: web\n"
    assert faults(read, SCORE + "submit: {entrypoint-num-cpus: 1, entrypoint_num_cpus: 2}\n") == [
        "submit.entrypoint_num_cpus: is given twice, with - and with _"
    ]
    assert faults(read, nightly + "  retention: {nihgts: 3}\n") == [
        "nightly.retention.nights: is needed",
        "nightly.retention.nihgts: is not a field of nightly.retention; the nearest is nights",
    ]
    assert faults(read, nightly + "  retention: 30\n  weekdays: mon\nsubmit: {env: A=1, pip: torch}") == [
        "submit.env: expected names and their values",
        "submit.pip: expected a list",
        "nightly.weekdays: expected a list",
        "nightly.retention: expected fields of its own",
    ]
    (said,) = faults(read, nightly + "  benchmarks: [{name: a, input: ['s3://k:hunter2hunter2@b/x']}]\n")[:1]
    assert said.startswith("nightly.benchmarks[0].input[0]: the URI holds credentials")
    assert "hunter2" not in said


def test_settings_take_the_place_of_what_the_file_says(read: Any) -> None:
    job = read(SCORE, "run-id=2026-01-02", "limit=7", "input=[a, b]", "submit.address=http://head:8265", "model=m2")
    assert job.fields == {"model": "m2", "input": ["a", "b"], "lake": "lake", "run_id": "2026-01-02", "limit": 7}
    assert job.submit.address == "http://head:8265"
    said = faults(read, SCORE, "limit=x", "nonsense", "submit.adress=y", "context")
    assert sorted(line.partition(":")[0] for line in said) == [
        "--set context",
        "--set nonsense",
        "limit",
        "submit.adress",
    ]


def test_settings_of_a_section_are_the_same_field_however_it_is_spelt(read: Any) -> None:
    text = SCORE + "submit: {entrypoint-num-cpus: 1}\n"
    for setting in ("submit.entrypoint_num_cpus=2", "submit.entrypoint-num-cpus=2"):
        assert read(text, setting).submit.entrypoint_num_cpus == 2
    assert read(SCORE + "submit:\n", "submit.code=image").submit.code == "image"
    (said,) = faults(read, SCORE + "submit: [1]\n", "submit.code=image")
    assert said.startswith("submit: expected fields such as")


def test_a_job_of_a_base_run_is_judged_by_what_it_says_itself(read: Any) -> None:
    job = read("lake: lake\nrun_id: b\nbase_run: a\ntransform: {name: perturb, kind: swap_words}\n")
    assert "--transform=perturb:kind=swap_words" in words(job)
    assert job.fields["base_run"] == "a"
    assert faults(read, "run_id: b\nbase_run: b\ntransform: lowercase\n") == [
        "lake: is needed",
        "run_id: a transformed run needs a name of its own, not that of its base run b",
    ]


def test_copies_belong_to_a_job(read: Any) -> None:
    text = "lake: lake\nrun_id: b\nbase_run: a\ntransform: perturb:kind=swap_words\ncopies: 3\n"
    assert read(text).fields["copies"] == 3
    assert faults(read, text.replace("perturb:kind=swap_words", "lowercase"))[0].startswith(("copies: ", "transform: "))


def test_storage_options_in_a_file_elsewhere_are_not_opened(read: Any) -> None:
    assert read(SCORE + "storage_options: /nowhere/options.yaml\n").fields["storage_options"] == "/nowhere/options.yaml"


def test_a_nightly_job_is_one_without_a_run(read: Any) -> None:
    nightly = "model: m\ninput: c/\nlake: lake\nnightly: {name: web}\n"
    job = read(nightly)
    assert job.verb == ("nightly",)
    assert job.of_a_night() == {"model": "m", "input": "c/", "lake": "lake"}
    assert words(job) == ["nightly", str(job.path)]
    assert read(nightly + "verb: score\nrun_id: once\noverwrite: once\n").of_a_night() == job.of_a_night()
    assert faults(read, nightly + "run_id: x\n")[0].startswith("run_id: is not a field of `assay nightly`")
    assert faults(read, nightly.replace("{name: web}", "{nam: web}")) == [
        "nightly.name: is needed",
        "nightly.nam: is not a field of nightly; the nearest is name",
    ]
    with pytest.raises(ConfigError, match="nightly: is needed"):
        read(SCORE).of_a_night()
    with pytest.raises(ConfigError, match="every night is scored"):
        read("verb: evaluate\nlake: lake\nrun_id: r\nnightly: {name: web}\n").of_a_night()


def test_config_reads_the_fields_alone(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("lake: lake\nsubmit: {nonsense: 1}\nnightly: 5\ncontext: 64\n")
    assert read_fields(path, ("nightly",)) == {"lake": "lake", "context": 64}
    path.write_text("lake: lake\nsubmit: {nonsense: 1}\nstorage_options: {s3: {secret: abcd}}\n")
    assert read_fields(path, ("score",))["storage_options"] == {"s3": {"secret": "abcd"}}
    path.write_text("lake: lake\nnightly: {name: web}\n")
    assert read_fields(path, ("score",)) == {"lake": "lake"}
    for verb in ("evaluate", "nightly"):
        path.write_text(f"verb: {verb}\nlake: lake\n")
        with pytest.raises(ConfigError, match=f"it is a job of `assay {verb}`"):
            read_fields(path, ("score",))


def test_typed_values_are_those_of_json() -> None:
    value, _ = parse("{a: [1, -2.5, 1e3, true, null, ~, 2026-11-20, 'x', \"1\", 0x1f, 1_000]}")
    assert typed(value) == {"a": [1, -2.5, 1000.0, True, None, None, "2026-11-20", "x", "1", "0x1f", "1_000"]}
