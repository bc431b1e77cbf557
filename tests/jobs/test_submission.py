"""What is submitted: what a job file may ask for, which files go along, and what is sent for it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from output import unfolded
from submitted import submitted
from typer.testing import CliRunner

from jobs.cli import app
from jobs.job_file import job_verbs, read_job_file, words
from jobs.job_file.verbs import _commands, _parameters, fields_of
from jobs.submission import paths
from jobs.submission.options import SubmitOptions
from jobs.submission.run import check, send
from jobs.submission.staging import PACKAGES, staged
from pipelines.config import ConfigError

ROOT = Path(__file__).parents[2]
SCORE = {"model": "/models/m", "input": ["s3://b/c"], "lake": "s3://b/lake", "run_id": "monday"}
SECRET = "hunter-two-and-a-half"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a job file of scoring into the folder that is then the current one."""
    monkeypatch.chdir(tmp_path)

    def write(**more: Any) -> Path:
        fields = {name: value for name, value in (SCORE | more).items() if value is not None}
        Path("job.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
        return Path("job.yaml")

    return write


# What a file may ask for


def test_no_option_shows_a_secret() -> None:
    with pytest.raises(ValueError, match=r"(?s)env.*secrets.*pip.*metadata") as error:
        SubmitOptions.model_validate(
            {
                "env": {"AWS_SECRET_ACCESS_KEY": SECRET, "1x": "y"},
                "secrets": {"TOKEN": SECRET},
                "pip": [f"--index-url=https://me:{SECRET}@host/simple"],
                "metadata": {"password": SECRET},
                "address": f"https://me:{SECRET}@head:8265",
            }
        )
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("metadata", [{"assay_run_id": "x"}, {"assay_": "x"}])
def test_metadata_cannot_pass_for_ours(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="are set by assay submit"):
        SubmitOptions(metadata=metadata)


def test_a_faulty_file_is_refused_whole_before_any_address_is_asked(written: Callable[..., Path]) -> None:
    path = written(model=None, submit={"adress": "x", "env": {"MY_TOKEN": SECRET}}, contxt=3)
    result = CliRunner().invoke(app, ["submit", str(path)])
    said = unfolded(result.stderr)
    assert result.exit_code == 2
    for part in ("contxt: is not a field", "model: is needed", "submit.adress", "MY_TOKEN"):
        assert part in said
    assert SECRET not in said


# Local files


def test_small_files_go_along_and_other_local_paths_are_refused_at_once(written: Callable[..., Path]) -> None:
    Path("m").mkdir()
    Path("secret.yaml").write_text(f"key: k\nsecret: {SECRET}\n")
    path = written(
        model="m", input=["corpus/*.jsonl", "s3://b/c", "/shared/c"], lake="lake", storage_options="secret.yaml"
    )
    with pytest.raises(ConfigError) as error:
        check(path)
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert sorted(line.partition(":")[0] for line in lines) == ["input", "lake", "model", "storage_options"]
    assert "holds credentials (key, secret)" in str(error.value)
    assert SECRET not in str(error.value)


def test_settings_without_credentials_go_along(written: Callable[..., Path]) -> None:
    Path("deep").mkdir()
    Path("deep/options.yaml").write_text("anon: true\n")
    checked = check(written(storage_options="deep/options.yaml", model="org/name"))
    assert [(file.name, file.content) for file in checked.files] == [("deep/options.yaml", b"anon: true\n")]
    with staged(checked.job, checked.files) as folder:
        assert (folder.folder / "deep" / "options.yaml").read_bytes() == b"anon: true\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../options.yaml", "leads out"),
        ("nothing.yaml", "No such file"),
        ("link.yaml", "is a link"),
        (".", "directory"),
    ],
)
def test_a_file_that_cannot_go_along(written: Callable[..., Path], name: str, why: str) -> None:
    Path("link.yaml").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match=f"storage_options: .*{why}"):
        check(written(storage_options=name))


