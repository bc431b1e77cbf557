"""The journal: what it says is done is done, whatever was killed in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from operators.lake import Lake, Part
from pipelines import journal as journal_module
from pipelines.journal import Journal


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def name(unit: int, block: int) -> str:
    return f"{unit:016x}{block:016x}"


def row(unit: int, block: int, *, is_last: bool = False, rejects: int = 0) -> dict[str, Any]:
    return {"unit": unit, "block": block, "is_last": is_last, "part": name(unit, block), "rows_in": 3 + rejects,
            "rejects_part": name(block, unit) if rejects else None, "documents": 3, "rejects": rejects,
            "unreadable": 0, "tokens": 30, "scored": 27, "text_bytes": 100, "extra": "ignored"}  # fmt: skip


def put(lake: Lake, entry: dict[str, Any]) -> None:
    """Objects of the names that a block has; the journal never opens them."""
    for table, column in (("tokens", "part"), ("documents", "part"), ("rejects", "rejects_part")):
        if entry[column]:
            lake.storage.write(Part(table, "run", entry[column]).path, b"x")


def filled(lake: Lake, *entries: dict[str, Any]) -> Journal:
    journal = Journal.open(lake, "run")
    for entry in entries:
        put(lake, entry)
        journal.add(entry)
    journal.flush()
    return journal


def test_a_unit_is_finished_when_all_its_blocks_are(lake: Lake) -> None:
    filled(lake, row(0, 1, is_last=True), row(0, 0), row(1, 0), row(2, 3, is_last=True), row(4, 0, is_last=True))
    done = Journal.open(lake, "run").done()
    assert done.finished == {0, 4}
    assert done.blocks == {1: {0}, 2: {3}}
    assert done.counts["documents"] == 15


def test_unflushed_rows_count_in_this_process_only(lake: Lake) -> None:
    journal = Journal.open(lake, "run")
    put(lake, row(0, 0, is_last=True))
    journal.add(row(0, 0, is_last=True))
    assert journal.done().finished == {0}
    assert Journal.open(lake, "run").done().finished == set()
    journal.flush()
    assert Journal.open(lake, "run").done().finished == {0}


def test_rows_are_stored_as_time_passes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    journal = Journal.open(lake, "run")
    put(lake, row(0, 0))
    journal.add(row(0, 0))
    assert Journal.open(lake, "run").done().blocks == {0: {0}}


@pytest.mark.parametrize("table", ["tokens", "documents", "rejects"])
def test_a_block_whose_part_is_gone_is_not_done(lake: Lake, table: str) -> None:
    entries = [row(0, 0, rejects=1), row(0, 1, is_last=True, rejects=1)]
    filled(lake, *entries)
    column = "rejects_part" if table == "rejects" else "part"
    lake.storage.delete(Part(table, "run", entries[1][column]).path)
    journal = Journal.open(lake, "run")
    assert journal.done().finished == set()
    assert journal.done().blocks == {0: {0}}
    assert journal.forget_lost() == 1
    assert Journal.open(lake, "run").part_names("documents") == {name(0, 0)}


def test_segments_are_merged_and_nothing_is_lost(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "MAX_SEGMENTS", 4)
    journal = Journal.open(lake, "run")
    for unit in range(23):
        put(lake, row(unit, 0, is_last=True))
        journal.add(row(unit, 0, is_last=True))
        assert len(lake.storage.list("progress/run_id=run")) <= 5
        assert Journal.open(lake, "run").done().finished == set(range(unit + 1))
    assert Journal.open(lake, "run").done().counts["documents"] == 69


def test_a_kill_between_merging_and_deleting_counts_nothing_twice(lake: Lake) -> None:
    filled(lake, row(0, 0, is_last=True))
    again = Journal.open(lake, "run")
    again._write(7, again._rows)
    done = Journal.open(lake, "run").done()
    assert done.counts["documents"] == 3
    assert done.finished == {0}


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really", None])
def test_a_damaged_segment_means_work_again_not_a_crash(
    lake: Lake, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    filled(lake, row(0, 0, is_last=True))
    path = "progress/run_id=run/journal-00000001.parquet"
    whole = lake.storage.read(path)
    lake.storage.write(path, whole[: len(whole) // 2] if damage is None else damage)
    assert Journal.open(lake, "run").done().finished == set()
    assert "damaged" in caplog.text


def test_units_can_be_forgotten(lake: Lake) -> None:
    journal = filled(lake, row(0, 0, is_last=True), row(1, 0, is_last=True))
    journal.drop_units([0])
    assert Journal.open(lake, "run").done().finished == {1}
    journal.clear()
    assert len(Journal.open(lake, "run")) == 0
    assert lake.storage.list("progress/run_id=run") == []


def test_a_block_written_again_counts_once(lake: Lake) -> None:
    journal = filled(lake, row(0, 0, is_last=True))
    journal.add(row(0, 0, is_last=True))
    assert journal.done().counts["documents"] == 3
