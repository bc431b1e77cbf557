"""An overlap that is stopped anywhere: nothing is lost, nothing counts twice, and nothing else goes on in its place."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import overlaps
import pyarrow as pa
import pytest
from stopping import Failing, Stop, killed_at_write, writes_counted

from jobs.overlap.run import _standing
from operators.lake import Lake, overlap_job_path, overlap_progress
from operators.verify import verify
from pipelines import units
from pipelines.claims import MemoryClaims, StoredClaims
from pipelines.overlap import match
from pipelines.overlap.record import drop_progress, read_json
from pipelines.previous import ResumeError
from pipelines.probe import ReaderDiesError
from pipelines.score import RunError
from pipelines.surveyors import InlineSurveyor


@pytest.fixture(autouse=True)
def own_node_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where indexes lie on this node: killed attempts leave them."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("operators.catalog.write_catalog", lambda *_: "")  # slower than all else together


@pytest.fixture
def world(tmp_path: Path) -> overlaps.World:
    """One for a test that changes it."""
    return overlaps.make_world(tmp_path / "world")


class Quiet(NamedTuple):
    """A world that no test changes, the tables of an undisturbed overlap, and how many objects one writes that has
    the units of `small_units`."""

    world: overlaps.World
    tables: dict[str, pa.Table]
    n_writes: int


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Quiet:
    folder = tmp_path_factory.mktemp("quiet")
    world = overlaps.make_world(folder / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        overlaps.run(world, folder / "lake")
        patch.setattr(units, "UNIT_BYTES", 1500)
        patch.setattr(units, "PIECE_BYTES", 1500)
        return Quiet(world, overlaps.tables(folder / "lake"), _writes(world, folder / "counted"))


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 1500)
    monkeypatch.setattr(units, "PIECE_BYTES", 1500)


@pytest.mark.parametrize("n", [0, 2, 3, 5, 7, 9, -5, -3, -2, -1])
def test_killed_at_any_write_it_goes_on_to_the_same_tables(
    quiet: Quiet, tmp_path: Path, small_units: None, n: int
) -> None:
    """Negative numbers count from the last write: receipts, tables, job."""
    lake = tmp_path / "lake"
    with killed_at_write(n % quiet.n_writes, after=bool(n % 2)):
        overlaps.run(quiet.world, lake)
    said = overlaps.run(quiet.world, lake)
    assert overlaps.tables(lake) == quiet.tables
    assert said["totals"]["rows_in"] == said["totals"]["documents"] == len(quiet.world.documents)
    assert verify(Lake(str(lake))) == []


def _writes(world: overlaps.World, lake: Path) -> int:
    with writes_counted() as written:
        overlaps.run(world, lake)
    return len(written)


def test_a_driver_killed_by_the_system_goes_on_with_the_units_that_are_left(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    receipts = lake / overlap_progress("bench") / "matches"
    left: list[set[str]] = []
    for more in (2, 3):  # receipts beyond those of the attempt before
        process = overlaps.child(quiet.world, lake, wait=0.15)
        held = left[-1] if left else set()
        deadline = time.monotonic() + 60
        while len(found := {p.name for p in receipts.glob("0*.parquet")}) < len(held) + more:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left.append(found)
        assert any(fault.kind == "temporary" for fault in verify(Lake(str(lake))))
    times = {name: (receipts / name).stat().st_mtime_ns for name in left[0]}
    assert all((receipts / name).stat().st_mtime_ns == at for name, at in times.items())
    monkeypatch.setattr(units, "UNIT_BYTES", overlaps.CHILD_UNIT_BYTES)
    monkeypatch.setattr(units, "PIECE_BYTES", overlaps.CHILD_PIECE_BYTES)
    plan = overlaps.plan(quiet.world, lake)
    assert _standing(plan).startswith(f"resuming: {len(left[-1])} of ")
    said = overlaps.compare(plan)
    assert said["totals"]["units"] > len(left[-1])
    assert overlaps.tables(lake) == quiet.tables
    assert verify(Lake(str(lake))) == []


class Deadly:
    """A matcher that a text with POISON in it kills, as a SIGKILL would: no claim ends, nothing is cleared."""

    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def __call__(self, block: pa.Table) -> Any:
        if any("POISON" in (text or "") for text in block["text"].to_pylist()):
            raise Stop
        return self.matcher(block)


def test_a_document_that_kills_its_process_is_rejected_and_the_others_are_compared(
    world: overlaps.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, make = tmp_path / "lake", match._matcher
    overlaps.run(world, tmp_path / "whole")
    with (world.corpus / "a.jsonl").open("a") as file:
        file.write(json.dumps({"id": "deadly", "text": "POISON"}) + "\n")
    monkeypatch.setattr(match, "_matcher", lambda *each: Deadly(make(*each)))
    monkeypatch.setattr(match, "killers", lambda *_: [])  # its file can be read
    deaths = 0
    while (said := attempt_that_may_die(world, lake)) is None:
        deaths += 1
        assert deaths < 12
    assert deaths >= 3
    assert said["rejects"]["corpus"]["killed_worker"]["n"] == said["totals"]["rejects"] == 1
    assert overlaps.tables(lake) == overlaps.tables(tmp_path / "whole")


def attempt_that_may_die(world: overlaps.World, lake: Path) -> dict[str, Any] | None:
    """What a comparison says; None where it was killed."""
    end = MemoryClaims.end

    def end_unless_killed(self: MemoryClaims, name: str) -> None:
        if not isinstance(sys.exc_info()[1], Stop | GeneratorExit):
            end(self, name)

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        patch.setattr(MemoryClaims, "end", end_unless_killed)
        patch.setattr(StoredClaims, "clear", lambda self: None)
        return overlaps.run(world, lake)
    return None


def use(monkeypatch: pytest.MonkeyPatch, surveyor: InlineSurveyor) -> None:
    monkeypatch.setattr("pipelines.overlap.run.make_surveyor", lambda engine, address: nullcontext(surveyor))
    monkeypatch.setattr("pipelines.overlap.run.FIRST_PAUSE", 0.0)
    monkeypatch.setattr(units, "UNIT_FILES", 1)


def test_units_are_not_compared_again_when_the_machinery_fails(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor = Failing(match.MatchStep, ConnectionError("a node is gone"))
    use(monkeypatch, surveyor)
    overlaps.run(quiet.world, tmp_path / "lake")
    assert surveyor.surveyed == [0, 1, 2]
    assert overlaps.tables(tmp_path / "lake") == quiet.tables


def test_what_a_worker_raises_ends_the_attempt_and_the_next_one_goes_on(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor = Failing(match.MatchStep, KeyError("a defect"))
    use(monkeypatch, surveyor)
    with pytest.raises(RunError, match="KeyError: 'a defect'"):
        overlaps.run(quiet.world, tmp_path / "lake")
    overlaps.run(quiet.world, tmp_path / "lake")
    assert surveyor.surveyed == [0, 1, 2]
    assert overlaps.tables(tmp_path / "lake") == quiet.tables


def test_a_file_that_kills_its_reader_is_left_out_and_said(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor, killer = Failing(match.MatchStep, ReaderDiesError.of(0)), str(quiet.world.corpus / "a.jsonl")
    use(monkeypatch, surveyor)
    monkeypatch.setattr(match, "killers", lambda pieces, *_: [p.shard.uri for p in pieces if p.shard.uri == killer])
    said = overlaps.run(quiet.world, tmp_path / "lake")
    assert surveyor.surveyed == [0, 0, 1, 2]  # the unit that was done without its killer found is done again
    assert said["rejects"]["corpus"]["killed_worker"]["n"] == 1
    assert said["rejects"]["corpus"]["killed_worker"]["first"].startswith(
        f"{killer}: reading this file ended the process"
    )
    assert said["totals"]["documents"] == 40
    left = {key: text for key, text in quiet.world.documents.items() if int(key.removeprefix("doc-")) >= 20}
    rest = replace(quiet.world, documents=left)
    assert overlaps.shares(tmp_path / "lake") == rest.shares("all")


def test_a_damaged_receipt_is_made_again(quiet: Quiet, tmp_path: Path, small_units: None) -> None:
    lake = tmp_path / "lake"
    with killed_at_write(quiet.n_writes - 4, after=False):
        overlaps.run(quiet.world, lake)
    (receipt, *_) = sorted((lake / overlap_progress("bench") / "matches").iterdir())
    receipt.write_bytes(receipt.read_bytes()[:-9])
    with pytest.raises(RunError, match="is damaged and was dropped: repeat the command"):
        overlaps.run(quiet.world, lake)
    overlaps.run(quiet.world, lake)
    assert overlaps.tables(lake) == quiet.tables


# Another job under the same name


@pytest.fixture(scope="module")
def stopped(quiet: Quiet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with an overlap of the quiet world that was killed half-way."""
    lake = tmp_path_factory.mktemp("stopped") / "lake"
    stop_half_way(quiet.world, lake)
    return lake


