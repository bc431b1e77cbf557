"""`assay status`: a lake's own account of its runs, under way, broken off, done."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import runs
import small
from output import unfolded
from typer.testing import CliRunner

from jobs import status as status_module
from jobs.cli import app
from operators.lake import Lake
from operators.storage import Storage
from operators.write import PartWriter
from pipelines import units
from pipelines.config import ScoreConfig
from pipelines.score import RunError
from pipelines.status import runs as status_runs
from pipelines.status.nights import JobStatus
from pipelines.status.runs import RunStatus, run_status, run_statuses

FILES = 6


@pytest.fixture(scope="module")
def lake(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `good` is finished; run `broken-off` failed at its fourth block of six, on a disk that is full."""
    folder, lake = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("lake")
    for name in range(FILES):
        small.write_corpus(folder / f"{name}.jsonl", 4)
    (folder / "0.jsonl").write_text((folder / "0.jsonl").read_text() + 'not json\n{"text": null}\n{"text": null}\n')
    write, written = PartWriter.__call__, [0]

    def full(self: PartWriter, block: pa.Table) -> pa.Table:
        written[0] += 1
        if written[0] > 3:
            raise OSError(28, "No space left on \x1b[31mdevice")
        return write(self, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "UNIT_FILES", 1)
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        runs.run(model_folder, folder, lake, "good")
        patch.setattr(PartWriter, "__call__", full)
        with pytest.raises(RunError):
            runs.run(model_folder, folder, lake, "broken-off")
    return lake


def assay(*words: Any) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def ledger(lake: Path, run_id: str, **changes: Any) -> Lake:
    """The lake, with another ledger for a run: as a driver that was killed leaves it."""
    store = Lake(str(lake))
    before = store.read_run(run_id)
    store.write_run(run_id, {**before, **changes})
    return store


@pytest.fixture
def running(lake: Path) -> Any:
    """The run that broke off, as if its driver had been killed or were still at work."""
    before = Lake(str(lake)).read_run("broken-off")
    yield ledger(lake, "broken-off", state="running", error=None)
    Lake(str(lake)).write_run("broken-off", before)


def test_a_table_of_all_runs(lake: Path) -> None:
    said = assay("status", lake)
    rows = {line.split()[0]: line.split() for line in said.splitlines()}
    totals = Lake(str(lake)).read_run("good")["totals"]
    assert rows["good"][1:4] == ["finished", "100", "%"]
    assert rows["good"][4:7] == [f"{totals['documents']:,}", f"{totals['tokens']:,}", "3"]
    assert rows["broken-off"][1:4] == ["failed", "50", "%"]
    assert "\x1b" not in said
    assert "broken-off: RunError: " in said or "broken-off: OSError: " in said
    assert "No space left on \\x1b[31mdevice" in said


def test_one_run_with_its_rejects(lake: Path) -> None:
    said = assay("status", lake, "--run-id", "broken-off")
    assert re.search(r"^state +failed *$", said, re.MULTILINE)
    assert "parts of the input: 3 of 6 done" in said
    assert "rejects: 2 null_text" in said
    assert "rejects: 1 broken_json" in said


def test_json_is_the_same_for_programs(lake: Path) -> None:
    found = json.loads(assay("status", lake, "--format", "json"))
    by_name = {run["run_id"]: run for run in found["runs"]}
    stored = runs.rows(lake, "documents", "broken-off")
    failed = by_name["broken-off"]
    assert failed["documents"] == len(stored)
    assert failed["tokens"] == sum(stored["n_tokens"].to_pylist())
    assert failed["reasons"] == {"null_text": 2, "broken_json": 1}
    assert (failed["units_done"], failed["units"], failed["share"]) == (3, 6, 0.5)
    assert failed["unjournaled"] == 0
    assert failed["seconds_left"] is None
    assert by_name["good"]["share"] == 1.0


def test_the_command_that_is_named_goes_on(model_folder: Path, lake: Path, tmp_path: Path) -> None:
    (run,) = json.loads(assay("status", lake, "--run-id", "broken-off", "--format", "json"))["runs"]
    what, _, command = run["next"].partition(", or here: ")
    assert what == "mend what the error says, then resume as it was begun (its job file, `assay submit`)"
    words = shlex.split(command)
    assert words[:2] == ["assay", "score"]
    checked = CliRunner().invoke(app, [*words[1:], "--dry-run"])
    assert "3 of 6 shards left" in unfolded(checked.output)


