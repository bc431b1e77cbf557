"""A made-up corpus in shards, some of its documents with planted stretches of a benchmark, and a file of the truth.

    text (`overlap.text`) -> documents ----+
    benchmark -> plants (`items`) -+-> shards, Parquet and JSON lines in turn -> truth.parquet

One shard is in memory at a time. The truth has a row a planted stretch: where its words lie, and whether they are to be
found.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.overlap.items import AT_BEGIN, AT_END, FOUND, MIDDLE, Benchmark, Plant, Planter
from jobs.bench.overlap.text import Vocabulary, documents

SHARD_BYTES, LEAST_SHARDS = 5_000_000, 16  # smaller where the corpus is, so that workers can share it
PLANTED = 0.05  # of the documents hold something of the benchmark, found or not
_TOGETHER = 0.1  # of them hold two or more

TRUTH = pa.schema(
    [
        ("shard", pa.string()), ("row", pa.int64()), ("kind", pa.string()), ("is_found", pa.bool_()),
        ("item", pa.string()), ("item_index", pa.int64()), ("item_word", pa.int64()), ("n_words", pa.int64()),
        ("byte_start", pa.int64()), ("n_bytes", pa.int64()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """What was made: a folder with `benchmark.jsonl`, `truth.parquet` and, in another one, shards. `shard_bytes`: of
    the texts of each."""

    folder: Path
    documents: Path
    benchmark: Benchmark
    shards: tuple[Path, ...]
    shard_documents: tuple[int, ...]
    shard_bytes: tuple[int, ...]

    @property
    def items(self) -> Path:
        return self.folder / "benchmark.jsonl"

    @property
    def n_bytes(self) -> int:
        return sum(self.shard_bytes)

    @property
    def n_documents(self) -> int:
        return sum(self.shard_documents)

    def part(self, count: int, documents: Path) -> Corpus:
        """The first shards, hard links to them in a new folder."""
        documents.mkdir()
        for shard in self.shards[:count]:
            os.link(shard, documents / shard.name)
        return replace(self, documents=documents, shards=self.shards[:count],
                       shard_documents=self.shard_documents[:count], shard_bytes=self.shard_bytes[:count])  # fmt: skip

    def truth(self) -> pa.Table:
        return pq.read_table(self.folder / "truth.parquet", schema=TRUTH)


def make_corpus(folder: Path, n_bytes: int, n_items: int, n: int, seed: int = 0, share: float = PLANTED) -> Corpus:
    """Write a benchmark of `n_items` items and a corpus of about `n_bytes` of text, `share` of its documents planted.

    Raises:
        ValueError: too few items to plant in every way.
    """
    vocabulary = Vocabulary(seed)
    benchmark = Benchmark(vocabulary, n_items, n, seed)
    (folder / "corpus").mkdir(parents=True)
    plants = Planter(benchmark, seed).plants()
    rng, dice = np.random.default_rng([seed, 3]), random.Random(seed + 1)
    shards: list[Path] = []
    counts: list[int] = []
    sizes: list[int] = []
    most = min(SHARD_BYTES, n_bytes // LEAST_SHARDS + 1)
    with pq.ParquetWriter(folder / "truth.parquet", TRUTH) as truth:
        while sum(sizes) < n_bytes:
            goal = min(most, n_bytes - sum(sizes))
            texts, rows = planted(list(documents(vocabulary, rng, goal)), plants, benchmark, dice, share)
            suffix = (".parquet", ".jsonl")[len(shards) % 2]
            shards.append(folder / "corpus" / f"part-{len(shards):05}{suffix}")
            _write(shards[-1], texts)
            truth.write_table(pa.Table.from_pylist([{"shard": shards[-1].name, **row} for row in rows], TRUTH))
            sizes.append(sum(map(len, texts)))
            counts.append(len(texts))
    benchmark.write(folder / "benchmark.jsonl")
    return Corpus(folder, folder / "corpus", benchmark, tuple(shards), tuple(counts), tuple(sizes))


def document_id(shard: str, row: int) -> str:
    return f"{shard}#{row}"


def planted(
    texts: list[bytes], plants: Iterator[tuple[Plant, ...]], benchmark: Benchmark, dice: random.Random, share: float
) -> tuple[list[bytes], list[dict[str, Any]]]:
    """The documents of a shard with plants put into some of them, and a row of truth for each."""
    rows: list[dict[str, Any]] = []
    row = -1
    while (row := row + 2 + int(dice.expovariate(share))) < len(texts):
        together = list(next(plants))
        if len(together) == 2:  # the end of one document, the beginning of the next
            texts[row - 1], found = _inserted(texts[row - 1], together[:1], benchmark, dice)
            rows += [{"row": row - 1, **fields} for fields in found]
            del together[0]
        while dice.random() < _TOGETHER:
            more = next(plants)
            if len(more) > 1 or more[0].place != MIDDLE:
                break
            together += more
        texts[row], found = _inserted(texts[row], together, benchmark, dice)
        rows += [{"row": row, **fields} for fields in found]
    return texts, rows


def _inserted(
    text: bytes, plants: Sequence[Plant], benchmark: Benchmark, dice: random.Random
) -> tuple[bytes, list[dict[str, Any]]]:
    """The document with the plants in it, those of the middle at ends of sentences, and where their words lie."""
    middle = [plant for plant in plants if plant.place == MIDDLE]
    cuts = sorted(text.find(b". ", dice.randrange(len(text))) + 2 for _ in middle)  # 1 where there is none
    parts: list[bytes | Plant] = [plant for plant in plants if plant.place == AT_BEGIN]
    last = 0
    for cut, plant in zip(cuts, middle, strict=True):
        cut = cut if cut > 1 else last
        parts += [text[last:cut], plant]
        last = cut
    parts += [text[last:], *(plant for plant in plants if plant.place == AT_END)]
    return _laid_together(parts, benchmark)


def _laid_together(parts: Sequence[bytes | Plant], benchmark: Benchmark) -> tuple[bytes, list[dict[str, Any]]]:
    pieces: list[bytes] = []
    rows, size = [], 0
    for part in parts:
        if isinstance(part, bytes):
            pieces.append(part)
        else:
            before = b" " if pieces and part.place == AT_END else b""
            before += part.before.encode()
            words = part.text.encode()
            pieces.append(before + words + part.after.encode())
            rows.append(
                {
                    "kind": part.kind, "is_found": part.kind in FOUND, "item": benchmark.key(part.item),
                    "item_index": part.item, "item_word": part.first, "n_words": part.n_words,
                    "byte_start": size + len(before), "n_bytes": len(words),
                }
            )  # fmt: skip
        size += len(pieces[-1])
    return b"".join(pieces), rows


def _write(path: Path, texts: Sequence[bytes]) -> None:
    """A shard of records with `id` and `text`."""
    ids = [document_id(path.name, row) for row in range(len(texts))]
    if path.suffix == ".parquet":
        columns = {"id": pa.array(ids), "text": pa.array(texts, pa.binary()).cast(pa.string())}
        pq.write_table(pa.table(columns), path, row_group_size=1000, compression="zstd")
        return
    with path.open("w", encoding="utf-8") as file:
        for key, text in zip(ids, texts, strict=True):
            file.write(json.dumps({"id": key, "text": text.decode()}, ensure_ascii=False) + "\n")
