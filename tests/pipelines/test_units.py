"""Units tile the input in order, whatever the sizes of its files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.lake import Lake
from operators.model_places import ModelPlace
from operators.shards import Shard
from operators.windows import WindowOptions
from pipelines import units
from pipelines.config import ScoreConfig
from pipelines.plan import CPU_BLOCK_BYTES, Plan, _read_options
from pipelines.previous import Listing
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
    return units.stored_bytes(piece)  # type: ignore[arg-type]


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


def plan_of(folder: Path, n_bytes: int) -> Plan:
    listing = Listing(tuple(Shard(f"/in/{i}.jsonl", "jsonl", n_bytes // 8) for i in range(8)))
    config = ScoreConfig.parse(model="none", input="in", lake=str(folder), run_id="run")
    windows = WindowOptions(64, 32)
    return Plan(config, Lake(str(folder)), listing, folder, ModelPlace("none"), windows, {}, {}, {}, None)


def test_blocks_grow_only_where_there_would_be_very_many(tmp_path: Path) -> None:
    def block_bytes(n_bytes: int, *, on_gpu: bool) -> int:
        return plan_of(tmp_path, n_bytes).block_bytes(4, on_gpu=on_gpu)

    gib, tib = 1 << 30, 1 << 40
    assert [block_bytes(n, on_gpu=True) >> 20 for n in (gib, 256 * gib, 512 * gib, tib, 4 * tib)] == [2, 2, 4, 8, 8]
    assert [block_bytes(n, on_gpu=False) for n in (gib, tib)] == [CPU_BLOCK_BYTES, 4 * CPU_BLOCK_BYTES]
    assert block_bytes(1 << 20, on_gpu=True) == 1 << 16


@pytest.mark.parametrize(("weights", "expected"), [(0, 1 << 16), (10**7, 40_000), (10**9, 1 << 12)])
def test_a_slow_model_on_a_cpu_has_smaller_blocks_where_the_input_is_small(
    tmp_path: Path, weights: int, expected: int
) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [weights], "data_offsets": [0, 2 * weights]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    plan = plan_of(tmp_path, 100_000)
    assert plan.block_bytes(4, on_gpu=False) == expected
    assert plan.block_bytes(4, on_gpu=True) == 1 << 16


def test_larger_blocks_hold_more_documents(tmp_path: Path) -> None:
    config = ScoreConfig.parse(model="none", input="in", lake=str(tmp_path), run_id="run")
    options = [_read_options(config, block_bytes) for block_bytes in (1 << 16, 1 << 19, 2 << 20, 8 << 20)]
    assert [each.block_documents for each in options] == [1024, 1024, 1024, 4096]
