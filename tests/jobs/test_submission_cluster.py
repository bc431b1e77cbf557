"""Jobs on a real head: one succeeds with secrets by reference, one fails, one is stopped and resumed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import job_server
import processes
import pyarrow.compute as pc
import pytest
import requests
import runs
import s3
import small
import yaml
from click.testing import Result
from job_server import Head
from ray._raylet import AuthenticationTokenLoader, Config
from typer.testing import CliRunner

from jobs.cli import app
from operators.lake import Lake
from pipelines.cluster import cluster
from pipelines.config import ConfigError
from pipelines.journal import Journal
from pipelines.secrets import REFERENCES, take

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("no_catalog")]

STORE_SECRET = "STORE_SECRET_OF_THE_CLUSTER"
# To compile takes longer than to score what is scored here. Here and there alike: bits are compared.
UNCOMPILED = {"TORCH_COMPILE_DISABLE": "1"}
Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.statistics.fold.compiler_available", lambda _: False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("store") / "root"
    (root / "bucket").mkdir(parents=True)
    with s3.server(root) as server:
        yield server


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Its environment holds the store's secret under a name of its own, and no credentials that a client would take."""
    with pytest.MonkeyPatch.context() as patch:
        for name in s3.environment(""):
            patch.delenv(name, raising=False)
        with job_server.head(tmp_path_factory.mktemp("head"), 3, {STORE_SECRET: s3.SECRET}) as running:
            yield running


@pytest.fixture(scope="module")
def cli(head: Head) -> Iterator[Cli]:
    """Runs a command in this process, which has the cluster's address and token."""

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, [*words])

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**head.environment, "RAY_API_SERVER_ADDRESS": head.address}.items():
            patch.setenv(name, value)
        _read_settings_again()
        yield invoke
    _read_settings_again()


def _read_settings_again() -> None:
    """Ray reads how it authenticates once a process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def job_file(folder: Path, model: Path, corpus: Path, lake: str, **more: Any) -> Path:
    fields = {"model": str(model), "input": [str(corpus)], "lake": lake, "context": 64, "actors": 1} | more
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return path


def submitted_id(result: Result) -> str:
    return next(line for line in result.stderr.splitlines() if line.startswith("submitted ")).split()[1].rstrip(":")


def everything_ray_shows(head: Head) -> str:
    """Answers of the dashboard, logs of all processes, and their command lines."""
    bearer = {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    places = ("/api/jobs/", "/api/v0/actors?detail=1", "/api/v0/workers?detail=1", "/api/v0/runtime_envs?detail=1")
    answers = [requests.get(head.address + place, headers=bearer, timeout=20).text for place in places]
    logs = [path.read_text(errors="replace") for path in (head.folder / "session_latest" / "logs").rglob("*.*")
            if path.is_file()]  # fmt: skip
    return "\n".join([*answers, *logs, *map(processes.title, head.family.members())])


def test_a_job_succeeds_with_secrets_that_nothing_shows(
    cli: Cli, head: Head, store: s3.Server, model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(s3.KEY + "\n")
    plain = {n: v for n, v in store.environment.items() if n not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    secrets = {"AWS_ACCESS_KEY_ID": f"file:{tmp_path / 'key'}", "AWS_SECRET_ACCESS_KEY": f"env:{STORE_SECRET}"}
    path = job_file(
        tmp_path,
        model_folder,
        corpus,
        "s3://bucket/lake",
        run_id="monday",
        submit={"env": plain | UNCOMPILED, "secrets": secrets},
    )
    result = cli("submit", str(path), "--follow")
    assert result.exit_code == 0, result.output
    assert "run monday: 30 documents" in result.stdout, result.output
    job_id = submitted_id(result)
    assert job_id.startswith("score-monday-")
    # Every row was written by a worker, which had no other way to the store.
    kept = store.root / "bucket" / "lake"
    ledger = json.loads((kept / "runs" / "monday.json").read_text())
    assert ledger["state"] == "finished"
    runs.run(model_folder, corpus, tmp_path / "here", "monday")
    shutil.copytree(kept, tmp_path / "there")
    for table in ("documents", "tokens"):
        assert runs.rows(tmp_path / "there", table, "monday").equals(runs.rows(tmp_path / "here", table, "monday"))
    assert s3.SECRET not in everything_ray_shows(head) + json.dumps(ledger) + result.output
    assert STORE_SECRET in cli("submit", str(path), "--dry-run").stdout
    told = json.loads(cli("job", "status", job_id, "--format", "json").stdout)
    assert {name: told[name] for name in ("state", "verb", "lake", "run_id", "exit_code")} == {
        "state": "SUCCEEDED", "verb": "score", "lake": "s3://bucket/lake", "run_id": "monday", "exit_code": 0
    }  # fmt: skip
    assert "run monday: 30 documents" in cli("job", "logs", job_id).stdout
    _was_uploaded_whole(head)


def _was_uploaded_whole(head: Head) -> None:
    """The code of the job: what Ray unpacked is this checkout's."""
    folders = (head.folder / "session_latest" / "runtime_resources" / "working_dir_files").iterdir()
    packages = [folder for folder in folders if folder.is_dir() and (folder / "jobs").is_dir()]
    assert packages, "no job has unpacked its code"
    own = Path(sys.modules["pipelines.secrets"].__file__ or os.devnull)
    for folder in packages:
        assert (folder / "job.yaml").is_file()
        assert list((folder / "operators" / "sql").rglob("*.sql"))
        assert (folder / "pipelines" / "secrets.py").read_bytes() == own.read_bytes()