def stop_half_way(world: overlaps.World, lake: Path) -> None:
    def stop(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        patch.setattr("pipelines.overlap.run.write_tables", stop)
        overlaps.run(world, lake)
    assert list((lake / overlap_progress("bench") / "matches").iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"options": {"n": 4}}, "n: was 5, now 4"),
        ({"options": {"normalisation": "janitor-1"}}, "normalisation: was 'words-1', now 'janitor-1'"),
        ({"options": {"drop": "any"}}, "drop: was 'pieces:10', now 'any'"),
        ({"answer_column": None}, "benchmark_answer_column: was 'answer', now None"),
        ({"corpus": {"id_column": None}}, "corpus_id_column: was 'id', now None"),
        ({"corpus": {"limit": 5}}, "corpus input: ends at row None of its last file, now 5 (--limit)"),
    ],
)
def test_another_job_stops_with_the_difference(quiet: Quiet, stopped: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ResumeError) as error:
        overlaps.run(quiet.world, stopped, **more)
    assert said in str(error.value)
    assert str(error.value).count("\n  ") == 1 + ("limit" in str(more))  # files beyond it are gone, too
    assert "--overwrite bench" in str(error.value)


def test_other_files_stop_it_and_are_named(world: overlaps.World, tmp_path: Path) -> None:
    stop_half_way(world, tmp_path / "lake")
    text = world.benchmark.read_text()
    world.benchmark.write_text(text.replace("item-0", "item-z", 1))  # of the same size
    os.utime(world.benchmark, ns=(1, 1))
    with pytest.raises(ResumeError, match="benchmark: other items than before"):
        overlaps.run(world, tmp_path / "lake")
    (world.corpus / "d.txt").write_text("one more")
    world.benchmark.write_text(f"{text}{{}}\n")
    with pytest.raises(ResumeError) as error:
        overlaps.run(world, tmp_path / "lake")
    assert f"corpus input: 1 file added: {world.corpus / 'd.txt'}" in str(error.value)
    assert f"benchmark input: 1 file changed: {world.benchmark}" in str(error.value)


