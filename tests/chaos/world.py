"""What the harness scores: a tiny model, and a bucket with a corpus of several formats and bad rows among the good.

<root>/model                    the model
<root>/s3/chaos/corpus/...      the corpus, as the S3 server shows it in bucket `chaos`
<root>/s3/chaos/<lake>          where the lakes go: the same files that a run sees as s3://chaos/<lake>
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import s3
import small

from operators.lake import Lake

BUCKET, RUN_ID = "chaos", "run"
CODE = Path(__file__).parents[2]
CONTEXT = 64  # tokens: documents take several windows
TEXT_FILES = 24
FIRST_ID = "line-a-0"  # of the first shard in input order that has ids
# The command with smaller blocks than it would make: else a corpus of tens of blocks would take minutes to score.
BLOCK_BYTES = 8_000
LAUNCH = f"""
import pipelines.plan as plan
for name in ("MIN_BLOCK_BYTES", "CPU_BLOCK_BYTES", "MAX_BLOCK_BYTES"):
    assert hasattr(plan, name), name
    setattr(plan, name, {BLOCK_BYTES})
from jobs.cli import main
main()
"""


@dataclass(frozen=True)
class World:
    """`documents` and `rejects` are what the corpus must give."""

    root: Path
    documents: int
    rejects: int

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def served(self) -> Path:
        return self.root / "s3"

    def lake(self, name: str) -> Lake:
        """A lake as it lies on the server's disk: what a run wrote, whatever the network did."""
        return Lake(str(self.served / BUCKET / name))

    def command(self, lake: str, engine: str) -> list[str]:
        return [
            sys.executable, "-c", LAUNCH, "score", "--model", str(self.model), "--input", f"s3://{BUCKET}/corpus",
            "--lake", f"s3://{BUCKET}/{lake}", "--run-id", RUN_ID, "--engine", engine, "--id-column", "id",
            "--label-column", "label", "--keep-columns", "lang", "--context", str(CONTEXT), "--dtype", "float32",
            "--device", "cpu",
        ]  # fmt: skip

    def environment(self, endpoint: str) -> dict[str, str]:
        """This process's environment without what would lead to another cluster or another store."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        return {**kept, **s3.environment(endpoint), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def make_world(root: Path, *, n_bytes: int) -> World:
    """A model and a corpus of about `n_bytes` of text: a few dozen text files, the rest in three kinds of shard."""
    small.make_model_folder(root / "model")
    folder = root / "s3" / BUCKET / "corpus"
    folder.mkdir(parents=True)
    texts = _texts()
    share = n_bytes // 3
    counts = [
        _write_text_files(folder / "files", texts),
        _write_lines(folder / "lines", texts, share),
        _write_packed_lines(folder / "packed", texts, share),
        _write_parquet(folder / "tables", texts, share),
    ]
    return World(root, sum(good for good, _ in counts), sum(bad for _, bad in counts))


def _texts() -> Iterator[str]:
    """Real fragments of 300 to 1,500 characters and hard ones, without end."""
    place = 0
    while True:
        for size in (300, 900, 1500):
            for text in small.stdlib_texts(size):
                yield text if place % 17 else small.HARD_TEXTS[place // 17 % len(small.HARD_TEXTS)]
                place += 1


def _take(texts: Iterator[str], n_bytes: int) -> list[str]:
    taken, held = [], 0
    while held < n_bytes:
        taken.append(next(texts))
        held += len(taken[-1].encode())
    return taken


def _write_text_files(folder: Path, texts: Iterator[str]) -> tuple[int, int]:
    folder.mkdir()
    for i in range(TEXT_FILES):
        text = next(texts)
        (folder / f"{i:04d}.txt").write_text(text, encoding="utf-8", newline="")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    return TEXT_FILES, 2


def _records(texts: list[str], name: str) -> list[dict[str, Any]]:
    return [
        {"id": f"{name}-{i}", "text": text, "label": i % 2, "lang": ("en", None)[i % 3 == 0]}
        for i, text in enumerate(texts)
    ]


def _lines_with_faults(texts: list[str], name: str) -> tuple[bytes, int]:
    """JSON Lines with a fault after every ninth record; how many faults."""
    faults = (
        b'{"id": "cut',
        b"[1, 2]",
        json.dumps({"id": f"{name}-no-text"}).encode(),
        json.dumps({"id": f"{name}-empty", "text": ""}).encode(),
        json.dumps({"id": f"{name}-label", "text": "x", "label": 7}).encode(),
        b'{"id": "' + name.encode() + b'-bytes", "text": "\xff"}',
        json.dumps({"id": f"{name}-0", "text": "the id of the first record again"}).encode(),
        json.dumps({"id": FIRST_ID, "text": "the id of a record of another shard"}).encode(),
    )
    lines, n_faults = [], 0
    for i, record in enumerate(_records(texts, name), 1):
        lines.append(json.dumps(record).encode())
        if i % 9 == 0:
            lines.append(faults[n_faults % len(faults)])
            n_faults += 1
    return b"".join(line + b"\n" for line in lines), n_faults


def _write_lines(folder: Path, texts: Iterator[str], n_bytes: int) -> tuple[int, int]:
    folder.mkdir()
    good = bad = 0
    for name in ("a", "b", "c"):
        taken = _take(texts, n_bytes // 3)
        data, faults = _lines_with_faults(taken, f"line-{name}")
        (folder / f"{name}.jsonl").write_bytes(data)
        good, bad = good + len(taken), bad + faults
    (folder / "nothing.jsonl").write_bytes(b"")
    return good, bad


def _write_packed_lines(folder: Path, texts: Iterator[str], n_bytes: int) -> tuple[int, int]:
    folder.mkdir()
    good = bad = 0
    for name, pack in (("a.jsonl.gz", gzip.compress), ("b.jsonl.zst", _zstd)):
        taken = _take(texts, n_bytes // 2)
        data, faults = _lines_with_faults(taken, f"packed-{name[0]}")
        (folder / name).write_bytes(pack(data))
        good, bad = good + len(taken), bad + faults
    (folder / "c.jsonl.gz").write_bytes(b"no gzip")
    return good, bad + 1


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def _write_parquet(folder: Path, texts: Iterator[str], n_bytes: int) -> tuple[int, int]:
    folder.mkdir()
    good = bad = 0
    for name in ("a", "b"):
        taken = _take(texts, n_bytes // 2)
        records = _records(taken, f"table-{name}")
        faults = [{"id": f"table-{name}-null", "text": None}, {"id": f"table-{name}-0", "text": "again"},
                  {"id": FIRST_ID, "text": "the id of a record of another shard"}]  # fmt: skip
        table = pa.Table.from_pylist([*records, *({"label": None, "lang": None, **fault} for fault in faults)])
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=50)
        good, bad = good + len(taken), bad + len(faults)
    return good, bad