def test_a_job_that_fails_says_why_and_gives_its_exit_code(
    cli: Cli, model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    secrets = {"A_TOKEN": "env:NOT_ON_THE_CLUSTER", "ANOTHER": "file:/nowhere/at/all"}
    lake = tmp_path / "lake"
    path = job_file(tmp_path, model_folder, corpus, str(lake), run_id="missing", submit={"secrets": secrets})
    result = cli("submit", str(path), "--follow")
    assert result.exit_code == 2, result.output
    assert "submit.secrets.A_TOKEN: NOT_ON_THE_CLUSTER is not set in the environment of" in result.stdout
    assert "error: submit.secrets.ANOTHER: /nowhere/at/all" in result.stdout
    assert not lake.exists()
    job_id = submitted_id(result)
    told = json.loads(cli("job", "status", job_id, "--format", "json").stdout)
    assert (told["state"], told["exit_code"]) == ("FAILED", 2)
    assert "NOT_ON_THE_CLUSTER is not set" in told["message"]
    listed = json.loads(cli("job", "list", "--format", "json").stdout)
    assert listed[0] == told | {"seconds": listed[0]["seconds"]}
    assert job_id in cli("job", "list").stdout
    again = cli("job", "stop", job_id)
    assert (again.exit_code, "failed with exit code 2 before" in again.stderr) == (0, True)


def test_a_stopped_job_resumes_and_is_never_under_way_twice(
    cli: Cli, head: Head, model_folder: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = [f"{n} {text}" for n in range(2) for text in small.stdlib_texts(700)][:210]
    parts = [texts[:3], texts[3:6], texts[6:9], texts[9:12], texts[12:]]  # the last takes long enough to be halted in
    for n, part in enumerate(parts):
        (corpus / f"{n}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    lake = tmp_path / "lake"
    path = job_file(tmp_path, model_folder, corpus, str(lake), run_id="stopped", submit={"env": UNCOMPILED})
    first = cli("submit", str(path))
    assert first.exit_code == 0, first.output
    job_id = submitted_id(first)
    second = cli("submit", str(path))
    assert second.exit_code == 2
    assert f"job {job_id} does the same and is" in second.stderr
    _halt_after_parts(head, lake, 2)
    stopped = cli("job", "stop", job_id)
    assert (stopped.exit_code, f"job {job_id} stopped" in stopped.stderr) == (0, True), stopped.output
    followed = cli("job", "logs", job_id, "--follow")
    assert (followed.exit_code, "raylet" in followed.stdout) == (130, False), followed.stdout
    ledger = Lake(str(lake)).read_run("stopped")
    assert ledger is not None
    assert ledger["state"] == "interrupted"
    # Without workers, which take longer to start than what is left takes.
    path = job_file(
        tmp_path, model_folder, corpus, str(lake), run_id="stopped", engine="inline", submit={"env": UNCOMPILED}
    )
    resumed = cli("submit", str(path), "--follow")
    assert resumed.exit_code == 0, resumed.output
    assert re.search(r"resuming run stopped: .* [1-9]\d* documents done", resumed.stdout), resumed.output
    assert submitted_id(resumed) == job_id[:-1] + "2"
    runs.run(model_folder, corpus, tmp_path / "here", "stopped")
    for table in ("documents", "tokens"):
        there, here = (runs.rows(at, table, "stopped") for at in (lake, tmp_path / "here"))
        assert there.equals(here)
    assert pc.count_distinct(runs.rows(lake, "documents", "stopped")["doc_id"]).as_py() == len(texts)


def _halt_after_parts(head: Head, lake: Path, n: int, seconds: float = 120.0) -> None:
    """Halt the scoring as soon as so many parts are there: the run does not end before it is stopped. The driver hears
    of them a little later, and may keep that to itself for a while."""
    deadline = time.monotonic() + seconds
    while len(list(lake.glob("documents/run_id=stopped/*.parquet"))) < n:
        assert time.monotonic() < deadline, "nothing is written"
        time.sleep(0.02)
    scoring = [process for process in head.family.members() if "ScoreActor" in processes.title(process)]
    assert [process for process in scoring if processes.send(process, signal.SIGSTOP)]
    heard = time.monotonic() + 10
    while not len(Journal.open(Lake(str(lake)), "stopped")) and time.monotonic() < heard:
        time.sleep(0.2)


def test_a_clusters_own_address_leads_to_its_job_server(cli: Cli, head: Head) -> None:
    result = cli("job", "list", "--address", head.gcs)
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("cli")
def test_nodes_that_lack_a_secret_are_named_before_any_work(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_WITH_THE_DRIVER", "hunter-two-and-a-half")
    for name in ("MINE", REFERENCES):
        monkeypatch.setenv(name, "")  # and as it was, afterwards
    take({"MINE": "env:ONLY_WITH_THE_DRIVER"})
    where = "^submit.secrets.MINE: ONLY_WITH_THE_DRIVER is not set in the environment of"
    with pytest.raises(ConfigError, match=where), cluster(head.gcs, 1):
        pytest.fail("work begins")
