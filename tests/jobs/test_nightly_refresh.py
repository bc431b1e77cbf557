"""What a night refreshes: scores, areas, benchmarks in its shards, verdicts; what it lacks; again is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import nights
import pyarrow as pa
import pytest
from pydantic import BaseModel, ValidationError

from jobs.nightly.past import read_past
from jobs.nightly.refresh import _label, refresh
from jobs.nightly.refreshed import Refreshed
from jobs.nightly.summary import summarise
from jobs.nightly.watch import FINDINGS, BenchmarkOptions, WatchOptions
from operators.lake import Lake
from operators.shards import list_shards
from operators.verify import verify

ITEM = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
INLINE = {"engine": "inline"}


@pytest.fixture(scope="module", autouse=True)
def _quick(no_catalog: None) -> None:
    """No test here opens the catalog file."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    nights.write_run(made, nights.night(1).run_id or "", labels=True)
    return made


def refreshed(
    lake: Lake, place: int = 1, shards: tuple[str, ...] = (), torn: tuple[str, ...] = (), **options: Any
) -> Refreshed:
    asked, listed = nights.options(**options), list_shards(shards) if shards else ()
    return refresh(asked, lake, nights.night(place), engine=INLINE, text={}, shards=listed, torn=torn)


def files(lake: Lake, table: str) -> dict[str, tuple[bytes, int]]:
    found = sorted(p for p in (Path(lake.root) / table).rglob("*") if p.is_file())
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def test_scores_are_kept_once_and_their_means_are_numbers(lake: Lake) -> None:
    first = refreshed(lake, scores={"scores": ["min_k(ratio=0.5)", "loss"]})
    kept = files(lake, "scores")
    again = refreshed(lake, scores={"scores": ["min_k(ratio=0.5)", "loss"]})
    assert files(lake, "scores") == kept, "what is kept of the run as it is was made again"
    assert [n.subject for n in again.numbers] == [n.subject for n in first.numbers]
    values = [[n.estimate.value for n in each.numbers] for each in (first, again)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)  # DuckDB's threads add in any order
    named = {n.subject for n in first.numbers if n.measure == "score_mean"}
    assert {"loss", "min_k(ratio=0.5)"} <= named
    assert verify(lake) == []


def test_labels_give_areas_with_intervals(lake: Lake) -> None:
    found = refreshed(lake, evaluation={"scores": ["loss"]})
    (area,) = [n for n in found.numbers if n.measure == "auroc"]
    assert area.estimate.low is not None
    assert area.estimate.low < area.estimate.value <= 1
    assert area.estimate.value > 0.6
    assert not found.lacking