def test_a_large_file_does_not_go_along(written: Callable[..., Path]) -> None:
    with Path("large.yaml").open("wb") as file:
        file.truncate(paths.LARGEST + 1)
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        check(written(storage_options="large.yaml"))


def test_no_file_lies_over_the_code(written: Callable[..., Path]) -> None:
    Path("jobs").mkdir()
    Path("jobs/options.yaml").write_text("anon: true\n")
    checked = check(written(storage_options="jobs/options.yaml"))
    with pytest.raises(ConfigError, match="give it another name"), staged(checked.job, checked.files):
        pass


def test_every_flag_that_takes_a_path_is_sorted() -> None:
    sorted_ones = paths.SETTINGS | paths.TABLES | paths.STORED | paths.HUB_OR_STORED
    for verb in job_verbs():
        if verb == ("nightly",):
            continue
        for name, hint, _, _ in _parameters(_commands()[verb]):
            if "Path" in str(hint) and name != "config":
                named = {name, name.removesuffix("_file")} & fields_of(verb).keys()
                assert named <= sorted_ones, (verb, name)


def test_what_a_night_is_compared_with_is_where_the_cluster_sees_it(written: Callable[..., Path]) -> None:
    benchmarks = [{"name": "here", "input": ["mmlu/*.jsonl"]}, {"name": "there", "input": ["/shared/m", "s3://b/m"]}]
    with pytest.raises(ConfigError) as error:
        check(written(run_id=None, nightly={"name": "web", "benchmarks": benchmarks}))
    assert [line.strip().partition(": ")[0] for line in str(error.value).splitlines()[1:]] == [
        "nightly.benchmarks.here.input"
    ]


# What is sent

_GIVEN = {int: 7, float: 0.5, bool: True}


