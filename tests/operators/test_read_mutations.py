"""Thousands of damaged shards of every format, read in a process of its own: it never ends early, every record is
accounted for, and memory stays bounded.

    python tests/operators/test_read_mutations.py arrow 0 5000     # more of one format, by hand
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from operators.pieces import Piece, count_lines, numbered, split
from operators.read import ReadOptions, read_keys, read_pieces
from operators.shards import Format, Shard
from schemas.flow import READ

ROWS = 40
KEEP = ("meta", "meta.a", "tags", "when", "view", "runs", "uuid")
OPTIONS = ReadOptions(
    text_template="{title} {meta.b}",
    prompt_column="prompt",
    id_column="id",
    label_column="label",
    domain_column="domain",
    keep_columns=KEEP,
    block_bytes=200,
)
MIB = 1 << 20


def table() -> pa.Table:
    rows = range(ROWS)
    return pa.table(
        {
            "id": [f"k{i}" for i in rows],
            "title": [f"héllo {i} " * (i % 5 + 1) if i % 7 else None for i in rows],
            "prompt": pa.array([f"q{i}" for i in rows], pa.large_string()),
            "label": pa.array([i % 2 for i in rows], pa.int8()),
            "domain": pa.array(["d", "e"] * (ROWS // 2)).dictionary_encode(),
            "meta": pa.array([{"a": [i, None], "b": "x"} if i % 3 else None for i in rows]),
            "tags": pa.array([[("k", "v"), ("w", None)]] * ROWS, pa.map_(pa.string(), pa.string())),
            "when": pa.array([i * 10**6 for i in rows], pa.timestamp("us", "Europe/Berlin")),
            "view": pa.array([f"a long enough view {i}" for i in rows], pa.string_view()),
            "runs": pa.RunEndEncodedArray.from_arrays(pa.array([10, ROWS], pa.int32()), pa.array(["x", "y"])),
            "uuid": pa.array([bytes(range(16))] * ROWS, pa.uuid()),
        }
    )


def _arrow(make: Any, codec: str | None) -> bytes:
    buffer, rows = io.BytesIO(), table()
    with make(buffer, rows.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as file:
        file.write_table(rows, max_chunksize=15)
    return buffer.getvalue()


def _parquet(**how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table().set_column(9, "runs", pa.array(["x"] * ROWS)), buffer, row_group_size=15, **how)
    return buffer.getvalue()


def _lines() -> bytes:
    names = ("id", "title", "prompt", "label", "domain", "meta", "view")
    rows = table().select(names).to_pylist()
    return b"".join(json.dumps(row, ensure_ascii=i % 2 == 0).encode() + b"\n" for i, row in enumerate(rows))


def wholes(kind: str) -> list[tuple[str, bytes]]:
    """Name and content of the sound files of a kind."""
    if kind == "arrow":
        makers = (pa.ipc.new_file, pa.ipc.new_stream)
        return [("a.arrow", _arrow(make, codec)) for make in makers for codec in (None, "lz4", "zstd")]
    if kind == "parquet":
        small_pages = {"data_page_version": "2.0", "data_page_size": 64, "write_page_checksum": True}
        variants: list[dict[str, Any]] = [
            {},
            {"compression": "none", "use_dictionary": False},
            {"compression": "zstd", **small_pages},
        ]
        return [("a.parquet", _parquet(**how)) for how in variants]
    if kind == "jsonl":
        lines = _lines()
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(lines)
        return [("a.jsonl", lines), ("a.jsonl.gz", gzip.compress(lines, mtime=0)), ("a.jsonl.zst", packed)]
    text = "ein Text, größer als ein Satz\r\n".encode() * 20
    return [("a.txt", text), ("a.txt.gz", gzip.compress(text, mtime=0))]


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """`whole` with 1 to 5 places flipped, overwritten, removed, inserted, repeated, cut or made an extreme number."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 5)):
        at, length = chance.randrange(len(data) + 1), chance.randint(1, 16)
        match chance.choice(("flip", "flip", "overwrite", "remove", "insert", "repeat", "extreme", "extreme", "cut")):
            case "flip" if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
            case "overwrite":
                data[at : at + length] = chance.randbytes(length)
            case "remove":
                del data[at : at + length]
            case "insert":
                data[at:at] = chance.randbytes(length)
            case "repeat":
                data[at:at] = data[max(0, at - 50 * length) : at]
            case "extreme":
                at &= ~3
                data[at : at + 4] = chance.choice((-1, 0, 1, 2**31 - 1, -(2**31), 2**24)).to_bytes(
                    4, "little", signed=True
                )
            case "cut" if chance.random() < 0.3:
                del data[at:]
    return bytes(data)


def pieces_of(shard: Shard, chance: random.Random) -> list[Piece]:
    if chance.random() < 0.5:
        return [Piece(shard)]
    pieces = split(shard, max(1, shard.n_bytes // chance.randint(1, 8)))
    return numbered(pieces, [count_lines(piece) for piece in pieces]) if shard.format == "jsonl" else pieces


def reasons_of(name: str, data: bytes, chance: random.Random) -> Counter[str]:
    """Reads one damaged shard and checks what must hold of any."""
    fsspec.filesystem("memory").pipe(f"/mutations/{name}", data)
    kind = name.split(".")[1].replace("txt", "text")
    shard = Shard(f"memory://mutations/{name}", cast("Format", kind), len(data))
    pieces = pieces_of(shard, chance)
    reasons: Counter[str] = Counter()
    seen: set[int] = set()
    for block in read_pieces(pieces, OPTIONS):
        assert block.schema == READ
        block.validate(full=True)
        for row, text, reason in zip(*(block[c].to_pylist() for c in ("row", "text", "reason")), strict=True):
            assert (text is None) != (reason is None)
            assert row not in seen, f"row {row} twice"
            seen.add(row)
            reasons[reason or "document"] += 1
    assert reasons["unreadable_shard"] <= len(pieces)
    assert all(block["row"].null_count == 0 for piece in pieces for block in read_keys(piece, OPTIONS))
    return reasons


def run(kind: str, start: int, stop: int) -> Iterator[tuple[int, Counter[str]]]:
    shards = wholes(kind)
    for seed in range(start, stop):
        chance = random.Random(seed)
        name, whole = shards[seed % len(shards)]
        try:
            yield seed, reasons_of(name, damaged(chance, whole), chance)
        except Exception as error:
            error.add_note(f"seed {seed} of {kind}")
            raise


def main(kind: str, start: str, stop: str) -> None:
    faulthandler.enable()
    for name, whole in wholes(kind):  # sound files first, so that what they need is not counted as growth
        reasons_of(name, whole, random.Random(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total: Counter[str] = Counter()
    for seed, reasons in run(kind, int(start), int(stop)):
        print(seed, file=sys.stderr)  # the last line names the shard that ended the process
        total += reasons
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"grown": grown, "reasons": total}))


@pytest.mark.parametrize(("kind", "n"), [("arrow", 1500), ("parquet", 900), ("jsonl", 900), ("text", 200)])
def test_damaged_shards(kind: str, n: int) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, __file__, kind, "0", str(n)]
    done = subprocess.run(command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["grown"] < 256 * MIB
    # The damage is neither without effect nor total: both verdicts on shards and on records are exercised.
    assert result["reasons"]["document"] > 20
    assert kind == "text" or result["reasons"]["unreadable_shard"] > 20
    assert len(result["reasons"]) >= 3


if __name__ == "__main__":
    main(*sys.argv[1:])
