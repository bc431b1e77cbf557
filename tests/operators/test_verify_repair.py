"""Repair drops what unfinished writes left, and nothing else ever; the layout that it and verify know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lakes
import pytest
import s3
from lakes import RUN, content, kinds

from operators.lake import Lake, Part
from operators.parquet import encode
from operators.verify import Fault, Kind, Repair, repair, verify
from schemas import REJECTS

HEX = "0" * 32
PROGRESS = f"progress/run_id={RUN}"
JOURNAL = "journal-00000001.parquet"
KEPT = (
    JOURNAL,
    "journal-12345678.parquet",
    "repeats-00000001.parquet",
    "shards.parquet",
    "units.parquet",
    "claims.json",
)
STRANGERS = (
    "journal-1.parquet",
    "repeats.parquet",
    f"{JOURNAL}.bak",
    "notes.txt",
    "shards.json",
    "claims.json.parquet",
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=())
    for name in KEPT:
        lake.storage.write(f"{PROGRESS}/{name}", b"x")
    return lake


def leave(lake: Lake, run_id: str = RUN) -> list[str]:
    """What a killed driver leaves: a tokens part without its receipt, and temporary files everywhere."""
    tokens = lake.parts("tokens", run_id) or lake.parts("tokens", RUN)
    orphan = Part("tokens", run_id, "f" * 32)
    lake.storage.write(orphan.path, lake.storage.read(tokens[0].path))
    folders = [f"{table}/run_id={run_id}" for table in ("tokens", "documents", "rejects")]
    temporaries = [f"{folder}/.{HEX}.parquet.{HEX}.tmp" for folder in folders]
    temporaries += [f"progress/run_id={run_id}/.claims.json.{HEX}.tmp", f"runs/.{run_id}.json.{HEX}.tmp"]
    for path in temporaries:
        lake.storage.write(path, b"half")
    return sorted([orphan.path, *temporaries])


def set_state(lake: Lake, state: Any, run_id: str = RUN) -> None:
    lake.write_run(run_id, {**lake.read_run(run_id), "state": state})


# The layout


def test_a_record_of_progress_is_part_of_the_layout(lake: Lake) -> None:
    assert verify(lake) == verify(lake, RUN) == []


def test_strangers_among_the_progress_are_found(lake: Lake) -> None:
    for name in STRANGERS:
        lake.storage.write(f"{PROGRESS}/{name}", b"x")
    lake.storage.write("progress/notes.txt", b"x")
    lake.storage.write("progress/run_id=.x/shards.parquet", b"x")
    faults = verify(lake)
    assert kinds(faults) == {"foreign"}
    expected = {*(f"{PROGRESS}/{name}" for name in STRANGERS), "progress/notes.txt", "progress/run_id=.x/"}
    assert {fault.where for fault in faults} == expected
    assert {fault.where for fault in verify(lake, RUN)} == {f"{PROGRESS}/{name}" for name in STRANGERS}


def test_progress_of_a_run_without_a_ledger_is_found(lake: Lake) -> None:
    lake.storage.write("progress/run_id=gone/shards.parquet", b"x")
    [fault] = verify(lake)
    assert (fault.kind, fault.run_id) == (Kind.LEDGER, "gone")


def test_every_leftover_is_found(lake: Lake) -> None:
    left = leave(lake)
    faults = verify(lake)
    assert kinds(faults) == {"temporary", "orphan"}
    assert sorted(fault.where for fault in faults) == left
    assert verify(lake, RUN) == faults


def test_a_first_ledger_that_was_never_finished_is_found(lake: Lake) -> None:
    path = f"runs/.never.json.{HEX}.tmp"
    lake.storage.write(path, b"{")
    [fault] = verify(lake)
    assert (fault.kind, fault.where) == (Kind.TEMPORARY, path)


# Repair


@pytest.mark.parametrize("run_id", [None, RUN])
@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_repair_drops_leftovers_and_nothing_else(lake: Lake, run_id: str | None, state: str) -> None:
    set_state(lake, state)
    before = content(lake)
    left = leave(lake)
    done = repair(lake, run_id)
    assert (sorted(done.removed), done.skipped) == (left, [])
    assert content(lake) == before
    assert verify(lake) == []
    assert repair(lake, run_id) == Repair([], [])


def test_repair_leaves_what_only_verify_may_judge(lake: Lake) -> None:
    """Broken parts, strangers and lost twins are for a person to decide on."""
    lake.storage.write(f"{PROGRESS}/notes.txt", b"x")
    lake.storage.write("tokens/notes.txt", b"x")
    lake.storage.write(lake.parts("rejects", RUN)[0].path, b"broken")
    lake.storage.delete(lake.parts("tokens", RUN)[0].path)
    before = content(lake)
    assert repair(lake) == repair(lake, RUN) == Repair([], [])
    assert content(lake) == before


@pytest.mark.parametrize("ledger", ["running", None, 3, "missing", "broken"])
def test_a_run_that_may_be_written_is_left_alone_until_it_is_named(lake: Lake, ledger: Any) -> None:
    lakes.write_run(lake, "other", features=())
    left, others = leave(lake), leave(lake, "other")
    if ledger == "missing":
        lake.storage.delete(f"runs/{RUN}.json")
    elif ledger == "broken":
        lake.storage.write(f"runs/{RUN}.json", b"{")
    else:
        set_state(lake, ledger)
    done = repair(lake)
    assert (sorted(done.removed), done.skipped) == (others, [RUN])
    assert all(lake.storage.exists(path) for path in left)
    assert sorted(repair(lake, RUN).removed) == left
    assert repair(lake) == Repair([], [RUN])


def test_repair_of_an_unknown_run_and_of_an_empty_lake_does_nothing(lake: Lake, tmp_path: Path) -> None:
    before = content(lake)
    assert repair(lake, "unknown") == repair(Lake(str(tmp_path / "nothing"))) == Repair([], [])
    assert content(lake) == before


@pytest.mark.parametrize("run_id", ["..", "a/b", "", "r/../../x"])
def test_a_hostile_run_id_is_refused(lake: Lake, run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        repair(lake, run_id)


def test_a_folder_that_leads_out_of_the_lake_is_left_alone(lake: Lake, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    stranger = outside / f".x.{HEX}.tmp"
    stranger.write_bytes(b"x")
    (Path(lake.root) / "tokens" / "run_id=linked").symlink_to(outside)
    lake.write_run("linked", {"run_id": "linked", "state": "failed"})
    left = leave(lake)
    done = repair(lake)
    assert (sorted(done.removed), done.skipped) == (left, ["linked"])
    assert stranger.exists()
    with pytest.raises(ValueError, match="leads out"):
        repair(lake, "linked")
    assert stranger.exists()


# Object storage


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "root"
    (root / "bucket").mkdir(parents=True)
    with s3.server(root) as server:
        yield server


def test_a_lake_in_a_bucket_is_verified_and_repaired(bucket: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    lake = Lake("s3://bucket/lake", bucket.options)
    lakes.write_run(lake)
    lake.storage.write(f"{PROGRESS}/claims.json", json.dumps({}).encode())
    assert verify(lake) == []
    orphan = Part("tokens", RUN, "f" * 32)
    lake.storage.write(orphan.path, lake.storage.read(lake.parts("tokens", RUN)[0].path))
    lake.storage.write(f"{PROGRESS}/notes.txt", b"x")
    part = lakes.first_part(lake, "rejects")
    spoiled = lakes.put("reason", lakes.at(0, "bad_mood"))(lakes.read(lake, part))
    lake.storage.write(part.path, encode(spoiled, REJECTS))
    [foreign, orphaned, reason] = verify(lake)
    assert foreign == Fault(Kind.FOREIGN, RUN, f"{PROGRESS}/notes.txt", "not a file that a run keeps of its progress")
    assert (orphaned.kind, orphaned.where) == (Kind.ORPHAN, orphan.path)
    assert (reason.kind, reason.where) == (Kind.REASON, part.path)
    damaged = bytearray(lake.storage.read(lakes.first_part(lake, "documents").path))
    damaged[40] ^= 1
    lake.storage.write(lakes.first_part(lake, "documents").path, bytes(damaged))
    [unreadable] = [fault for fault in verify(lake) if fault.kind == Kind.UNREADABLE]
    assert s3.SECRET not in str(unreadable)
    assert repair(lake).removed == [orphan.path]
    assert not lake.storage.exists(orphan.path)
