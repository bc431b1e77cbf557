"""Runs on a clock of their own: when each block of a corpus would come from a pool of workers, and what it holds."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.pieces import Piece
from operators.shards import Shard
from pipelines.units import Unit

BLOCK_TEXT = 2 << 20  # bytes of text in a block, at most
TOKEN_BYTES = 4.0


@dataclass(frozen=True)
class File:
    """`text_in_byte`: bytes of text in a stored byte. `tokens_in_text`: over the usual ones."""

    name: str
    n_bytes: int
    text_in_byte: float = 1.0
    tokens_in_text: float = 1.0

    def unit(self, index: int) -> Unit:
        kind: Any = "parquet" if self.name.endswith(".parquet") else "jsonl"
        return Unit(index, (Piece(Shard(f"/corpus/{index}-{self.name}", kind, self.n_bytes)),))


@dataclass
class Run:
    """`files`: a unit each, in reading order. `speed`: tokens a second of a worker, by time. `jitter`: of a block's
    time, up and down. `load`: until workers start; `compile`: of the first block of each, besides. `burst`: blocks that
    come together. `rejected`: the chance that a block's records are all rejected, which takes next to no time."""

    files: Sequence[File]
    workers: int = 1
    speed: float = 200_000.0
    jitter: float = 0.2
    load: float = 10.0
    compile: float = 0.0
    burst: int = 1
    rejected: float = 0.0
    faster_after: float = float("inf")  # seconds; then workers are half as fast again
    done: dict[int, float] = field(default_factory=dict)  # shares of units that an earlier attempt did; 1: all
    seed: int = 0

    def units(self) -> list[Unit]:
        return [file.unit(i) for i, file in enumerate(self.files) if self.done.get(i, 0.0) < 1.0]

    def arrivals(self) -> list[tuple[float, dict[str, Any], float]]:
        """When the driver has each block, its manifest, and how long it took to score; in order of time."""
        rng = random.Random(self.seed)
        free = [(self.load + rng.random() * 0.5, worker) for worker in range(self.workers)]
        heapq.heapify(free)
        warm: set[int] = set()
        came = []
        for manifest in self._blocks(rng):
            begin, worker = heapq.heappop(free)
            speed = self.speed * (1.5 if begin > self.faster_after else 1.0)
            took = 0.05 + manifest["tokens"] / speed * rng.uniform(1 - self.jitter, 1 + self.jitter)
            took += 0.0 if worker in warm else self.compile
            warm.add(worker)
            heapq.heappush(free, (begin + took, worker))
            came.append((begin + took, manifest, took))
        came.sort(key=lambda arrival: arrival[0])
        last = len(came) - 1
        return [
            (came[min(last, (i // self.burst + 1) * self.burst - 1)][0], manifest, took)
            for i, (_, manifest, took) in enumerate(came)
        ]

    def _blocks(self, rng: random.Random) -> Iterator[dict[str, Any]]:
        for unit, file in enumerate(self.files):
            text = file.n_bytes * file.text_in_byte
            n = max(1, round(text / BLOCK_TEXT))
            skipped = round(n * self.done.get(unit, 0.0))
            for block in range(skipped, n):
                bad = rng.random() < self.rejected
                tokens = int(text / n / TOKEN_BYTES * file.tokens_in_text * rng.lognormvariate(0, self.jitter))
                yield {
                    "unit": unit, "is_last": block == n - 1, "share": 1 / n, "rows_in": 100, "unreadable": 0,
                    "documents": 0 if bad else 100, "rejects": 100 if bad else 0, "tokens": 0 if bad else tokens,
                    "scored": 0 if bad else tokens, "text_bytes": 0 if bad else int(text / n),
                }  # fmt: skip
