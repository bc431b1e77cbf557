"""Nights that die, fail or are given up: the next attempt brings them to the same end, wherever that was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nightly_runs import FIRST, Corpus, Steps, ids, keys, nightly, only, states, three_shards
from stopping import Stop

from jobs.nightly.refresh import refresh
from operators.lake import Lake
from operators.storage import Storage
from operators.verify import verify
from pipelines.config import ConfigError
from pipelines.nightly.book import Book
from pipelines.nightly.night import NightError
from pipelines.nightly.shards import read_list
from pipelines.score import RunError

pytestmark = pytest.mark.usefixtures("no_catalog")

SECOND = FIRST + timedelta(1)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return three_shards(tmp_path / "corpus")


@contextmanager
def killed_at(n: int) -> Iterator[list[str]]:
    """Ends what runs within as a kill would, before the n-th object of the lake is written or removed; those so far.
    Of the object that was being written a temporary file is left.

    The lock's are left out: its claims are tested on their own, and the claim of a process that died is dead. So are
    those that scoring writes, of which one stands for all: `test_exactly_once` ends it at each.
    """
    seen: list[str] = []
    left_out = ("progress/", "tokens/", "rejects/")

    def dying(name: str) -> Any:
        original = getattr(Storage, name)

        def change(self: Storage, path: str, *data: Any) -> None:
            if "/lock/" not in path and not path.startswith(left_out):
                if len(seen) == n:
                    if name != "delete":
                        leave_temporary(Path(self.uri(path)))
                    raise Stop
                seen.append(path)
            original(self, path, *data)

        return change

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        for name in ("write", "write_file", "delete"):
            patch.setattr(Storage, name, dying(name))
        yield seen
        seen.append("ended")


def leave_temporary(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.{'0' * 32}.tmp").write_bytes(b"half")


def content(lake: Path) -> dict[str, Any]:
    """What nights leave: rows of every run, lists, summaries without their times, and which objects there are."""
    store = Lake(str(lake))
    found: dict[str, Any] = {run: keys(lake, run) for run in store.run_ids()}
    for path in sorted((lake / "nights" / "web").glob("*.json")):
        summary = json.loads(path.read_text())
        for moment in ("started", "finished", "resumed"):
            summary["night"].pop(moment)
        found[path.name] = summary
    found["lists"] = [read_list(store, "web", day) for day in Book(store, "web").good()]
    found["objects"] = sorted(
        str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file() and "journal" not in path.name
    )
    return found


RETENTION = {"retention": {"nights": 1, "gone": True}}


def test_a_night_that_dies_anywhere_is_brought_to_the_same_end(model_folder: Path, tmp_path: Path) -> None:
    """A night of a changed, a new and a removed shard, after which the run of the night before may go."""
    work, before = tmp_path / "work", tmp_path / "before"
    corpus, lake = Corpus(work / "corpus"), work / "lake"
    corpus.put("a", 0, 1)
    corpus.put("b", 2, 1)
    nightly(lake, model_folder, corpus, **RETENTION).run(FIRST)
    corpus.put("a", 0, 2)
    corpus.put("c", 8, 1)
    corpus.drop("b")
    shutil.copytree(work, before)

    def second() -> dict[str, Any]:
        outcome = only(nightly(lake, model_folder, corpus, **RETENTION).run(SECOND))
        assert outcome.date == SECOND
        assert verify(Lake(str(lake))) == []
        return content(lake)

    whole = second()
    assert (whole["web-2026-11-02"], "web-2026-11-01" in whole) == (ids(0, 1, 8), False)
    assert whole["2026-11-02.json"]["night"]["removed_runs"] == ["web-2026-11-01"]
    for n in range(200):
        shutil.rmtree(work)
        shutil.copytree(before, work)
        with killed_at(n) as seen:
            nightly(lake, model_folder, corpus, **RETENTION).run(SECOND)
        assert second() == whole, f"killed after {seen[-1:]}"
        if seen[-1:] == ["ended"]:
            break
    assert n > 15


# What fails


@pytest.mark.parametrize("step", ["refresh", "summarise"])
def test_a_night_that_fails_after_scoring_is_gone_on_with_and_nothing_is_scored_again(
    model_folder: Path, corpus: Corpus, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, steps = tmp_path / "lake", Steps(failing={step: RunError("the storage is full")})
    with pytest.raises(NightError, match=r"night 2026-11-01 failed \(its summary\): the storage is full"):
        nightly(lake, model_folder, corpus, steps).run(FIRST)
    assert not list((lake / "nights" / "web").glob("*.json"))
    finished = Lake(str(lake)).read_run("web-2026-11-01")["finished_at"]
    parts = [path.stat().st_mtime_ns for path in sorted(lake.rglob("tokens/**/*.parquet"))]
    corpus.put("c", 10)
    corpus.put("a", 0, 3)  # a change after the run is the next night's
    first, second = nightly(lake, model_folder, corpus, steps).run(SECOND)
    assert (first.date, first.how, first.summary["night"]["resumed"]) == (FIRST, "resumed", True)
    assert (states(first), states(second)) == ({"new": 3}, {"new": 1, "changed": 1, "unchanged": 2})
    assert Lake(str(lake)).read_run("web-2026-11-01")["finished_at"] == finished
    assert [path.stat().st_mtime_ns for path in sorted(lake.rglob("tokens/run_id=web-2026-11-01/*"))] == parts
    assert keys(lake, "web-2026-11-02") == ids(0, 1, 2, 10, 11)
    assert verify(Lake(str(lake))) == []


def test_a_defect_is_no_failed_night(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    steps = Steps(failing={"refresh": ZeroDivisionError("ours")})
    with pytest.raises(ZeroDivisionError):
        nightly(tmp_path / "lake", model_folder, corpus, steps).run(FIRST)
    assert only(nightly(tmp_path / "lake", model_folder, corpus, steps).run(FIRST)).how == "resumed"


def test_settings_that_change_between_a_crash_and_its_resume_are_refused(
    model_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the run has a part, nothing in it says what it was to be made of."""
    lake = tmp_path / "lake"
    with dying_as_it_scores(monkeypatch):
        nightly(lake, model_folder, corpus).run(FIRST)
    with pytest.raises(
        ConfigError, match=r"(?s)begun with other.*context: was 64, now 32\n.*put the job file back.*--abandon"
    ):
        nightly(lake, model_folder, corpus, also={"context": 32}).run(SECOND)
    assert Lake(str(lake)).run_ids() == []
    first, _ = nightly(lake, model_folder, corpus).run(SECOND)
    assert (first.how, states(first)) == ("resumed", {"new": 3})