# Whether a run is alive


def test_a_run_that_writes_is_running_and_says_how_long(running: Lake) -> None:
    moment = Lake(running.root).read_run("broken-off")["attempt"]["started_at"]
    status = run_status(running, "broken-off", time.time())
    assert moment is not None
    assert status.state == "running"
    assert status.judged is not None
    assert "silent from 120 s on" in status.judged
    assert status.last_write_age is not None
    assert 0 <= status.last_write_age < 600
    assert status.seconds_left is None or status.seconds_left >= 0


def test_a_run_that_wrote_nothing_for_long_is_silent_never_dead(running: Lake) -> None:
    status = run_status(running, "broken-off", time.time() + 3600)
    assert status.state == "silent"
    assert status.last_write_age == pytest.approx(3600, abs=600)
    assert status.judged is not None
    assert "dead" not in status.judged


def test_before_the_first_block_a_run_may_take_its_time(running: Lake) -> None:
    status = run_status(running, "broken-off", time.time())
    assert status.last_write is not None
    began = {"attempt": {"started_at": "2099-01-01T00:00:00+00:00", "workers": 1}}
    store = ledger(Path(running.root), "broken-off", **began)
    start = 4070908800.0  # that moment
    assert run_status(store, "broken-off", start + 800).state == "running"
    assert run_status(store, "broken-off", start + 1000).state == "silent"


