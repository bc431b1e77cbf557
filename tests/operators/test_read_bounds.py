"""Blocks close where they should, and memory does not grow with the shard."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import operators
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import list_shards

MIB = 1 << 20


def blocks(path: Path, options: ReadOptions) -> list[pa.Table]:
    [shard] = list_shards([str(path)])
    return list(read_pieces([Piece(shard)], options))


def write(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_block_closes_when_its_text_reaches_the_bound(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ["12345", "12345", "123", "1", "1" * 50, "", "1"])
    sizes = [block["row"].to_pylist() for block in blocks(path, ReadOptions(block_bytes=10))]
    assert sizes == [[0, 1], [2, 3, 4], [5, 6]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_block_closes_when_it_has_enough_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [""] * 3 + ["t"] * 4)
    assert [block.num_rows for block in blocks(path, ReadOptions(block_documents=3))] == [3, 3, 1]


def test_metadata_counts_towards_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "t", "meta": "m" * 100}) + "\n" for _ in range(4)))
    assert [b.num_rows for b in blocks(path, ReadOptions(block_bytes=200))] == [4]
    assert [b.num_rows for b in blocks(path, ReadOptions(block_bytes=200, keep_columns=("meta",)))] == [2, 2]


@pytest.mark.parametrize("block_bytes", [1, 1000, MIB])
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_block_sizes_change_no_row(tmp_path: Path, name: str, block_bytes: int) -> None:
    path = write(tmp_path / name, [f"text {i} " * (i % 50) for i in range(500)])
    whole = pa.concat_tables(blocks(path, ReadOptions()))
    small = blocks(path, ReadOptions(block_bytes=block_bytes, block_documents=7))
    assert pa.concat_tables(small).to_pylist() == whole.to_pylist()


def _texts(n_mib: int) -> Iterator[str]:
    for i in range(n_mib * 64):
        yield f"{i:08d}" * 2048  # 16 KiB


def _write_big(path: Path, n_mib: int) -> None:
    if path.suffix == ".parquet":
        table = pa.table({"text": pa.array(_texts(n_mib))})
        # One row group, as writers with much memory make them, in pages of 1 MiB.
        pq.write_table(table, path, use_dictionary=False, row_group_size=len(table), write_batch_size=64)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, pa.schema([("text", pa.string())])) as file:
            file.write_table(pa.table({"text": pa.array(_texts(n_mib))}), max_chunksize=1000)
    elif path.suffix == ".zst":
        with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packed:
            for text in _texts(n_mib):
                packed.write(json.dumps({"text": text}).encode() + b"\n")
    else:
        with path.open("wb") as file:
            file.writelines(json.dumps({"text": text}).encode() + b"\n" for text in _texts(n_mib))


_MEASURE = """
import sys
import pyarrow, pyarrow.parquet, fsspec.implementations.local
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import list_shards

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

pyarrow.array(["x"])  # imports what it needs only when first called
start = peak = rss()
rows = 0
for block in read_pieces([Piece(list_shards([sys.argv[1]])[0])], ReadOptions()):
    rows += block.num_rows
    peak = max(peak, rss())
print(rows, peak - start)
"""


def _rows_and_growth(path: Path) -> tuple[int, int]:
    """Rows read, and by how many bytes the resident memory of a fresh process grew meanwhile."""
    root = Path(str(operators.__file__)).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], cwd=root, capture_output=True, text=True, check=True, timeout=300
    )
    rows, growth = map(int, result.stdout.split())
    return rows, growth


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet", "a.arrow"])
def test_memory_does_not_grow_with_the_shard(tmp_path: Path, name: str) -> None:
    _write_big(tmp_path / name, 256)
    rows, growth = _rows_and_growth(tmp_path / name)
    assert rows == 256 * 64
    assert growth < 72 * MIB


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_a_line_too_long_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packed:
        packed.write(b'{"text": "first"}\n{"text": "')
        for _ in range(512):
            packed.write(b"x" * MIB)
        packed.write(b'"}\n{"text": "last"}')
    rows, growth = _rows_and_growth(path)
    assert rows == 3
    assert growth < 160 * MIB  # up to 64 MiB of a line are held, and the buffer grows by doubling
