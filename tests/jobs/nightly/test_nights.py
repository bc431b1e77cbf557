"""Nights in this process: what is scored once, what is left for the next night, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import runs
from nightly_runs import FIRST, Corpus, Steps, ids, keys, nightly, only, states, three_shards
from pydantic import ValidationError

from jobs.nightly.options import NightlyOptions
from jobs.nightly.run import Outcome
from operators.catalog import connect
from operators.lake import Lake
from operators.shards import InputError, Shard, list_shards
from operators.verify import Kind, verify
from pipelines.config import ConfigError

pytestmark = pytest.mark.usefixtures("no_catalog")

SECOND, THIRD = FIRST + timedelta(1), FIRST + timedelta(2)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return three_shards(tmp_path / "corpus")


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


# What is refused


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


def test_scoring_all_again_needs_a_new_baseline() -> None:
    with pytest.raises(ValidationError, match="give a new `baseline: LABEL` too"):
        NightlyOptions(name="web", rescore=True)


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
