"""Units tile the input in order, whatever the sizes of its files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.lake import Lake
from operators.shards import Shard
from pipelines import units
from pipelines.units import cut, read_units, write_units

SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def small_sizes() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "UNIT_BYTES", 100)
        patch.setattr(units, "UNIT_FILES", 5)
        patch.setattr(units, "PIECE_BYTES", 120)
        yield


def shards(sizes: list[int]) -> list[Shard]:
    return [Shard(f"/in/{place:03}.jsonl", "jsonl", size) for place, size in enumerate(sizes)]


@settings(deadline=None)
@given(SIZES)
def test_units_tile_the_input_in_order(sizes: list[int]) -> None:
    made = cut(shards(sizes))
    assert [unit.index for unit in made] == list(range(len(made)))
    pieces = [piece for unit in made for piece in unit.pieces]
    assert list(dict.fromkeys(piece.shard for piece in pieces)) == shards(sizes)
    for shard in shards(sizes):
        ends = [(piece.start, piece.stop) for piece in pieces if piece.shard == shard]
        assert ends[0][0] == 0
        assert ends[-1][1] is None
        assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert sum(unit.n_bytes for unit in made) == sum(sizes)


@settings(deadline=None)
@given(SIZES)
def test_units_are_small_and_few(sizes: list[int]) -> None:
    made = cut(shards(sizes))
    for unit in made:
        assert len(unit.pieces) <= 5
        assert unit.n_bytes <= 100 or len(unit.pieces) == 1
        assert all(piece.shard.n_bytes > 120 for piece in unit.pieces if piece.stop is not None)
    for one, other in pairwise(made):
        full = len(one.pieces) == 5
        first = cut_bytes(other.pieces[0])
        assert full or one.n_bytes + first > 100


def cut_bytes(piece: object) -> int:
    return units._stored(piece)  # type: ignore[arg-type]


def test_a_limit_ends_in_the_last_unit_and_keeps_its_file_whole() -> None:
    made = cut(shards([10, 10, 500]), last_stop=7)
    assert [unit.stop for unit in made] == [None, 7]
    assert made[-1].pieces[-1].stop is None
    assert len(made[-1].pieces) == 1


@settings(deadline=None)
@given(SIZES, st.booleans())
def test_kept_units_are_the_same(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limited: bool) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    made = cut(shards(sizes), last_stop=3 if limited else None)
    write_units(lake, "run", made, shards(sizes))
    assert read_units(lake, "run", shards(sizes), len(made), 3 if limited else None) == made


def test_units_that_are_not_kept_or_damaged_are_unknown(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert read_units(lake, "run", [], 0, None) is None
    lake.storage.write("progress/run_id=run/units.parquet", b"damaged")
    assert read_units(lake, "run", [], 0, None) is None