def test_a_record_that_was_killed_as_it_went_goes_whole(tmp_path: Path) -> None:
    """Folders on a disk, too, of which the last object was gone."""
    record = tmp_path / overlap_progress("quiz")
    (record / "progress" / "run_id=benchmark").mkdir(parents=True)
    drop_progress(Lake(str(tmp_path)), "quiz")
    assert not record.parent.exists()


def test_a_finished_overlap_is_not_done_again_and_not_replaced_unasked(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    said = overlaps.run(quiet.world, lake)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.overlap.run._compare", pytest.fail)
        assert overlaps.run(quiet.world, lake) == said == read_json(Lake(str(lake)), overlap_job_path("bench"))
    with pytest.raises(ResumeError, match="n: was 5, now 4"):
        overlaps.run(quiet.world, lake, options={"n": 4})
    assert overlaps.tables(lake) == quiet.tables
    overlaps.run(quiet.world, lake, options={"n": 4}, overwrite="bench")
    assert overlaps.shares(lake) == quiet.world.shares("all", 4)
    (lake / "overlap_spans" / "overlap=bench" / f".{'0' * 32}.parquet.{'0' * 32}.tmp").write_bytes(b"")
    with killed_at_write(2, after=True):  # while it replaces the other: it goes on without the flag
        overlaps.run(quiet.world, lake, overwrite="bench")
    overlaps.run(quiet.world, lake)
    assert overlaps.tables(lake) == quiet.tables
    assert verify(Lake(str(lake))) == []
