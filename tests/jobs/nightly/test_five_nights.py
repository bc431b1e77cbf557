"""Five nights as users have them: new shards, a changed one, a kill mid-run, an overlap, a missed date, a quiet end.

`assay nightly` is the command itself, with everything that follows scoring; the killed night is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml
from nightly_runs import Corpus, fields
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from operators.verify import verify

pytestmark = pytest.mark.usefixtures("no_catalog")

# The command, but for one thing: with its first documents part it says so, and waits to be killed.
STUCK = """
import sys, time
from operators.storage import Storage
def stuck(original):
    def write(self, path, data):
        if path.startswith("documents/"):
            print("scoring", flush=True)
            time.sleep(300)
        original(self, path, data)
    return write
Storage.write, Storage.write_file = stuck(Storage.write), stuck(Storage.write_file)
from jobs.cli import app
app(["nightly", *sys.argv[1:]])
"""


def assay(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


class Job:
    """A nightly job with its corpus, and its lake over five nights."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.corpus, self.lake, self.file = Corpus(folder / "corpus"), folder / "lake", folder / "job.yaml"
        nightly = {"name": "web", "settle_seconds": 0, "fail_on": ["incomplete"], "watch": {"draws": 199}}
        job = {"verb": "nightly", **fields(self.lake, model, self.corpus), "nightly": nightly}
        self.file.write_text(yaml.safe_dump(job), encoding="utf-8")
        self.printed: dict[str, list[Any]] = {}

    def night(self, day: str) -> None:
        done = assay("nightly", self.file, "--night", day, "--format", "json")
        assert done.exit_code == 0, done.output
        self.printed[day] = json.loads(done.stdout)

    def crashed_night(self, day: str) -> Result:
        """A night that is killed while it scores; and what another one, this process, is told meanwhile."""
        arguments = [str(self.file), "--night", day]
        night = subprocess.Popen([sys.executable, "-c", STUCK, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            assert night.stdout is not None
            assert night.stdout.readline() == "scoring\n"
            return assay("nightly", *arguments)
        finally:
            night.kill()
            night.communicate()


@pytest.fixture(scope="module")
def refused() -> list[Result]:
    return []


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, refused: list[Result]) -> Iterator[Job]:
    job = Job(tmp_path_factory.mktemp("five"), model_folder)
    for n, shard in enumerate("abc"):
        job.corpus.put(shard, 10 * n, 4)
    job.night("2026-11-01")
    job.corpus.put("a", 0, 6)
    job.corpus.put("d", 30, 4)
    refused.append(job.crashed_night("2026-11-02"))
    job.corpus.put("e", 40, 4)
    job.night("2026-11-03")
    job.corpus.put("f", 50, 4)
    job.corpus.drop("c")
    job.night("2026-11-05")
    job.night("2026-11-06")
    return job


def rows(job: Job, run: str) -> list[str]:
    return sorted(runs.rows(job.lake, "documents", run)["key"].to_pylist())


def ids(*spans: tuple[int, int]) -> list[str]:
    return sorted(f"id-{n}" for first, n_of in spans for n in range(first, first + n_of))


def test_the_night_that_overlaps_is_refused(job: Job, refused: list[Result]) -> None:
    (other,) = refused
    assert other.exit_code == 4
    assert other.stderr.startswith("error: nightly 'web' is under way: process ")
    assert other.stdout == ""


def test_there_are_exactly_the_right_runs_and_rows(job: Job) -> None:
    lake = Lake(str(job.lake))
    assert lake.run_ids() == ["web-2026-11-01", "web-2026-11-02", "web-2026-11-03", "web-2026-11-05"]
    assert {lake.read_run(run)["state"] for run in lake.run_ids()} == {"finished"}
    assert rows(job, "web-2026-11-01") == ids((0, 4), (10, 4), (20, 4))
    assert rows(job, "web-2026-11-02") == ids((0, 6), (30, 4))
    assert rows(job, "web-2026-11-03") == ids((40, 4))
    assert rows(job, "web-2026-11-05") == ids((50, 4))
    assert verify(lake) == []


def test_there_are_exactly_the_right_summaries(job: Job) -> None:
    folder = job.lake / "nights" / "web"
    dates = ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-05", "2026-11-06"]
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert names == sorted(f"{date}.{kind}" for date in dates for kind in ("html", "json", "md"))
    assert {day: [each["date"] for each in printed] for day, printed in job.printed.items()} == {
        "2026-11-01": ["2026-11-01"],
        "2026-11-03": ["2026-11-02", "2026-11-03"],
        "2026-11-05": ["2026-11-05"],
        "2026-11-06": ["2026-11-06"],
    }
    stored = {date: json.loads((folder / f"{date}.json").read_text(encoding="utf-8")) for date in dates}
    assert {each["date"]: each for printed in job.printed.values() for each in printed} == stored
    shards = {date: {k: n for k, n in s["night"]["shards"].items() if n} for date, s in stored.items()}
    assert shards == {
        "2026-11-01": {"new": 3},
        "2026-11-02": {"new": 1, "changed": 1, "unchanged": 2},
        "2026-11-03": {"new": 1, "unchanged": 4},
        "2026-11-05": {"new": 1, "unchanged": 4, "removed": 1},
        "2026-11-06": {"unchanged": 5, "gone": 1},
    }
    assert [date for date in dates if stored[date]["night"]["resumed"]] == ["2026-11-02"]
    assert {date: s["night"]["covers"] for date, s in stored.items() if s["night"]["covers"]} == {
        "2026-11-05": ["2026-11-04"]
    }
    assert [s["scored"]["documents"] for s in stored.values()] == [12, 10, 4, 4, 0]


def test_the_corpus_as_it_is_now_is_one_query(job: Job) -> None:
    with connect(str(job.lake)) as connection:
        found = connection.execute("select key, is_removed, run_id from nightly_documents").fetchall()
    assert sorted(key for key, is_removed, _ in found if not is_removed) == ids(
        (0, 6), (10, 4), (30, 4), (40, 4), (50, 4)
    )
    assert sorted(key for key, is_removed, _ in found if is_removed) == ids((20, 4))
    assert {run for key, _, run in found if key in ids((0, 6))} == {"web-2026-11-02"}


def test_the_same_night_again_does_nothing_and_says_the_same(job: Job) -> None:
    before = {path: path.stat().st_mtime_ns for path in job.lake.rglob("*") if path.is_file()}
    done = assay("nightly", job.file, "--night", "2026-11-06", "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, job.printed["2026-11-06"])
    shown = assay("nightly", job.file, "--night", "2026-11-06")
    assert (shown.exit_code, "night 2026-11-06 is done already" in shown.output) == (0, True)
    assert (job.lake / "nights" / "web" / "2026-11-06.md").read_text(encoding="utf-8").splitlines()[0] in shown.stdout
    assert {path: path.stat().st_mtime_ns for path in job.lake.rglob("*") if path.is_file()} == before