def test_what_cannot_be_done_is_lacking_and_the_rest_goes_on(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    nights.write_run(lake, nights.night(1).run_id or "")
    shard = tmp_path / "shard.jsonl"
    shard.write_text('{"text": "x"}\n')
    found = refreshed(
        lake,
        evaluation={"scores": ["loss"]},
        scores={"scores": ["nothing_like_it"]},
        contamination={"benchmarks": ["absent"]},
        benchmarks=[{"name": "lost", "input": [str(tmp_path / "lost.jsonl")]}],
        shards=(str(shard),),
    )
    assert [lack.what for lack in found.lacking] == ["scores", "evaluation", "benchmark lost", "contamination"]
    for lack, why in zip(found.lacking, ("nothing_like_it", "no labelled documents", "lost.jsonl", "no run 'absent'"),
                         strict=True):  # fmt: skip
        assert why in lack.why
    assert any(n.measure == "bits_per_byte" for n in found.numbers)


@pytest.fixture
def shards(tmp_path: Path) -> tuple[str, ...]:
    """Tonight's files, one with a name like a glob; one holds an item of the benchmark."""
    paths = [tmp_path / "plain.jsonl", tmp_path / "odd[1]*.jsonl"]
    paths[0].write_text(json.dumps({"text": "nothing of interest here at all"}) + "\n")
    paths[1].write_text(json.dumps({"text": f"before {ITEM} after"}) + "\n")
    (tmp_path / "elsewhere.jsonl").write_text(json.dumps({"text": "alpha beta " * 20}) + "\n")
    return tuple(map(str, paths))


@pytest.fixture
def benchmark(tmp_path: Path) -> dict[str, Any]:
    rows = [{"id": "hit\x1b[31m<b>", "text": ITEM}, {"id": "miss", "text": "alpha beta " * 20}]
    path = tmp_path / "bench" / "b.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"name": "quiz", "input": [str(path)], "id_column": "id", "max_items": 0}


def test_items_of_a_benchmark_in_tonights_shards_are_an_alarm(
    lake: Lake, shards: tuple[str, ...], benchmark: dict[str, Any]
) -> None:
    found = refreshed(lake, shards=shards, benchmarks=[benchmark])
    (quiz,) = found.benchmarks
    assert (quiz.n_items, quiz.n_found, quiz.exceeds) == (2, 1, True)
    assert quiz.examples == ("hit\x1b[31m<b>",)
    assert refreshed(lake, shards=shards, benchmarks=[benchmark]).benchmarks == (quiz,), "a finished one is read"
    summary = summarise(nights.options(benchmarks=[benchmark], fail_on=["contaminated"]), lake, nights.night(1), found)
    alarm = summary.findings[0]
    assert (alarm.id, alarm.severity, summary.exit_code) == ("contaminated", "alarm", 3)
    assert "1 of 2 items are in tonight's shards" in alarm.title
    assert "\x1b" not in alarm.detail
    assert verify(lake) == []
    assert not refreshed(lake, benchmarks=[benchmark]).benchmarks, "nothing was scored"


def test_shards_are_compared_as_they_were_listed(
    lake: Lake, shards: tuple[str, ...], benchmark: dict[str, Any]
) -> None:
    """They are not looked up again one by one, and one that has gone since takes no other along."""
    listed = list_shards(shards)
    Path(shards[0]).unlink()
    asked = nights.options(benchmarks=[benchmark])
    found = refresh(asked, lake, nights.night(1), engine=INLINE, text={}, shards=listed)
    assert ([each.n_found for each in found.benchmarks], found.lacking) == ([1], ())


def test_shards_of_which_nothing_can_be_read_stop_no_night(
    lake: Lake, tmp_path: Path, benchmark: dict[str, Any]
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    found = refreshed(lake, shards=(str(empty),), benchmarks=[benchmark])  # its documents have gone since
    assert [lack.why for lack in found.lacking] == ["no document was compared; the corpus holds no record"]
    nights.write_run(lake, nights.night(2).run_id or "", shards=0)
    found = refreshed(lake, 2, (str(empty),), benchmarks=[benchmark], evaluation={"scores": ["loss"]})
    assert (found.documents, found.benchmarks, found.lacking) == (0, (), ())


def test_what_an_attempt_saw_that_was_given_up_is_compared_again(
    lake: Lake, shards: tuple[str, ...], benchmark: dict[str, Any]
) -> None:
    refreshed(lake, shards=shards[:1], benchmarks=[benchmark])
    again = refreshed(lake, shards=shards, benchmarks=[benchmark])
    assert ([each.n_found for each in again.benchmarks], again.lacking) == ([1], ())


def test_torn_shards_are_left_out_and_said(lake: Lake) -> None:
    found = refreshed(lake, torn=("s4",), evaluation={"scores": ["loss"]})
    (bits,) = [n for n in found.numbers if (n.measure, n.part) == ("bits_per_byte", "all")]
    assert bits.estimate.n == 54
    (area,) = [n for n in found.numbers if n.measure == "auroc"]
    assert area.estimate.n == 54
    assert any("1 shards changed while" in note for note in found.notes)


def test_a_torn_shard_whose_name_is_sql_is_left_out_of_labels_and_does_nothing_else() -> None:
    names = ["it's", "x') or true --", "plain"]
    labels = pa.table({"source": [*names, "other"], "label": [1, 1, 0, 1]})
    with duckdb.connect() as connection:
        found = connection.sql(f"select {_label('label -- as kept', names)} from labels").fetchall()
    assert labels.num_rows == len(found)
    assert found == [(None,), (None,), (None,), (1.0,)]
    assert _label("label", []) == "label"


def test_the_first_night_sets_thresholds_that_later_ones_are_held_against(lake: Lake) -> None:
    first = refreshed(lake)
    assert not [n for n in first.numbers if n.measure == "above_quantile"]
    summarise(nights.options(), lake, nights.night(1), first)
    nights.write_run(lake, nights.night(2).run_id or "", nats=1.0)
    second = refreshed(lake, place=2)
    assert second.thresholds == first.thresholds
    above = {n.subject: n.estimate.value for n in second.numbers if n.measure == "above_quantile"}
    assert above["min_k_20"] > 0.5


def test_the_past_is_of_this_job_alone_before_tonight_and_of_its_baseline(lake: Lake) -> None:
    nights.keep_past(lake, [1.0, 1.1, 1.2, 1.3])
    other = nights.options(name=f"{nights.NAME}-2")
    summarise(other, lake, nights.night(0, name=other.name, run=False), None)
    dates = [n.date for n in read_past(lake, nights.NAME, nights.day(3), since=None, most=9)]
    assert dates == [nights.day(0), nights.day(1), nights.day(2)]
    late = read_past(lake, nights.NAME, nights.day(3), since=str(nights.day(1)), most=1)
    assert [n.date for n in late] == [nights.day(2)]


def test_a_night_without_a_run_has_nothing_to_refresh(lake: Lake) -> None:
    night = nights.night(3, run=False)
    assert refresh(nights.options(), lake, night, engine=INLINE, text={}) == Refreshed()


def test_options_refuse_what_they_do_not_know() -> None:
    assert set(FINDINGS) == {"changed", "contaminated", "incomplete", "rejects", "missed"}
    wrong: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (WatchOptions, {"alpha": 0.0}),
        (WatchOptions, {"nigths": 5}),
        (BenchmarkOptions, {"name": "a/b", "input": ["x"]}),
        (BenchmarkOptions, {"name": "a", "input": []}),
    ]
    for block, fields in wrong:
        with pytest.raises(ValidationError):
            block.model_validate(fields)