@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize(
    ("changes", "most_units", "basis"),
    [
        ({}, 50_000, "tokens by stored bytes, at the pace of late"),
        ({}, 0, "tokens by parts of the input, at the pace of late"),
        ({"config": {"limit": 27}}, 50_000, "records of --limit"),
    ],
)
def test_the_time_left_is_what_the_progress_line_would_say(
    changes: dict[str, Any],
    most_units: int,
    basis: str,
    earlier: int,
    running: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three of six equal files at one every ten seconds, or 15 of 27 records: thirty seconds are left. `earlier`: how
    many of the three an attempt before this one did."""
    journal = status_runs._journal(running, "broken-off")
    started = time.time() - 100
    at = [pa.scalar(int((started + 40 + 10 * i) * 1000), pa.timestamp("ms", tz="UTC")) for i in range(3)]
    at[:earlier] = [pa.scalar(int((started - 500) * 1000), pa.timestamp("ms", tz="UTC"))] * earlier
    even = journal.set_column(journal.schema.get_field_index("at"), journal.schema.field("at"), pa.array(at))
    tokens = journal.schema.get_field_index("tokens")
    even = even.set_column(tokens, journal.schema.field("tokens"), pa.array([1000] * 3))
    monkeypatch.setattr(status_runs, "_journal", lambda *_: even)
    monkeypatch.setattr("pipelines.status.left.MOST_UNITS", most_units)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(started))
    store = ledger(Path(running.root), "broken-off", attempt={"started_at": moment, "workers": 1}, **changes)
    status = run_status(store, "broken-off", started + 60)
    assert status.seconds_left == pytest.approx(30, rel=0.25)  # file 0 is longer by its broken lines
    assert status.left_by == basis
    assert status.tokens_per_second == pytest.approx((3 - earlier) * 1000 / 60, rel=0.02)  # of this attempt alone
    if not earlier:
        assert status.tokens_per_second_lately == pytest.approx(100)


def test_a_run_whose_end_is_checked_may_take_its_time(lake: Path) -> None:
    good = Lake(str(lake)).read_run("good")
    try:
        store = ledger(lake, "good", state="running", totals=None)
        last = run_status(store, "good", time.time()).last_write
        assert last is not None
        end = datetime.fromisoformat(last).timestamp()
        status = run_status(store, "good", end + 800)
        assert (status.state, status.share) == ("running", 1.0)
        assert "every part of the input is done" in str(status.judged)
        assert run_status(store, "good", end + 1000).state == "silent"
    finally:
        Lake(str(lake)).write_run("good", good)


def test_receipts_that_the_journal_does_not_name_are_counted(running: Lake) -> None:
    stray = "documents/run_id=broken-off/" + "0" * 32 + ".parquet"
    running.storage.write(stray, b"x")
    try:
        assert run_status(running, "broken-off", time.time()).unjournaled == 1
    finally:
        running.storage.delete(stray)


# What it may cost


def test_nothing_is_written_and_no_part_is_opened(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Storage, path: str, *_: Any, **__: Any) -> None:
        raise AssertionError(f"touches {path}")

    read = Storage.read

    def only_records(self: Storage, path: str) -> bytes:
        assert path.startswith(("runs/", "progress/")), path
        return read(self, path)

    for name in ("write", "write_file", "delete", "parquet", "ranges"):
        monkeypatch.setattr(Storage, name, refuse)
    monkeypatch.setattr(Storage, "read", only_records)
    assert "broken-off" in assay("status", lake)


def test_a_finished_run_costs_one_request(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Storage._ask

    def counted(self: Storage, verb: str, path: str, action: Any) -> Any:
        asked.append(f"{verb} {path}")
        return ask(self, verb, path, action)

    monkeypatch.setattr(Storage, "_ask", counted)
    assert len(run_statuses(Lake(str(lake)), ["good"] * 50, time.time())) == 50
    assert asked == ["read runs/good.json"] * 50


def test_old_finished_runs_are_counted_not_shown(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_status(Lake(str(lake)), "good", time.time())
    many = [replace(one, run_id=f"n{i:03}") for i in range(30)]
    monkeypatch.setattr(status_module, "_statuses", lambda *_: many)
    said = assay("status", lake)
    assert "and 10 older finished runs" in said
    assert "n019" in said
    assert "n020" not in said


# Odd lakes


def test_a_damaged_ledger_is_said_and_does_not_hide_the_others(lake: Path) -> None:
    (lake / "runs" / "odd.json").write_text("{")
    try:
        said = assay("status", lake)
    finally:
        (lake / "runs" / "odd.json").unlink()
    assert "odd" in said
    assert "broken" in said
    assert "good" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": "\x1b[31m"}, "state"),
        ({"seconds": "long"}, "seconds"),
        ({"totals": {"tokens": "many"}}, "totals.tokens"),
        ({"attempt": ["x"]}, "attempt"),
        ({"attempt": {"workers": "two"}}, "attempt.workers"),
        ({"survey": {"units": "3"}}, "survey.units"),
        ({"config": {"limit": "x"}}, "config.limit"),
        ({"config": {"features": 5}}, "config.features"),
        ({"config": ["x"]}, "config"),
        ({"created_at": 7}, "created_at"),
        ({"finished_at": "\x1b]0;x\x07"}, "finished_at"),
    ],
)
def test_a_ledger_of_another_shape_does_not_hide_the_others(lake: Path, changed: dict[str, Any], said: str) -> None:
    store = Lake(str(lake))
    store.write_run("odd", {**store.read_run("broken-off"), **changed})
    try:
        table, found = assay("status", lake), json.loads(assay("status", lake, "--format", "json"))
    finally:
        (lake / "runs" / "odd.json").unlink()
    assert "\x1b" not in table
    assert "\x07" not in table
    states = {run["run_id"]: (run["state"], run["error"]) for run in found["runs"]}
    assert states["good"][0] == "finished"
    assert states["odd"][0] == "broken"
    assert states["odd"][1].startswith(f"its ledger cannot be read: {said}")


def test_parts_without_a_ledger_are_not_passed_over(lake: Path) -> None:
    stray = lake / "documents" / "run_id=lost" / f"{'0' * 32}.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    try:
        said = assay("status", lake)
    finally:
        stray.unlink()
        stray.parent.rmdir()
    assert "lost: it has parts in the lake, and no ledger" in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("lost ")]
    assert row == ["lost", "broken"]  # not that it holds no document


def test_a_run_that_is_removed_meanwhile_is_left_out(lake: Path) -> None:
    found = run_statuses(Lake(str(lake)), ["good", "removed", "broken-off"], time.time())
    assert [status.run_id for status in found] == ["good", "broken-off"]


def test_lines_of_an_error_are_not_lines_of_ours(running: Lake) -> None:
    ledger(Path(running.root), "broken-off", state="failed", error="disk\ngood: all is well")
    assert "broken-off: disk\n    good: all is well\n" in assay("status", running.root)


def test_what_a_good_night_has_left_is_not_under_way(lake: Path) -> None:
    store = Lake(str(lake))
    left = [f"nights/web/2026-11-20.{suffix}" for suffix in ("json", "open.parquet")]
    for path in left:
        store.storage.write(path, b"{}")
    try:
        said = assay("status", lake)
    finally:
        for path in left:
            store.storage.delete(path)
    assert "nightly web: last good night 2026-11-20\n" in said


def test_the_run_of_a_night_is_gone_on_with_by_its_night(lake: Path) -> None:
    """Its job names all the input, of which the night has taken some shards: `assay score` would take them all."""
    store = Lake(str(lake))
    store.write_run("web-2026-11-21", store.read_run("broken-off"))
    store.storage.write("nights/web/2026-11-21.open.parquet", b"")
    try:
        runs = json.loads(assay("status", lake, "--format", "json"))["runs"]
        (one,) = json.loads(assay("status", lake, "--format", "json", "--run-id", "web-2026-11-21"))["runs"]
    finally:
        store.storage.delete("nights/web/2026-11-21.open.parquet")
        store.storage.delete("runs/web-2026-11-21.json")
    following = {run["run_id"]: run["next"] for run in runs}
    assert one["next"] == following["web-2026-11-21"]
    assert one["next"] == (
        "mend what the error says, then resume: `assay nightly` with the job file of web goes on with this night, and "
        "with --abandon 2026-11-21 gives it up"
    )
    assert "assay score" in following["broken-off"]


def test_nights_are_a_line_each(lake: Path) -> None:
    store = Lake(str(lake))
    for name in ("2026-11-18.json", "2026-11-20.json", "2026-11-21.open.parquet"):
        store.storage.write(f"nights/web/{name}", b"{}")
    try:
        assert "nightly web: last good night 2026-11-20, under way or broken off: 2026-11-21" in assay("status", lake)
    finally:
        for name in ("2026-11-18.json", "2026-11-20.json", "2026-11-21.open.parquet"):
            store.storage.delete(f"nights/web/{name}")


def test_what_is_not_there_is_said(lake: Path, tmp_path: Path) -> None:
    for words, said in (
        (["status", str(tmp_path)], "no lake at"),
        (["status", str(lake), "--run-id", "nope"], "no run 'nope'"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert said in unfolded(result.output)


def test_watching_ends_with_the_run(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks at a run under way, then it is finished."""
    store = Lake(str(lake))
    good = run_status(store, "good", time.time())
    looks = iter([[replace(good, state="running")], [replace(good, state="silent")], [good]])
    monkeypatch.setattr(status_module, "_statuses", lambda *_: next(looks))
    monkeypatch.setattr(status_module, "EVERY", 0.0)
    said = assay("status", lake, "--watch")
    assert [word for word in said.split() if word in ("running", "silent", "finished")] == [
        "running", "silent", "finished",
    ]  # fmt: skip


def look(*statuses: RunStatus, run_id: str | None = None) -> status_module.Look:
    return status_module.Look("/lake", run_id, statuses, [JobStatus("web", None, None)])


def test_a_run_that_is_removed_while_it_is_watched_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    status_module._print(look(run_id="monday"))
    assert capsys.readouterr().out == "run monday has been removed\n"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_folds_no_number_and_no_command(
    lake: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = RunStatus(
        "web-2026-11-21", "running", documents=123_456_789, tokens=123_456_789_012, rejects=1_234_567, share=0.5,
        tokens_per_second=1_234_567.0, tokens_per_second_lately=1_234_567.0, seconds_left=7500.0, last_write_age=3.0,
    )  # fmt: skip
    failed = run_status(Lake(str(lake)), "broken-off", time.time())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status_module._print(look(large, failed))
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines[:3])
    for number in ("123,456,789", "123,456,789,012", "2 h 05 min"):
        assert number in lines[1]
    (command,) = [line for line in lines if "assay score" in line]
    assert "--lake /lake" in command


def test_an_interrupt_is_no_success(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_module, "_statuses", stop)
    assert CliRunner().invoke(app, ["status", str(lake)]).exit_code == 130


def test_ctrl_c_ends_watching_well(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_module, "_statuses", stop)
    assert assay("status", lake, "--watch") == ""


def test_a_resume_command_says_what_differs_from_the_defaults() -> None:
    from jobs.commands import resume_command

    config = ScoreConfig.parse(
        model="m", input=["a b.jsonl", "c.jsonl"], lake="lake", run_id="r", text_template="{a}\n{b}", drop_text=True,
        features="topk,renyi", limit=5, engine="inline",
    )  # fmt: skip
    assert resume_command(config.public()) == (
        "assay score --model m --input 'a b.jsonl' --input c.jsonl --lake lake --run-id r "
        r"--text-template '{a}\n{b}' --limit 5 --features renyi,topk --drop-text --engine inline"
    )
