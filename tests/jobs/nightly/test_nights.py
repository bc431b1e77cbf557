"""Nights in this process: what is scored once, what is left, what a night that died leaves for the next."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import runs
from nightly_runs import FIRST, Corpus, Steps, nightly
from stopping import Stop

from jobs.nightly.run import Outcome
from operators.catalog import connect
from operators.lake import Lake
from operators.shards import InputError, Shard, list_shards
from operators.storage import Storage
from operators.verify import Kind, verify
from pipelines.config import ConfigError
from pipelines.nightly.book import Book
from pipelines.nightly.night import STATES, NightError
from pipelines.nightly.shards import read_list
from pipelines.score import RunError

pytestmark = pytest.mark.usefixtures("one_thread", "no_catalog")

SECOND, THIRD = FIRST + timedelta(1), FIRST + timedelta(2)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path / "corpus")
    made.put("a", 0)
    made.put("b [0-9]*", 2)  # a name that would match others as a glob
    made.put("b 5", 4)
    return made


def states(outcome: Outcome) -> dict[str, int]:
    found: dict[str, int] = outcome.summary["night"]["shards"]
    assert set(found) == set(STATES)
    return {state: n for state, n in found.items() if n}


def keys(lake: Path, run: str) -> list[str]:
    return sorted(runs.rows(lake, "documents", run)["key"].to_pylist())


def ids(*numbers: int) -> list[str]:
    return sorted(f"id-{n}" for n in numbers)


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def current(lake: Path) -> list[tuple[Any, ...]]:
    """(key, run, is_removed) of the corpus as the last night left it."""
    with connect(str(lake)) as connection:
        rows = connection.execute("select key, run_id, is_removed from nightly_documents where nightly = 'web'")
        return sorted(rows.fetchall())


def test_only_what_is_new_or_changed_is_scored(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake, steps = tmp_path / "lake", Steps()

    def night(day: date) -> Outcome:
        return only(nightly(lake, model_folder, corpus, steps).run(day))

    first = night(FIRST)
    assert (first.how, states(first), keys(lake, "web-2026-11-01")) == ("done", {"new": 3}, ids(*range(6)))
    again = night(FIRST)
    assert (again.how, again.summary, steps.summed) == ("already", first.summary, ["2026-11-01"])

    corpus.put("a", 0, 3)  # of which id-2 was in another shard
    corpus.put("c", 10, 1)
    second = night(SECOND)
    assert (states(second), keys(lake, "web-2026-11-02")) == (
        {"new": 1, "changed": 1, "unchanged": 2}, ids(0, 1, 2, 10),
    )  # fmt: skip
    assert second.summary["shards"] == ["a", "c"]  # what refresh was told of

    corpus.drop("c")
    third = night(FIRST + timedelta(4))
    assert states(third) == {"unchanged": 3, "removed": 1}
    assert third.summary["night"]["covers"] == ["2026-11-03", "2026-11-04"]
    assert third.summary["night"]["run_id"] is None

    back = night(FIRST + timedelta(5))
    assert states(back) == {"unchanged": 3, "gone": 1}
    assert Lake(str(lake)).run_ids() == ["web-2026-11-01", "web-2026-11-02"]
    assert current(lake) == sorted(
        [(f"id-{n}", "web-2026-11-02", False) for n in (0, 1, 2)]
        + [(f"id-{n}", "web-2026-11-01", False) for n in (3, 4, 5)]
        + [("id-10", "web-2026-11-02", True)]
    )
    assert verify(Lake(str(lake))) == []


def test_a_shard_that_comes_back_as_it_was_is_not_scored_again(
    model_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(FIRST)
    path = corpus.folder / "a.jsonl"
    aside = path.rename(tmp_path / "aside")
    nightly(lake, model_folder, corpus).run(SECOND)
    aside.rename(path)
    back = only(nightly(lake, model_folder, corpus).run(THIRD))
    assert states(back) == {"unchanged": 3}


def test_a_shard_that_is_still_being_written_waits(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fresh = Path(corpus.put("fresh", 20))
    os.utime(fresh)
    first = only(nightly(lake, model_folder, corpus, settle_seconds=3600).run(FIRST))
    assert states(first) == {"new": 3, "waiting": 1}
    assert not set(ids(20, 21)) & set(keys(lake, "web-2026-11-01"))
    old = fresh.stat().st_mtime - 7200
    os.utime(fresh, (old, old))
    second = only(nightly(lake, model_folder, corpus, settle_seconds=3600).run(SECOND))
    assert (states(second), keys(lake, "web-2026-11-02")) == ({"new": 1, "unchanged": 3}, ids(20, 21))


def test_a_shard_that_changes_while_it_is_scored_is_left_for_the_next_night(
    model_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(FIRST)
    corpus.put("a", 0, 3)
    corpus.put("new", 30)
    with after_scoring(monkeypatch, lambda: (corpus.put("a", 0, 4), corpus.put("new", 30, 1))):
        second = only(nightly(lake, model_folder, corpus).run(SECOND))
    assert states(second) == {"unchanged": 2, "changing": 2}
    assert second.summary["shards"] == []
    assert {row for row in current(lake) if row[0] in ("id-0", "id-30")} == {("id-0", "web-2026-11-01", False)}
    third = only(nightly(lake, model_folder, corpus).run(THIRD))
    assert (states(third), keys(lake, "web-2026-11-03")) == (
        {"new": 1, "changed": 1, "unchanged": 2}, ids(0, 1, 2, 3, 30),
    )  # fmt: skip
    assert [row[1] for row in current(lake) if row[0] in ("id-0", "id-30")] == ["web-2026-11-03"] * 2


@contextmanager
def after_scoring(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> Iterator[None]:
    """Do something when a run has ended and its night has not."""
    from pipelines import score

    original = score.score_corpus

    def scored(plan: Any) -> dict[str, Any]:
        ledger = original(plan)
        action()
        return ledger

    with monkeypatch.context() as patch:
        patch.setattr(score, "score_corpus", scored)
        yield


# Wherever it dies


@contextmanager
def killed_at(n: int) -> Iterator[list[str]]:
    """Ends what runs within as a kill would, before the n-th object of the lake is written or removed; those so far.

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
                    raise Stop
                seen.append(path)
            original(self, path, *data)

        return change

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        for name in ("write", "write_file", "delete"):
            patch.setattr(Storage, name, dying(name))
        yield seen
        seen.append("ended")


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


