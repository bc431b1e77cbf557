"""What `assay verify` says of overlaps: nothing of a sound one, and of a damaged one what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import overlaps
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.lake import Lake, overlap_job_path, overlap_path, overlap_progress, overlap_rejects_path
from operators.verify import verify
from schemas import OVERLAP_TABLES


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    world = overlaps.make_world(folder / "world")
    (world.corpus / "bad.jsonl").write_text("no json\n")
    overlaps.run(world, folder / "lake")
    assert verify(Lake(str(folder / "lake"))) == []
    return folder / "lake"


@pytest.fixture
def lake(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "lake")
    return tmp_path / "lake"


def faults(lake: Path) -> list[tuple[str, str]]:
    return [(str(fault.kind), fault.message) for fault in verify(Lake(str(lake)))]


def change(lake: Path, table: str, column: str, new: Callable[[np.ndarray], object]) -> None:
    """Put other values into a column of a stored table."""
    path = lake / overlap_path(table, "bench")
    rows = pq.read_table(path, partitioning=None)
    place = rows.schema.get_field_index(column)
    values = pa.array(new(rows[column].to_numpy().copy()), rows.schema.field(place).type)
    pq.write_table(rows.set_column(place, rows.schema.field(place), values).cast(rows.schema), path)


def first(values: np.ndarray, value: object) -> np.ndarray:
    values[0] = value
    return values


@pytest.mark.parametrize(
    ("table", "column", "new", "kind", "said"),
    [
        ("overlap_items", "item_id", lambda v: first(v, v[0] + 1), "identity", "item_id is not the hash of key"),
        ("overlap_items", "n_seen", lambda v: first(v, 99), "count", "more n-grams are seen than there are"),
        ("overlap_items", "longest_match", lambda v: 0 * v, "count", "n-grams are seen, but no match is"),
        ("overlap_items", "n_documents", lambda v: 0 * v, "count", "n-grams are seen, but no match is, or no document"),
        ("overlap_items", "share_seen", lambda v: first(v, 0.123), "value", "share_seen is not"),
        ("overlap_items", "part", lambda v: np.where(v == "across", "beyond", v), "value", "a part that is none"),
        ("overlap_items", "row", lambda v: first(v, -2), "value", "-2 is below 0"),
        ("overlap_spans", "n_bytes", lambda v: first(v, 1), "span", "n_bytes is not the length of the text"),
        ("overlap_spans", "item_id", lambda v: first(v, 7), "identity", "overlap_items does not have"),
        ("overlap_spans", "doc_id", lambda v: v[::-1], "order", "rows are out of order"),
        ("decontamination", "n_bytes", lambda v: first(v, 10**6), "span", "a stretch ends after its document"),
        ("decontamination", "doc_id", lambda v: first(v, 3), "identity", "doc_id is not the hash of key"),
    ],
)
def test_values_that_are_not_what_they_should_be(
    lake: Path, table: str, column: str, new: Callable[[np.ndarray], object], kind: str, said: str
) -> None:
    change(lake, table, column, new)
    found = faults(lake)
    assert any(k == kind and said in message for k, message in found), found


def test_a_table_that_is_missing_cut_or_of_another_kind(lake: Path) -> None:
    items, spans, cuts = (lake / overlap_path(table.name, "bench") for table in OVERLAP_TABLES)
    spans.unlink()
    cuts.write_bytes(cuts.read_bytes()[:-20])
    pq.write_table(pa.table({"x": [1]}), items)
    assert sorted(kind for kind, _ in faults(lake)) == ["schema", "twin", "unreadable"]


def test_rows_that_are_gone_are_missed(lake: Path) -> None:
    path = lake / overlap_path("decontamination", "bench")
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)
    found = faults(lake)
    assert any(kind == "total" and message.startswith(f"cuts is {len(rows)}") for kind, message in found), found


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda job: job["totals"].update(rows_in=1), "total", "rows_in is 1"),
        (lambda job: job["totals"].update(items=1), "total", "items is 1"),
        (lambda job: job["totals"].update(rejects=2), "total", "3 records were rejected, 1 are listed"),
        (lambda job: job.update(overlap="other"), "ledger", "is the job of overlap 'other'"),
        (lambda job: job.pop("totals"), "ledger", "is no job of an overlap"),
    ],
)
def test_a_job_that_says_other_things(lake: Path, change: Callable[[dict], object], kind: str, said: str) -> None:  # type: ignore[type-arg]
    path = lake / overlap_job_path("bench")
    job = json.loads(path.read_text())
    change(job)
    if said.startswith("3 records"):
        job["totals"]["rejects"], job["totals"]["rows_in"] = 3, job["totals"]["documents"] + 3
    path.write_text(json.dumps(job))
    found = faults(lake)
    assert any(k == kind and said in message for k, message in found), found


def test_tables_without_a_job_never_ended(lake: Path) -> None:
    (lake / overlap_job_path("bench")).unlink()
    ((kind, message),) = faults(lake)
    assert (kind, message) == ("ledger", "is missing: the tables beside it are of an overlap that never ended")


def test_foreign_names_and_what_was_left_are_told(lake: Path) -> None:
    job = lake / overlap_job_path("bench")
    progress = lake / overlap_progress("other")
    (progress / "matches").mkdir(parents=True)
    (progress / "matches" / "00000000.parquet").write_bytes(b"")
    (progress / "matches" / "x.parquet").write_bytes(b"")
    (job.parent / "notes.txt").write_bytes(b"")
    (job.parent / f".job.json.{'0' * 32}.tmp").write_bytes(b"")
    (lake / "overlap_spans" / "overlap=..").mkdir()
    (lake / "decontamination" / "progress").mkdir()
    found = sorted((str(fault.kind), fault.where) for fault in verify(Lake(str(lake))))
    assert found == [
        ("foreign", "decontamination/progress/"),
        ("foreign", "overlap_items/overlap=bench/notes.txt"),
        ("foreign", f"{overlap_progress('other')}/matches/x.parquet"),
        ("foreign", "overlap_spans/overlap=../"),
        ("temporary", f"overlap_items/overlap=bench/.job.json.{'0' * 32}.tmp"),
        ("temporary", overlap_progress("other")),
    ]
    assert (lake / overlap_rejects_path("bench")).exists()