@contextmanager
def dying_as_it_scores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def dies(plan: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.score.score_corpus", dies)
        with pytest.raises(Stop):
            yield


def test_a_shard_that_goes_between_a_crash_and_its_resume_stops_no_night(
    model_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    with dying_as_it_scores(monkeypatch):
        nightly(lake, model_folder, corpus).run(FIRST)
    corpus.drop("a")
    first, second = nightly(lake, model_folder, corpus).run(SECOND)
    assert (states(first), states(second)) == ({"new": 2, "changing": 1}, {"unchanged": 2})


# What is given up


def test_giving_up_that_dies_anywhere_is_given_up_or_gone_on_with(
    model_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    work, before = tmp_path / "work", tmp_path / "before"
    lake, steps = work / "lake", Steps(failing={"summarise": RunError("no")})
    with pytest.raises(NightError):
        nightly(lake, model_folder, corpus, steps).run(FIRST)
    shutil.copytree(work, before)
    for n in range(0, 50, 2):
        shutil.rmtree(work)
        shutil.copytree(before, work)
        with killed_at(n) as seen:
            nightly(lake, model_folder, corpus).abandon(FIRST)
        if seen[-1:] == ["ended"]:
            break
        if n % 4:
            nightly(lake, model_folder, corpus).abandon(FIRST)
            assert [path for path in lake.rglob("*") if path.is_file()] == []
        else:
            assert states(nightly(lake, model_folder, corpus).run(SECOND)[0]) == {"new": 3}
            assert keys(lake, "web-2026-11-01") == ids(*range(6)), f"killed after {seen[-1:]}"
            assert verify(Lake(str(lake))) == []
    assert n > 5


def test_a_night_that_died_before_its_run_had_a_ledger_is_given_up_whole(
    model_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    with killed_at(1) as seen:
        nightly(lake, model_folder, corpus).run(FIRST)
    assert (seen, Lake(str(lake)).run_ids()) == (["nights/web/2026-11-01.open.parquet"], [])
    assert list(lake.rglob("progress/*/*.parquet"))
    nightly(lake, model_folder, corpus).abandon(FIRST)
    assert [path for path in lake.rglob("*") if path.is_file()] == []


def test_what_a_night_that_is_given_up_has_compared_goes(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    benchmark = {"name": "quiz", "input": [corpus.put("../quiz", 0)], "ngram": 5}
    job = nightly(lake, model_folder, corpus, benchmarks=[benchmark])
    job.refresh, job.summarise = refresh, Steps(failing={"summarise": RunError("no")}).summarise
    with pytest.raises(NightError):
        job.run(FIRST)
    leave_temporary(lake / "overlap_items" / "overlap=web-2026-11-01-quiz" / "job.json")
    assert list(lake.rglob("overlap=web-2026-11-01-quiz/job.json"))
    job.abandon(FIRST)
    assert [path for path in lake.rglob("*") if path.is_file()] == []


def test_a_night_that_is_given_up_leaves_its_shards_to_the_next(
    model_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    lake, steps = tmp_path / "lake", Steps(failing={"summarise": RunError("no")})
    with pytest.raises(NightError):
        nightly(lake, model_folder, corpus, steps).run(FIRST)
    with pytest.raises(ConfigError, match="--abandon 2026-11-02: nights of 'web' that are unfinished: 2026-11-01"):
        nightly(lake, model_folder, corpus).abandon(SECOND)
    nightly(lake, model_folder, corpus).abandon(FIRST)
    assert Lake(str(lake)).run_ids() == []
    assert verify(Lake(str(lake))) == []
    assert states(only(nightly(lake, model_folder, corpus).run(SECOND))) == {"new": 3}
