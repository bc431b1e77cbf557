"""Repeats beside a journal: the reader of a unit gets its own, and fetches no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from operators.lake import Lake
from operators.pieces import Piece
from operators.repeats import KEYS
from operators.shards import Shard
from operators.storage import Storage
from pipelines import repeats
from pipelines.repeats import find_repeats, read_repeats, stored_repeats
from pipelines.units import Unit
from schemas.rejects import Reason

PATH = "progress/run_id=run/repeats-00000000.parquet"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Forty units of two records each; the second of every unit has the id of the first one of all."""
    monkeypatch.setattr(repeats, "ROWS_PER_GROUP", 4)
    lake = Lake(str(tmp_path / "lake"))
    rows = [(unit, 0, row, -1 if row else unit, 7) for unit in range(40) for row in (0, 1)]
    keys = pa.table(dict(zip(KEYS.names, zip(*rows, strict=True), strict=True)), schema=KEYS)
    units = [Unit(unit, (Piece(Shard(f"/in/{unit}.jsonl", "jsonl", 1)),)) for unit in range(40)]
    assert find_repeats(lake, "run", units, [keys]) == dict.fromkeys(range(1, 40), (0,))
    return lake


def test_each_unit_gets_its_own(lake: Lake) -> None:
    assert stored_repeats(lake, "run", 1) == dict.fromkeys(range(1, 40), (0,))
    for unit in range(1, 40):
        assert dict(read_repeats(lake, "run", unit, (0,))) == {
            (f"/in/{unit}.jsonl", 1): (Reason.DUPLICATE_KEY, "/in/0.jsonl#1 has the same key and comes first")
        }
    assert dict(read_repeats(lake, "run", 0, (0,))) == {}
    assert dict(read_repeats(lake, "run", 5, ())) == {}


def test_only_row_groups_of_the_unit_are_fetched(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    original = repeats.pq.ParquetFile.read_row_groups

    def counted(file: object, groups: list[int]) -> pa.Table:
        asked.append(groups)
        return original(file, groups)

    monkeypatch.setattr(repeats.pq.ParquetFile, "read_row_groups", counted)
    assert len(read_repeats(lake, "run", 6, (0,))) == 1
    assert asked == [[1]]  # rows of units 5 to 8


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 not really"])
def test_without_its_file_a_reader_does_not_go_on(lake: Lake, damage: bytes | None) -> None:
    storage: Storage = lake.storage
    storage.delete(PATH) if damage is None else storage.write(PATH, damage)
    with pytest.raises(FileNotFoundError, match="repeat the command"):
        read_repeats(lake, "run", 1, (0,))
    assert stored_repeats(lake, "run", 1) is None