# What fails, and what is refused


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


def test_nights_that_cannot_be_compared_need_a_new_baseline(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(FIRST)
    corpus.put("c", 10)
    other = {"also": {"context": 32}}
    with pytest.raises(ConfigError, match=r"(?s)cannot be compared with 2026-11-01:\n.*context: was 64, now 32"):
        nightly(lake, model_folder, corpus, **other).run(SECOND)
    assert Lake(str(lake)).run_ids() == ["web-2026-11-01"]
    second = only(nightly(lake, model_folder, corpus, baseline="short", **other).run(SECOND)).summary["night"]
    assert (second["baseline"], second["label"], second["shards"]["new"]) == ("2026-11-02", "short", 1)
    third = only(nightly(lake, model_folder, corpus, baseline="short", **other).run(THIRD)).summary["night"]
    assert (third["baseline"], third["run_id"]) == ("2026-11-02", None)
    corpus.put("d", 20)
    with pytest.raises(ConfigError, match="context: was 32, now 64"):
        nightly(lake, model_folder, corpus, baseline="short").run(FIRST + timedelta(3))
    all_again = nightly(lake, model_folder, corpus, baseline="long", rescore=True)
    assert states(only(all_again.run(FIRST + timedelta(3)))) == {"new": 1, "changed": 4}
    assert {run for _, run, _ in current(lake)} == {"web-2026-11-04"}


def test_settings_that_change_between_a_crash_and_its_resume_are_refused(
    model_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the run has a part, nothing in it says what it was to be made of."""
    lake = tmp_path / "lake"
    with dying_as_it_scores(monkeypatch):
        nightly(lake, model_folder, corpus).run(FIRST)
    with pytest.raises(
        NightError, match=r"(?s)begun with other.*context: was 64, now 32\n.*put the job file back.*--abandon"
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


def test_an_input_that_holds_the_lake_is_refused(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input: it names .*/corpus/lake/.*, which is in the lake"):
        nightly(corpus.folder / "lake", model_folder, corpus).run(FIRST)


@pytest.mark.parametrize("tag", ["", "mtime:"])
def test_where_a_storage_has_no_tags_the_time_of_writing_tells(
    model_folder: Path, corpus: Corpus, tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SFTP and HDFS list: sizes and times. One that lists neither is said to be blind."""
    lake = tmp_path / "lake"
    original = list_shards

    def untagged(*args: Any, **more: Any) -> list[Shard]:
        return [replace(s, tag="", modified=s.modified if tag else None) for s in original(*args, **more)]

    monkeypatch.setattr("pipelines.nightly.runs.list_shards", untagged)
    first = only(nightly(lake, model_folder, corpus).run(FIRST))
    corpus.put("a", 0)  # the same bytes, later
    second = only(nightly(lake, model_folder, corpus).run(SECOND))
    if tag:
        assert (states(second), first.summary["night"]["notes"]) == ({"changed": 1, "unchanged": 2}, [])
    else:
        assert states(second) == {"unchanged": 3}
        assert "3 shards lie where neither content tags nor times are told" in first.summary["night"]["notes"][0]


def test_a_run_of_somebody_else_is_never_touched(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    runs.run(model_folder, corpus.folder / "a.jsonl", lake, "web-2026-11-01")
    before = (lake / "runs" / "web-2026-11-01.json").read_bytes()
    with pytest.raises(ConfigError, match=r"'web-2026-11-01' exists in .*, and is of no night of 'web'"):
        nightly(lake, model_folder, corpus).run(FIRST)
    assert (lake / "runs" / "web-2026-11-01.json").read_bytes() == before
    assert not (lake / "nights" / "web" / "2026-11-01.open.parquet").exists()


def test_nights_go_forward_and_not_ahead(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(SECOND)
    with pytest.raises(ConfigError, match="--night 2026-11-01: 'web' has night 2026-11-02"):
        nightly(lake, model_folder, corpus).run(FIRST)
    with pytest.raises(ConfigError, match=r"--night 2999-01-01: it is .* in Asia/Tokyo"):
        nightly(lake, model_folder, corpus, timezone="Asia/Tokyo").run(date(2999, 1, 1))


def test_an_input_that_is_gone_is_no_corpus_of_which_all_is_gone(
    model_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(FIRST)
    corpus.folder.rename(tmp_path / "not mounted")
    with pytest.raises(InputError, match="does not exist"):
        nightly(lake, model_folder, corpus).run(SECOND)
    (tmp_path / "not mounted").rename(corpus.folder)
    assert states(only(nightly(lake, model_folder, corpus).run(SECOND))) == {"unchanged": 3}


def test_a_run_that_is_dropped_by_hand_is_scored_again(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    nightly(lake, model_folder, corpus).run(FIRST)
    Lake(str(lake)).remove_run("web-2026-11-01")
    assert {fault.kind for fault in verify(Lake(str(lake)))} == {Kind.TWIN}
    second = only(nightly(lake, model_folder, corpus).run(SECOND))
    assert states(second) == {"new": 3}
    assert second.summary["night"]["notes"] == [
        "run web-2026-11-01 is gone: what it held and is still there is scored again"
    ]
    assert second.summary["night"]["lost_runs"] == ["web-2026-11-01"]
    assert verify(Lake(str(lake))) == []
    third = only(nightly(lake, model_folder, corpus).run(THIRD))
    assert (states(third), third.summary["night"]["lost_runs"]) == ({"unchanged": 3}, [])


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