@pytest.mark.parametrize("verb", job_verbs(), ids=" ".join)
def test_every_verb_can_be_submitted(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Down to the command line that the uploaded file stands for, which is the one of the file here."""
    fields: dict[str, Any] = {"verb": " ".join(verb)}
    for name, field in fields_of(verb).items():
        if field.required or name == "lake":
            fields[name] = field.choices[0] if field.choices else _GIVEN.get(field.kind, "/shared/a")
    if verb == ("score",):
        fields = dict(SCORE)
    elif verb == ("nightly",):
        fields = {name: SCORE[name] for name in ("model", "input", "lake")} | {"nightly": {"name": "web"}}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(fields | {"submit": {"code": "image"}}))
    checked = check(path)
    assert checked.request.metadata["assay_verb"] == " ".join(verb)
    assert checked.request.next_id([]).startswith("-".join(verb))
    with staged(checked.job, checked.files) as folder:
        there = read_job_file(folder.folder / "job.yaml")
        assert [each.name for each in folder.folder.iterdir()] == ["job.yaml"]
    expected = words(checked.job)
    assert words(there) == (["nightly", str(there.path)] if verb == ("nightly",) else expected)


def test_the_code_that_is_uploaded_is_all_that_is_installed_and_runs(written: Callable[..., Path]) -> None:
    checked = check(written())
    with staged(checked.job, checked.files) as folder:
        there = {p.relative_to(folder.folder) for p in folder.folder.rglob("*") if p.is_file()}
        assert _in_a_wheel() | {Path("job.yaml")} <= there
        assert {path.parts[0] for path in there} == {*PACKAGES, "job.yaml"}
        assert not [path for path in there if "__pycache__" in path.parts]
        assert (folder.n_files, folder.n_bytes) == (
            len(there),
            sum((folder.folder / name).stat().st_size for name in there),
        )
        code = "import jobs.cli, operators; print(jobs.cli.__file__, operators.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder.folder, capture_output=True, text=True, timeout=60, check=True
        )
        assert all(name.startswith(str(folder.folder)) for name in done.stdout.split())


def _in_a_wheel() -> set[Path]:
    """The modules, and the files that are said to be package data: SQL and templates."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [(package, "**/*.py") for package in PACKAGES]
    patterns += [(package.replace(".", "/"), pattern) for package, named in data.items() for pattern in named]
    found = {path.relative_to(ROOT) for package, pattern in patterns for path in (ROOT / package).glob(pattern)}
    assert {".py", ".sql", ".jinja"} <= {path.suffix for path in found}
    return found


def test_a_file_that_changes_while_it_is_sent_is_refused(written: Callable[..., Path]) -> None:
    checked = check(written())
    for later in ("run_id: 2\n", "no job", ""):
        checked.job.path.write_text(later)
        with pytest.raises(ConfigError, match="changed while it was read"), staged(checked.job, checked.files):
            pass


def test_a_request_holds_references_nowhere_and_what_was_asked_for(written: Callable[..., Path]) -> None:
    submit = {
        "secrets": {"TOKEN": "env:HIDDEN_NAME"},
        "env": {"A": "1"},
        "pip": ["zstandard==0.23"],
        "entrypoint_num_cpus": 2,
        "metadata": {"team": "eval"},
    }
    request = check(written(submit=submit)).request
    assert request.runtime_env == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "A": "1"},
        "pip": ["zstandard==0.23"],
    }
    assert request.resources == {"entrypoint_num_cpus": 2}
    assert request.entrypoint == "python -m jobs.cli run job.yaml"
    assert "HIDDEN_NAME" not in str(request)
    assert request.metadata == {
        "team": "eval",
        "assay_verb": "score",
        "assay_lake": "s3://b/lake",
        "assay_run_id": "monday",
        "assay_job": request.key,
    }


def test_what_writes_the_same_run_has_the_same_key(written: Callable[..., Path]) -> None:
    first = check(written()).request
    same = check(written(lake="s3://b/lake/", context=64, submit={"env": {"A": "1"}})).request
    others = [check(written(run_id="tuesday")).request, check(written(lake="s3://b/other")).request]
    assert first.key == same.key
    assert first.key not in {other.key for other in others}
    jobs = [
        submitted(id=f"{first.key}-1", key=first.key, state="STOPPED"),
        submitted(id=f"{first.key}-2", key=first.key, state="FAILED"),
        submitted(id=f"{first.key}-x", key="another"),
    ]
    assert first.under_way(jobs) is None
    assert first.next_id(jobs) == f"{first.key}-3"
    running = submitted(id="named-by-hand", key=first.key, state="PENDING")
    assert first.under_way([*jobs, running]) is running


def test_a_second_submission_names_the_commands_for_the_first(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = check(written())
    monkeypatch.setattr("jobs.submission.run.jobs_of", lambda _: [submitted(key=checked.request.key)])
    with pytest.raises(ConfigError) as error, staged(checked.job, checked.files) as folder:
        send(None, checked.request, folder, None, "http://h:1")  # type: ignore[arg-type]
    assert str(error.value).splitlines() == [
        "job score-monday-1 does the same and is running",
        "to look on: assay job logs score-monday-1 --follow --address http://h:1",
        "to end it: assay job stop score-monday-1 --address http://h:1",
    ]


@pytest.mark.parametrize("asked", ["../x", "a b", "", "-x", "x" * 129])
def test_an_id_that_is_no_file_name_is_refused(written: Callable[..., Path], asked: str) -> None:
    result = CliRunner().invoke(app, ["submit", str(written()), "--submission-id", asked, "--dry-run"])
    assert (result.exit_code, result.stderr.startswith("error: --submission-id: ")) == (2, True)


def test_a_request_is_told_apart_by_the_night(written: Callable[..., Path]) -> None:
    request = check(written(run_id=None, nightly={"name": "web"})).request
    assert request.metadata["assay_run_id"] == "web"
    assert request.key.startswith("nightly-web-")
