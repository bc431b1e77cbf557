"""`assay check`, `assay run` and `--dry-run`: a job file looked at whole, done, and costed before it starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app

pytestmark = pytest.mark.usefixtures("no_catalog")


def assay(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def job(model_folder: Path, corpus: Path, tmp_path: Path) -> Any:
    """Writes a job file: a sound one of scoring, with changes; None leaves a field out."""

    def write(**changes: Any) -> Path:
        fields = {
            "model": str(model_folder), "input": [str(corpus)], "lake": str(tmp_path / "lake"), "run_id": "monday",
            "engine": "inline", "context": 64,
        }  # fmt: skip
        path = tmp_path / "job.yaml"
        kept = {name: value for name, value in {**fields, **changes}.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
        return path

    return write


def test_a_sound_file_is_said_to_be_sound(job: Any, tmp_path: Path) -> None:
    done = assay("check", job())
    assert done.exit_code == 0, done.output
    assert "sound (file, input, model and lake)" in done.stdout
    assert "assay score --model=" in done.stdout
    assert not (tmp_path / "lake").exists()


def test_faults_of_file_and_world_are_said_together(job: Any, tmp_path: Path) -> None:
    path = job(input=[str(tmp_path / "none.jsonl")], model=str(tmp_path / "gone"), contxt=5, actors=0)
    done = assay("check", path)
    assert done.exit_code == 2
    for said in ("contxt: is not a field", "actors: ", "none.jsonl' does not exist", "gone': no such folder"):
        assert said in unfolded(done.stderr)
    assert "4 faults" in done.stderr


def test_models_in_object_storage_are_looked_for_too(job: Any, model_folder: Path) -> None:
    """Beside other faults, and without being fetched."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/models/small/config.json", b"{}")
    path = job(model="memory://models/small", contxt=5)
    assert r"memory://models/small': no .safetensors file there" in unfolded(assay("check", path).stderr)
    memory.pipe_file("/models/small/model.safetensors", b"not fetched")
    done = assay("check", path)
    assert done.exit_code == 2
    assert "contxt: is not a field" in done.stderr
    assert "memory://" not in done.stderr
    memory.store.clear()


def test_offline_looks_at_the_file_alone(job: Any) -> None:
    path = job(input=["/nowhere/c.jsonl"], model="/nowhere/model", lake="s3://no-such-bucket/lake", device="cuda")
    done = assay("check", path, "--offline")
    assert done.exit_code == 0, done.output
    assert "were not looked at" in done.stdout
    done = assay("check", path)
    assert done.exit_code == 2
    assert "--offline checks the file alone" in unfolded(done.stderr)


def test_a_file_that_names_its_cluster_is_held_to_what_can_be_sent_there(job: Any) -> None:
    for more in ([], ["--offline"]):
        done = assay("check", job(lake="lake", submit={"address": "http://head:8265"}), *more)
        assert done.exit_code == 2
        assert "1 fault\n" in done.stderr
        assert "lake: 'lake' is a path below this machine's current folder" in unfolded(done.stderr)
    assert assay("check", job(lake="lake", submit={"code": "image"}), "--offline").exit_code == 0


def test_a_plan_cannot_be_made_of_the_file_alone(job: Any) -> None:
    done = assay("check", job(), "--offline", "--dry-run")
    assert done.exit_code == 2
    assert "give one of them" in unfolded(done.stderr)


def test_devices_of_a_cluster_are_its_own(job: Any) -> None:
    path = job(engine="ray", device="cuda", submit={"address": "http://head:8265"})
    done = assay("check", path)
    assert done.exit_code == 0, done.output
    done = assay("check", job(engine="ray", device="cuda"))
    assert done.exit_code == 2
    assert "no CUDA device" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["score", "--config"]], ids=" ".join)
def test_a_dry_run_says_shards_resources_tokens_and_time(job: Any, tmp_path: Path, command: list[str]) -> None:
    done = assay(*command, job(), "--dry-run")
    assert done.exit_code == 0, done.output
    for said in ("corpus.jsonl", "1 x CPU core", "counted, all of it", "tokens/s each, a guess: ", "of it to start"):
        assert said in done.stdout
    assert not (tmp_path / "lake").exists()


