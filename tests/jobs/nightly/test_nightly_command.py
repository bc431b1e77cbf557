"""`assay nightly` as a user types it: exit codes, what is printed, what a dry run leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from nightly_runs import Corpus, Steps, fields
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipelines.nightly.lock import NightLock
from pipelines.score import RunError

pytestmark = pytest.mark.usefixtures("no_catalog")

DAY = ("--night", "2026-11-01")


def assay(*args: object) -> Result:
    return CliRunner().invoke(app, ["nightly", *(str(a) for a in args)])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps()
    monkeypatch.setattr("jobs.nightly.refresh.refresh", made.refresh)
    monkeypatch.setattr("jobs.nightly.summary.summarise", made.summarise)
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path / "corpus")
    made.put("a", 0)
    made.put("b \x1b[31m", 2)  # a name that would paint a terminal red
    return made


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def write(lake: Path, model: Path, corpus: Corpus, nightly: Any = None, **more: Any) -> Path:
    job = {"verb": "nightly", **fields(lake, model, corpus, **more)}
    job["nightly"] = {"name": "web", "settle_seconds": 0, **(nightly or {})}
    path = lake.parent / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    lake: Path, model_folder: Path, corpus: Corpus, steps: Steps
) -> None:
    job = write(lake, model_folder, corpus)
    done = assay(job, *DAY, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "night web-2026-11-01: shards: 2 new; run web-2026-11-01" in done.stdout
    assert "\x1b[31m" not in done.output
    assert "score" in done.stdout  # the plan of the run
    as_json = json.loads(assay(job, *DAY, "--dry-run", "--format", "json").stdout)
    assert (as_json["dry_run"], as_json["shards"]["new"], as_json["run_id"]) == (True, 2, "web-2026-11-01")
    assert not list(lake.rglob("*.json"))
    assert assay(job, *DAY).exit_code == 0
    assert "night 2026-11-01 is done already" in assay(job, *DAY, "--dry-run").stdout
    before = assay(job, "--night", "2026-10-31", "--dry-run")  # as the night itself would be
    assert (before.exit_code, "nights go forward" in unfolded(before.stderr)) == (2, True)


def test_exit_codes(lake: Path, model_folder: Path, corpus: Corpus, steps: Steps) -> None:
    job = write(lake, model_folder, corpus)
    assert assay(job, "--night", "yesterday").exit_code == 2
    steps.failing["refresh"] = RunError("no room on the disk")
    failed = assay(job, *DAY)
    assert failed.exit_code == 1
    assert "error: night 2026-11-01 failed (its summary): no room on the disk" in unfolded(failed.stderr)
    assert "--abandon 2026-11-01" in unfolded(failed.stderr)
    assert "had not come to its end" in assay(job, *DAY, "--dry-run").stdout
    assert assay(job, "--night", "2026-10-31", "--dry-run").exit_code == 2  # as that night itself would be
    steps.exit_code = 3
    found = assay(job, *DAY)
    assert (found.exit_code, "# night 2026-11-01" in found.stdout) == (3, True)
    assert assay(job, *DAY).exit_code == 3  # as the summary says, however often it is asked for
    from operators.lake import Lake

    with NightLock(Lake(str(lake)), "web", 30):
        held = assay(job, "--night", "2026-11-02")
    assert held.exit_code == 4
    assert "is under way: process" in held.stderr


def test_a_night_is_given_up_by_its_date(lake: Path, model_folder: Path, corpus: Corpus, steps: Steps) -> None:
    job = write(lake, model_folder, corpus)
    assert "unfinished: none" in unfolded(assay(job, "--abandon", "2026-11-01").stderr)
    steps.failing["summarise"] = RunError("no")
    assert assay(job, *DAY).exit_code == 1
    for more in (("--dry-run",), DAY):
        refused = assay(job, "--abandon", "2026-11-01", *more)
        assert (refused.exit_code, "leave --night and --dry-run out" in unfolded(refused.stderr)) == (2, True)
    assert assay(job, "--abandon", "2026-11-01").exit_code == 0
    assert not list(lake.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"limit": 5}, "limit: has no place in a nightly job"),
        ({"nightly": {"name": "x" * 120}}, "use at most 117 characters"),
        ({"nightly": {"timezone": "Mars/Base"}}, "no time zone 'Mars/Base' on this machine"),
        ({"nightly": {"retention": {}}}, "nights"),
        ({"nightly": {"settle": 3}}, "settle_seconds"),
    ],
)
def test_a_job_that_cannot_be_run_is_refused(
    lake: Path, model_folder: Path, corpus: Corpus, steps: Steps, more: dict[str, Any], message: str
) -> None:
    refused = assay(write(lake, model_folder, corpus, **more), *DAY)
    assert refused.exit_code == 2, refused.output
    assert message in unfolded(refused.stderr)
    assert not lake.exists()
