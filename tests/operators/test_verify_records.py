"""Nothing is there twice: a doc_id in two parts, a record with two verdicts, whatever the size of a pass."""

from __future__ import annotations

from pathlib import Path

import lakes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.lake import Lake
from operators.verify import Fault, Kind, records, verify
from operators.write import PartWriter, WriteOptions

ROWS_IN = 8


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=())
    return lake


def add(lake: Lake, *more: dict[str, object]) -> str:
    """Write one more block and have the ledger count it; returns the path of its part."""
    [manifest] = lakes.write_records(PartWriter(WriteOptions(lake, lakes.RUN)), list(more))
    ledger = lake.read_run(lakes.RUN)
    totals = {name: value + manifest.get(name, len(more)) for name, value in ledger["totals"].items()}
    lake.write_run(lakes.RUN, {**ledger, "totals": totals})
    table, name = ("documents", manifest["part"]) if manifest["part"] else ("rejects", manifest["rejects_part"])
    return f"{table}/run_id={lakes.RUN}/{name}.parquet"


def reject(source: str, row: int) -> dict[str, object]:
    return {"source": source, "row": row, "reason": "null_text"}


def document(source: str, row: int, key: str) -> dict[str, object]:
    return {**lakes.document("another text", row, ()), "source": source, "key": key}


def only(faults: list[Fault]) -> Fault:
    [fault] = faults
    return fault


@pytest.fixture(params=[1, 3, 1 << 24])
def per_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(records, "HASHES_PER_PASS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("per_pass")
def test_further_records_are_sound(lake: Lake) -> None:
    add(lake, reject("s", 100), reject("t", 0), document("t", 3, "new"))
    assert verify(lake) == []


@pytest.mark.usefixtures("per_pass")
def test_a_record_rejected_in_two_parts_is_found(lake: Lake) -> None:
    path = add(lake, reject("s", 3), reject("u", 0))
    fault = only(verify(lake))
    assert fault.kind == Kind.RECORD
    assert "record 3 of 's' has 2 verdicts" in fault.message
    others = {p.path for p in lake.parts("rejects", lakes.RUN)}
    assert {fault.where, fault.message.rpartition(" ")[2]} <= others
    assert path in (fault.where, fault.message.rpartition(" ")[2])


@pytest.mark.usefixtures("per_pass")
def test_a_whole_file_rejected_twice_is_found(lake: Lake) -> None:
    add(lake, reject("t", -1), reject("u", 0))
    assert "record -1 of 't' has 2 verdicts" in only(verify(lake)).message


@pytest.mark.usefixtures("per_pass")
def test_a_record_both_document_and_reject_is_found(lake: Lake) -> None:
    path = add(lake, reject("s", 0))
    fault = only(verify(lake))
    assert (fault.kind, fault.where, fault.run_id) == (Kind.RECORD, path, lakes.RUN)
    assert "also in documents/" in fault.message


@pytest.mark.usefixtures("per_pass")
def test_a_record_that_is_two_documents_is_found(lake: Lake) -> None:
    add(lake, document("s", 0, "another key"))
    assert only(verify(lake)).kind == Kind.RECORD


def test_runs_are_apart(lake: Lake) -> None:
    lakes.write_run(lake, "other", features=())
    assert verify(lake) == []


def test_only_the_first_are_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_NAMED", 2)
    add(lake, *(reject("s", row) for row in range(5)), reject("u", 0))
    faults = verify(lake)
    assert [f.kind for f in faults] == [Kind.RECORD] * 3
    assert [f.message for f in faults][-1] == "about 3 more records have more than one verdict"


def test_records_of_one_hash_are_compared_themselves(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "record_hashes", lambda rows: np.full(rows.num_rows, 7, np.int64))
    assert verify(lake) == []
    add(lake, reject("s", 0))
    assert "record 0 of 's'" in only(verify(lake)).message


def hashes(rows: list[tuple[str, int]]) -> list[int]:
    columns = {"source": pa.array([s for s, _ in rows], pa.string()), "row": pa.array([r for _, r in rows], pa.int64())}
    return [int(value) for value in records.record_hashes(pa.table(columns))]


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(-1, 2**63 - 1)), min_size=1, unique=True))
def test_a_hash_is_of_the_record_alone(rows: list[tuple[str, int]]) -> None:
    together = hashes(rows)
    assert all(0 <= value < 2**63 for value in together)
    assert len(set(together)) == len(rows)
    assert hashes(rows[::-1]) == together[::-1]
    assert hashes(rows[:1]) == together[:1]
    assert hashes([]) == []


def test_hashes_spread_over_their_range() -> None:
    values = np.array(hashes([(f"s{i % 7}", i // 7) for i in range(40_000)]))
    counts, _ = np.histogram(values, bins=16, range=(0, 2.0**63))
    assert (abs(counts - 2500) < 6 * 2500**0.5).all()