def test_a_dry_run_of_a_cluster_elsewhere_says_what_is_not_known(job: Any) -> None:
    done = assay("check", job(engine="ray", submit={"address": "http://head:8265"}), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "one a GPU (or core) of the cluster" in done.stdout
    assert "time      not estimated: the cluster's devices are not known here" in done.stdout
    done = assay("check", job(engine="ray", accelerator_type="H100", actors=8, address="head:6379"), "--dry-run")
    assert "8 x GPU of the cluster" in done.stdout
    assert "on 8 actors of" in done.stdout
    assert "on a H100" in done.stdout


def test_run_does_what_the_file_says_and_ends_as_its_verb_does(job: Any, tmp_path: Path, corpus: Path) -> None:
    done = assay("run", job(), "--set", "limit=4", "--set", "run-id=2026-11-20")
    assert done.exit_code == 0, done.output
    assert "run 2026-11-20: " in done.stdout
    ledger = json.loads((tmp_path / "lake" / "runs" / "2026-11-20.json").read_text(encoding="utf-8"))
    assert ledger["totals"]["rows_in"] == 4

    failed = assay("run", job(run_id="broken", text_column="nope", max_rejects=0))
    assert failed.exit_code == 1
    assert "were rejected" in unfolded(failed.stderr)

    refused = assay("run", job(input=[f"{corpus}.gone"]))
    assert refused.exit_code == 2
    assert "does not exist" in unfolded(refused.stderr)

    verify = job(verb="verify", lake=str(tmp_path / "lake"), model=None, input=None, engine=None, context=None)
    done = assay("run", verify, "--set", "run_id=2026-11-20")
    assert (done.exit_code, done.stdout) == (0, "1 runs verified, no faults\n")
    done = assay("check", verify, "--set", "run_id=tuesday")
    assert done.exit_code == 2
    assert "no run 'tuesday'" in unfolded(done.stderr)


def test_ctrl_c_ends_a_job_as_it_ends_its_verb(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.score.run_score", interrupted)
    done = assay("run", job())
    assert done.exit_code == 130
    assert "interrupted" in done.stderr


def test_a_secret_that_is_not_there_is_said_before_any_work(job: Any, tmp_path: Path) -> None:
    done = assay("run", job(submit={"secrets": {"HF_TOKEN": "file:/nowhere/token"}}))
    assert done.exit_code == 2
    assert "HF_TOKEN" in done.stderr
    assert not (tmp_path / "lake").exists()


def test_a_faulty_file_is_looked_at_with_its_secrets(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its storage would refuse, which is no fault of the job."""
    monkeypatch.setattr("os.environ", {**os.environ})
    done = assay("check", job(contxt=5, submit={"secrets": {"A_TOKEN": "file:/nowhere/token"}}))
    assert "2 faults" in done.stderr
    assert "submit.secrets.A_TOKEN" in done.stderr
    (tmp_path / "token").write_text("hunter2hunter2", encoding="utf-8")
    done = assay("check", job(contxt=5, submit={"secrets": {"A_TOKEN": f"file:{tmp_path / 'token'}"}}))
    assert "1 fault\n" in done.stderr
    assert os.environ["A_TOKEN"] == "hunter2hunter2"


def test_secrets_are_taken_before_the_lake_is_looked_at(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ})
    secret = tmp_path / "token"
    nightly: dict[str, Any] = {"run_id": None, "nightly": {"name": "web", "settle_seconds": 0}}
    for more in ({}, nightly):
        for where in (("check",), ("nightly",)) if more else (("check",),):
            secret.unlink(missing_ok=True)
            os.environ.pop("A_TOKEN", None)
            path = job(**more, submit={"secrets": {"A_TOKEN": f"file:{secret}"}})
            done = assay(*where, path, *(["--dry-run"] if where == ("nightly",) else []))
            assert done.exit_code == 2
            assert "A_TOKEN" in done.stderr
            secret.write_text("hunter2hunter2", encoding="utf-8")
            done = assay(*where, path, *(["--dry-run"] if where == ("nightly",) else []))
            assert done.exit_code == 0, done.output
            assert os.environ["A_TOKEN"] == "hunter2hunter2"
            assert "hunter2" not in done.output
    secret.unlink()
    path = job(submit={"secrets": {"A_TOKEN": f"file:{secret}"}, "address": "http://head:8265"})
    assert assay("check", path).exit_code == 0  # the cluster's, and not this machine's


def test_verbs_with_a_dry_run_of_their_own_are_checked_by_it(
    job: Any, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "verb": "overlap", "model": None, "input": None, "run_id": None, "context": None, "name": "o",
        "benchmark": str(corpus), "corpus": str(tmp_path / "gone.jsonl"),
    }  # fmt: skip
    done = assay("check", job(**fields))
    assert done.exit_code == 2
    assert "gone.jsonl' does not exist" in unfolded(done.stderr)
    monkeypatch.setenv("ASSAY_LOG_FORMAT", "json")
    done = assay("check", job(**fields))
    assert (done.exit_code, os.environ["ASSAY_LOG_FORMAT"]) == (2, "json")
    (line,) = done.stderr.splitlines()
    assert "{" not in json.loads(line)["message"]
    assert "gone.jsonl' does not exist" in json.loads(line)["message"]
    monkeypatch.delenv("ASSAY_LOG_FORMAT")
    done = assay("check", job(**fields | {"corpus": str(corpus)}), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "overlap o on engine inline" in done.stdout


@pytest.fixture
def lake_of(tmp_path: Path) -> Any:
    """A lake that holds runs of these names, and nothing of them but that."""

    def make(*runs: str) -> Path:
        for run in runs:
            path = tmp_path / "lake" / "runs" / f"{run}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}", encoding="utf-8")
        return tmp_path / "lake"

    return make


_OF_A_LAKE: dict[str, dict[str, Any]] = {
    "scores": {"run_id": "a", "reference": ["b"]},
    "evaluate": {"run_id": "a", "reference": ["b"]},
    "frequencies": {"name": "f", "from_run": "a"},
    "contamination": {"benchmark": ["a", "b"], "clean": "b"},
    "mixture fit": {"run_id": ["a", "b"]},
    "mixture weights": {"name": "w", "component": ["web=a", "code=b"]},
    "mixture doremi": {"name": "d", "proxy": ["a", "b"], "reference": "b"},
    "mixture select": {"name": "s", "current": "a", "reference": "b", "keep": 0.5},
}


@pytest.mark.parametrize("verb", list(_OF_A_LAKE))
def test_every_run_that_a_job_names_is_looked_for(lake_of: Any, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "job.yaml"
    fields = {"verb": verb, "lake": str(tmp_path / "lake"), **_OF_A_LAKE[verb]}
    path.write_text(json.dumps(fields), encoding="utf-8")
    done = assay("check", path)
    assert done.exit_code == 2
    assert "1 fault\n" in done.stderr
    assert "no lake at" in unfolded(done.stderr)
    lake_of("c")
    named = {text.rpartition("=")[2] for value in _OF_A_LAKE[verb].values() for text in ([value] if not isinstance(
        value, list) else value) if isinstance(text, str)} & {"a", "b"}  # fmt: skip
    done = assay("check", path)
    assert f"{len(named)} fault{'s' * (len(named) != 1)}\n" in done.stderr
    assert all(f"no run '{run}'" in unfolded(done.stderr) for run in named)
    lake_of("a", "b")
    done = assay("check", path)
    assert done.exit_code == 0, done.output
    assert "the rest is looked at when it runs" in done.stdout


def test_the_input_of_a_verb_without_a_dry_run_is_looked_at(job: Any, tmp_path: Path, corpus: Path) -> None:
    fields = {"verb": "frequencies", "run_id": None, "context": None, "name": "f"}
    done = assay("check", job(**fields, input=[str(tmp_path / "gone.jsonl")], model=str(tmp_path / "none")))
    assert done.exit_code == 2
    assert "2 faults" in done.stderr
    assert "gone.jsonl' does not exist" in unfolded(done.stderr)
    assert assay("check", job(**fields, input=[str(corpus)])).exit_code == 0  # which makes its lake


def test_what_differs_from_an_earlier_attempt_is_one_fault(job: Any, corpus: Path) -> None:
    assert assay("run", job(limit=3)).exit_code == 0
    done = assay("check", job(limit=3, text_column="id"))
    assert done.exit_code == 2
    assert "1 fault\n" in done.stderr
    assert "text_column: was 'text', now 'id'" in unfolded(done.stderr)


def test_a_night_is_previewed_with_tokens_and_time(job: Any, tmp_path: Path) -> None:
    path = job(run_id=None, nightly={"name": "web", "settle_seconds": 0})
    for command in (("check", path, "--dry-run"), ("nightly", path, "--dry-run")):
        done = assay(*command)
        assert done.exit_code == 0, done.output
        assert "shards: 1 new" in done.stdout
        assert "counted, all of it" in done.stdout
        assert "tokens/s each" in done.stdout
    assert not (tmp_path / "lake").exists()
    done = assay("check", path, "--dry-run", "--set", "context=32")
    assert done.exit_code == 2
    assert "change it there" in unfolded(done.stderr)
    elsewhere = job(run_id=None, engine="ray", device="cuda", nightly={"name": "web", "settle_seconds": 0},
                    submit={"address": "http://head:8265"})  # fmt: skip
    done = assay("check", elsewhere, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "GPU of the cluster" in done.stdout


def test_a_hostile_name_is_printed_as_text(job: Any) -> None:
    done = assay("check", job(input=["\x1b[31m\nred.jsonl"]))
    assert done.exit_code == 2
    assert "\x1b" not in done.output
