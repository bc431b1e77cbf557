"""Runs `assay score` as a user would and reads off its receipts when each block was done.

    command starts ......... first block begins | block | block | ... | last block written ... command ends
    <-------- fixed start -------------------->  <---- scoring phase ---->

A documents part appears when its block is written, so the times of these files are the run's own record: no clock is
put into the engine. The first block of each actor is left out of the speed, for nobody saw it begin: with several
actors this counts a little less than was done.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from jobs.bench.process_tree import run_command
from operators.lake import Lake

RUN = "bench"
TIMEOUT = 1500.0  # seconds of one command


@dataclass(frozen=True)
class Measured:
    """One command. `tokens_per_s`: in the scoring phase; `start_s`: from the command's start to the first block's, the
    time of the first block, at the later speed, taken off; `seconds`: of the whole command."""

    seconds: float
    start_s: float
    tokens_per_s: float
    tokens: int
    blocks: int
    peak_bytes: int
    digest: str


def measure(
    model: Path, corpus: Path, lake: Path, context: int, engine: Sequence[str], *, actors: int, cores: int
) -> Measured:
    """Score the corpus on the first `cores` cores that this thread may use.

    Raises:
        RuntimeError: the command failed, or wrote too few blocks to say anything.
    """
    command = [
        "env", "-u", "RAY_ADDRESS", sys.executable, "-m", "jobs.cli", "score", "--model", str(model), "--input",
        str(corpus), "--lake", str(lake), "--run-id", RUN, "--context", str(context), "--device", "cpu", "--dtype",
        "float32", *engine,
    ]  # fmt: skip
    began = time.time()
    done = run_command(command, cores, TIMEOUT)
    if done.code:
        raise RuntimeError(f"assay score {' '.join(engine)}: exit code {done.code}: {done.complaint[-500:]}")
    blocks = written_blocks(lake)
    tokens_per_s, start_s = phases(blocks, began, actors)
    tokens = sum(n for _, n in blocks)
    return Measured(done.seconds, start_s, tokens_per_s, tokens, len(blocks), done.peak_bytes, digest(lake))


def measure_at_once(model: Path, corpus: Path, lakes: Sequence[Path], context: int) -> list[Measured]:
    """As many inline runs at the same time, each on a core of its own: what this machine gives two processes that share
    nothing but the machine."""
    cores = sorted(os.sched_getaffinity(0))

    def on_core(place: int) -> Measured:
        os.sched_setaffinity(0, {cores[place]})  # of this thread
        return measure(model, corpus, lakes[place], context, ("--engine", "inline"), actors=1, cores=1)

    with ThreadPoolExecutor(len(lakes)) as pool:
        return list(pool.map(on_core, range(len(lakes))))


def phases(blocks: Sequence[tuple[float, int]], began: float, actors: int) -> tuple[float, float]:
    """(tokens a second in the scoring phase, seconds of the fixed start).

    Args:
        blocks: (Unix seconds at which it was written, tokens) of each block, by time.
        began: Unix seconds at which the command was started.

    Raises:
        RuntimeError: fewer than two blocks an actor, or all at one moment.
    """
    if len(blocks) < 2 * actors:
        raise RuntimeError(f"{len(blocks)} blocks for {actors} actors: too few to tell a speed, give more --seconds")
    first, last = blocks[0][0], blocks[-1][0]
    if last == first:
        raise RuntimeError("all blocks were written at one moment: too few to tell a speed, give more --seconds")
    rate = sum(n for _, n in blocks[actors:]) / (last - first)
    return rate, first - began - blocks[0][1] * actors / rate


def written_blocks(lake: Path) -> list[tuple[float, int]]:
    """(Unix seconds, tokens) of each receipt, by time."""
    store, found = Lake(str(lake)), []
    for part in store.readable_tokens(RUN):
        receipt = lake / "documents" / f"run_id={RUN}" / f"{part.name}.parquet"
        found.append((receipt.stat().st_mtime_ns / 1e9, int(pq.read_metadata(store.uri(part)).num_rows)))
    return sorted(found)


def digest(lake: Path) -> str:
    """Of every row of tokens and documents, in whatever parts and order they lie: how many, and the xor of 64-bit
    hashes of these columns: of equal digests the rows are equal, unless hashes collide."""
    import duckdb

    store, said = Lake(str(lake)), []
    columns = {
        "tokens": "doc_id, position, token_id, byte_start, logprob, entropy, logprob_std, rank",
        "documents": "doc_id, key, n_tokens, n_scored, text_sha256",
    }
    with duckdb.connect() as connection:
        for table, names in columns.items():
            files = [store.uri(part) for part in store.parts(table, RUN)]
            sql = f"select count(*), bit_xor(hash({names})) from read_parquet(?, hive_partitioning := false)"
            count, mixed = connection.execute(sql, [files]).fetchall()[0]
            said.append(f"{count}:{mixed:016x}")
    return " ".join(said)
