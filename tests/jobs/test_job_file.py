"""Job files: every fault at once, no value mistaken for another, nothing of a hostile file obeyed or repeated."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.cli import app
from jobs.job_file import JobFile, document, job_verbs, read_fields, read_job_file, scoring, words
from jobs.job_file.document import MAX_BYTES, parse, typed
from jobs.job_file.fields import typed_fields
from jobs.job_file.read import MOST_LINES
from jobs.job_file.verbs import fields_of, known_verbs
from pipelines.config import ConfigError, ScoreConfig

SCORE = "model: m\ninput: c.jsonl\nlake: lake\nrun_id: monday\n"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads a text as a job file."""

    def read(text: str | bytes, *settings: str) -> JobFile:
        path = tmp_path / "job.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_job_file(path, settings)

    return read


def faults(read: Any, text: str | bytes, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(text, *settings)
    return [line.strip() for line in str(error.value).splitlines()[1:]] or [str(error.value)]


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


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["any", scoring._ANY["run_id"]])
def test_the_search_for_faults_ends_where_what_stands_for_a_field_is_at_fault_too(read: Any, name: str) -> None:
    text = f"model: m\ninput: c\nlake: lake\nrun_id: {name}\nid_column: id\ntransform: lowercase\nbase_run: {name}\n"
    assert [line.partition(":")[0] for line in faults(read, text)] == ["run_id"]


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


def test_sections_are_read_as_strictly_as_fields(read: Any) -> None:
    nightly = "model: m\ninput: c/\nlake: lake\nnightly:\n  name: web\n"
    assert faults(read, SCORE + "submit: {entrypoint-num-cpus: 1, entrypoint_num_cpus: 2}\n") == [
        "submit.entrypoint_num_cpus: is given twice, with - and with _"
    ]
    assert faults(read, nightly + "  retention: {nihgts: 3}\n") == [
        "nightly.retention.nights: is needed",
        "nightly.retention.nihgts: is not a field of nightly.retention; the nearest is nights",
    ]
    (said,) = faults(read, nightly + "  benchmarks: [{name: a, input: ['s3://k:hunter2hunter2@b/x']}]\n")[:1]
    assert said.startswith("nightly.benchmarks[0].input[0]: the URI holds credentials")
    assert "hunter2" not in said


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


@functools.cache
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


def test_a_job_of_a_base_run_is_judged_by_what_it_says_itself(read: Any) -> None:
    job = read("lake: lake\nrun_id: b\nbase_run: a\ntransform: {name: perturb, kind: swap_words}\n")
    assert "--transform=perturb:kind=swap_words" in words(job)
    assert job.fields["base_run"] == "a"
    assert faults(read, "run_id: b\nbase_run: b\ntransform: lowercase\n") == [
        "lake: is needed",
        "run_id: a transformed run needs a name of its own, not that of its base run b",
    ]


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


def test_every_field_of_scoring_is_one_of_its_config() -> None:
    assert fields_of(("score",)).keys() - {"copies"} == ScoreConfig.model_fields.keys()


def test_typed_values_are_those_of_json() -> None:
    value, _ = parse("{a: [1, -2.5, 1e3, true, null, ~, 2026-11-20, 'x', \"1\", 0x1f, 1_000]}")
    assert typed(value) == {"a": [1, -2.5, 1000.0, True, None, None, "2026-11-20", "x", "1", "0x1f", "1_000"]}
