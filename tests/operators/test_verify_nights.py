"""`assay verify` of nights: a sound lake of two nights, and every way to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import lakes
import pytest

from operators.lake import Lake
from operators.verify import Kind, verify
from pipelines.nightly.book import Book
from pipelines.nightly.night import Night
from pipelines.nightly.shards import Known, counts, keep_list

OLD, LAST = date(2026, 11, 1), date(2026, 11, 2)
GOOD, LIST = "nights/web/2026-11-02.json", "night_shards/night=web-2026-11-02"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two nights: one whose run retention took, one whose run is there."""
    lake = Lake(str(tmp_path))
    lakes.write_run(lake, "web-2026-11-02")
    book = Book(lake, "web")
    before = Known("new", 1, "t", "web-2026-11-01", "2026-11-01")
    now = Known("changed", 2, "u", "web-2026-11-02", "2026-11-02")
    for day, shards, gone in ((OLD, {"s": before}, ()), (LAST, {"s": now}, ("web-2026-11-01",))):
        keep_list(lake, "web", day, shards)
        found = counts(each.state for each in shards.values())
        night = Night("web", day, f"web-{day}", "finished", found, removed_runs=gone)
        book.finish(night, "<p>", "#", {"night": night.record(), "exit_code": 0})
    return lake


def edit(lake: Lake, path: str, change: Callable[[dict[str, Any]], Any]) -> None:
    summary = json.loads(lake.storage.read(path))
    change(summary["night"])
    lake.storage.write(path, json.dumps(summary).encode())


def test_a_sound_lake_has_no_faults(lake: Lake) -> None:
    assert verify(lake) == []


@pytest.mark.parametrize(
    ("spoil", "kind", "where"),
    [
        (lambda lake: lake.storage.write(GOOD, b"{"), Kind.LEDGER, GOOD),
        (lambda lake: lake.storage.write(GOOD, b"[]"), Kind.LEDGER, GOOD),
        (lambda lake: edit(lake, GOOD, lambda night: night.update(name="other")), Kind.LEDGER, GOOD),
        (lambda lake: edit(lake, GOOD, lambda night: night.update(removed_runs=[])), Kind.TWIN, "2026-11-01.json"),
        (lambda lake: edit(lake, GOOD, lambda night: night["shards"].update(new=1)), Kind.COUNT, LIST),
        (lambda lake: edit(lake, GOOD, lambda night: night.update(run_id="r")), Kind.VALUE, LIST),
        (lambda lake: lake.remove_run("web-2026-11-02"), Kind.TWIN, GOOD),
        (lambda lake: lake.write_run("web-2026-11-02", {**lake.read_run("web-2026-11-02"), "state": "running"}),
         Kind.STALE, GOOD),
        (lambda lake: lake.storage.delete("nights/web/2026-11-02.html"), Kind.TWIN, "2026-11-02.html"),
        (lambda lake: lake.storage.delete("nights/web/2026-11-01.json"), Kind.LEDGER, "2026-11-01.json"),
        (lambda lake: [lake.storage.delete(f"{LIST}/{name}") for name in lake.storage.list(LIST)], Kind.TWIN, LIST),
        (lambda lake: keep_list(lake, "web", date(2026, 11, 9), {}), Kind.LEDGER, "night=web-2026-11-09"),
        (lambda lake: keep_list(lake, "web", LAST, {"s": Known("changed", 2, "u", "web-2026-11-02", "2026-11-01")}),
         Kind.VALUE, LIST),
        (lambda lake: lake.storage.write("nights/web/2026-11-02.open.parquet", b""), Kind.TEMPORARY, ".open.parquet"),
        (lambda lake: lake.storage.write("nights/web/note.txt", b""), Kind.FOREIGN, "note.txt"),
        (lambda lake: lake.storage.write("nights/web/lock/x.json", b""), Kind.FOREIGN, "lock/x.json"),
        (lambda lake: lake.storage.write("nights/stray", b""), Kind.FOREIGN, "nights/stray"),
        (lambda lake: lake.storage.write(f"nights/web/.2026-11-02.json.{'0' * 32}.tmp", b""), Kind.TEMPORARY, ".tmp"),
    ],
)  # fmt: skip
def test_every_spoiled_night_is_found(lake: Lake, spoil: Callable[[Lake], Any], kind: Kind, where: str) -> None:
    spoil(lake)
    found = [fault for fault in verify(lake) if fault.kind is kind and where in fault.where]
    assert found, [str(fault) for fault in verify(lake)]


def test_a_night_under_way_is_no_fault(lake: Lake) -> None:
    book = Book(lake, "web")
    book.begin(Night("web", date(2026, 11, 3), None), [])
    lake.storage.write(f"nights/web/lock/{'a' * 32}.json", b"{}")
    keep_list(lake, "web", date(2026, 11, 3), {})
    assert verify(lake) == []
