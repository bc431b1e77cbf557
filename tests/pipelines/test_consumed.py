"""For which share of its unit a block stands, on real files of every format."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
import zstandard

from operators.lake import Lake
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import Shard, list_shards
from pipelines import units
from pipelines.consumed import Consumed
from pipelines.journal import Journal

RECORDS = 2000
MB = 1 << 20


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choices("etaoin shrdlu", k=2000)) for _ in range(RECORDS)]


def write(path: Path, texts: list[str]) -> Path:
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(data, 1))
        case ".zst":
            path.write_bytes(zstandard.compress(data))
        case ".parquet":
            pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path, row_group_size=500)
        case ".arrow":
            table = pa.table({"text": texts})
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=100)
        case _:
            path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"])
def test_shares_follow_what_is_read(name: str, texts: list[str], tmp_path: Path) -> None:
    """Twenty blocks of a hundred records: by each as much is done as was read, but for what is read ahead (1 MiB of
    some 4), and all of them make 1."""
    pieces = [Piece(shard) for shard in list_shards([str(write(tmp_path / name, texts))])]
    consumed, done, off = Consumed(pieces), 0.0, []
    for number, block in enumerate(read_pieces(pieces, ReadOptions(block_documents=100)), 1):
        share = consumed.by(block)
        assert share >= 0
        done += share
        off.append(abs(done - number / 20))
    assert number == 20
    assert max(off) < 0.27
    assert done + consumed.rest() == pytest.approx(1)


def test_files_of_a_unit_weigh_by_their_bytes(texts: list[str], tmp_path: Path) -> None:
    """A file of a tenth and one of the rest, a block each: the second stands for nine tenths."""
    for name, some in (("a.jsonl", texts[:200]), ("b.jsonl", texts[200:])):
        write(tmp_path / name, some)
    pieces = [Piece(shard) for shard in list_shards([str(tmp_path)])]
    consumed = Consumed(pieces)
    blocks = list(read_pieces(pieces, ReadOptions(block_documents=200, block_bytes=1 << 28)))
    assert consumed.by(blocks[0]) == pytest.approx(0.1, rel=0.01)
    assert consumed.rest() == pytest.approx(0.9, rel=0.01)


def test_blocks_that_say_nothing_leave_all_to_the_last() -> None:
    consumed = Consumed([Piece(Shard("/a.jsonl", "jsonl", 100))])
    assert consumed.by(pa.table({"text": ["x"]})) == 0.0
    assert consumed.rest() == 1.0
    assert Consumed([]).rest() == 1.0


def test_stored_bytes_of_pieces() -> None:
    lines, groups = Shard("/a.jsonl", "jsonl", 100 * MB), Shard("/a.parquet", "parquet", 300 * MB)
    assert units.stored_bytes(Piece(lines)) == 100 * MB
    assert units.stored_bytes(Piece(lines, 60 * MB, None, 5)) == 40 * MB
    assert units.stored_bytes(Piece(lines, 0, 60 * MB)) == 60 * MB
    assert units.stored_bytes(Piece(groups, 4, None, 5)) == units.PIECE_BYTES
    last = units.Unit(9, (Piece(groups, 4, None, 5),))
    assert last.n_bytes == units.PIECE_BYTES  # the end of a file that is cut is not the whole of it


@pytest.mark.usefixtures("no_catalog")
def test_the_blocks_of_a_run_make_its_units(
    model_folder: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 4000)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 4000)
    for name in ("a.jsonl.gz", "b.parquet"):
        write(tmp_path / name, [text[:400] for text in texts[:24]])
    runs.run(model_folder, tmp_path / "*.*", tmp_path / "lake")
    rows = Journal.open(Lake(str(tmp_path / "lake")), "run").rows()
    assert len(rows) > 4
    by_unit = rows.group_by("unit").aggregate([("share", "sum")])
    assert by_unit["share_sum"].to_pylist() == pytest.approx([1.0, 1.0])
    assert rows["at"].null_count == 0
