"""`assay bench resume`: a run of a million shards, killed again and again, by the driver's own code.

    a world of N shards, 1.2 blocks each (`store`) -> attempts of the driver (`simulated`), and losses between them:
        1  killed after 40 % of the blocks, what the journal had not stored is gone
        2  killed after 30 % more; the journal's newest segment is cut in half
        3  1 in 100 receipts are deleted; runs to its end
        4  the finished run is asked for again: nothing is done

After each kill a plain model says what is left: the blocks that an intact segment names and whose parts are there are
done, all others are not. The next attempt must do exactly these, each once, else exit code 1. Seconds are of the driver
alone; requests stand beside them, and what they take at a stated latency, one after another.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.bench.measure import record, show
from jobs.bench.resume.simulated import Attempt, Driver, first_block, n_blocks
from jobs.bench.resume.store import PROTOCOL, RUN, ListedStore, World, make_world
from operators.lake import Lake, progress_folder
from pipelines.journal import Journal

BLOCKS_A_FLUSH = 128  # 26 blocks a second for 5 s: some 256 GPUs at 50,000 tokens/s each and 500,000 tokens a block
FIRST_KILL, SECOND_KILL, LOST_RECEIPTS = 0.4, 0.3, 0.01
NAMES = ("to the first kill", "after it, to the second", "after that and lost receipts", "asked for again")


def bench_resume(shards: Sequence[int], latency_ms: float, seed: int = 0) -> bool:
    """Run the verb; returns whether every attempt did what was left, and nothing twice."""
    results, is_right = {}, True
    for n in shards:
        attempts, wrong = simulate(n, seed)
        results[str(n)] = _results(n, attempts, wrong, latency_ms)
        is_right = is_right and not any(wrong)
    _show(results, latency_ms)
    record("resume", results, shards=list(shards), latency_ms=latency_ms, blocks_a_flush=BLOCKS_A_FLUSH, seed=seed,
           is_right=is_right)  # fmt: skip
    return is_right


def simulate(n_shards: int, seed: int = 0, blocks_a_flush: int = BLOCKS_A_FLUSH) -> tuple[list[Attempt], list[int]]:
    """The attempts over a world of its own, and by attempt how many blocks it did that were done, or left undone that
    it should have done."""
    name, total, draw = f"w{uuid.uuid4().hex[:12]}", n_blocks(n_shards), np.random.default_rng(seed)
    world = make_world(name, n_shards, total)
    driver = Driver(world, name, blocks_a_flush)
    attempts, wrong = list[Attempt](), list[int]()

    def attempt(stop_after: int | None = None) -> None:
        left = np.flatnonzero(~durable(world, name))
        made = driver.attempt(stop_after)
        expected = left if made.is_finished else left[np.isin(left, made.done)]
        wrong.append(int(len(made.done) - len(np.unique(made.done)) + len(np.setxor1d(made.done, expected))))
        attempts.append(made)

    try:
        attempt(max(1, int(FIRST_KILL * total)))
        attempt(max(1, int(SECOND_KILL * total)))
        _halve_newest_segment(world)
        lost = draw.random(total) < LOST_RECEIPTS
        for block in np.flatnonzero(lost).tolist():
            world.parts["documents"][block] = 0
        attempt()
        wrong[-1] += 0 if attempts[-1].is_finished and durable(world, name).all() else total
        attempt()
        wrong[-1] += len(attempts[-1].done)
    finally:
        del ListedStore.worlds[name]
    return attempts, wrong


def durable(world: World, name: str) -> npt.NDArray[np.bool_]:
    """By block whether it is done, told without the driver's own reckoning: named by a segment, and all parts there."""
    named = np.zeros(world.n_blocks, bool)
    journal = Journal(Lake(f"{PROTOCOL}://{name}/lake"), RUN)
    for number in _segments(world):
        rows = journal._read(number)
        for unit, block in zip(rows["unit"].to_pylist(), rows["block"].to_pylist(), strict=True):
            named[first_block(unit) + block] = True
    documents, tokens = (np.frombuffer(world.parts[table], np.uint8) > 0 for table in ("documents", "tokens"))
    return named & documents & tokens


def _segments(world: World) -> list[int]:
    start = f"lake/{progress_folder(RUN)}/journal-"
    return sorted(int(path[len(start) : len(start) + 8]) for path in world.objects if path.startswith(start))


def _halve_newest_segment(world: World) -> None:
    """As a store leaves it that promised a whole object and did not keep it."""
    path = f"lake/{progress_folder(RUN)}/journal-{_segments(world)[-1]:08d}.parquet"
    world.objects[path] = world.objects[path][: len(world.objects[path]) // 2]


def _results(n: int, attempts: Sequence[Attempt], wrong: Sequence[int], latency_ms: float) -> dict[str, Any]:
    """For the record."""
    found: dict[str, Any] = {"shards": n, "blocks": n_blocks(n), "wrong_blocks": int(sum(wrong))}
    for name, attempt in zip(NAMES, attempts, strict=True):
        before, after = attempt.requests
        found[name] = {
            "blocks_done": len(attempt.done),
            "resume_s": attempt.resume_s,
            "driver_us_a_block": attempt.driver_us,
            "settle_s": attempt.settle_s,
            "peak_mib": attempt.peak_bytes / 2**20,
            "requests_before": before,
            "requests_after": after,
            "waiting_before_s": sum(before.values()) * latency_ms / 1000,
            "waiting_after_s": sum(after.values()) * latency_ms / 1000,
        }
    found["right_share"] = 1.0 - found["wrong_blocks"] / found["blocks"]
    found["resume_s"] = max(found[name]["resume_s"] for name in NAMES[:-1])  # the last has no task to come to
    found["peak_mib"] = max(found[name]["peak_mib"] for name in NAMES)
    return found


def _show(results: dict[str, dict[str, Any]], latency_ms: float) -> None:
    rows = []
    for found in results.values():
        for name in NAMES:
            r = found[name]
            before, after = (", ".join(f"{n:,} {kind}" for kind, n in sorted(r[f"requests_{when}"].items()))
                             for when in ("before", "after"))  # fmt: skip
            rows.append([
                f"{found['shards']:,}", name, f"{r['blocks_done']:,}", f"{r['resume_s']:.1f}",
                f"{r['driver_us_a_block']:,.0f}", f"{r['settle_s']:.1f}", f"{r['peak_mib']:,.0f}",
                f"{before} ({r['waiting_before_s']:.0f} s)", f"{after} ({r['waiting_after_s']:.0f} s)",
            ])  # fmt: skip
    columns = ["shards", "attempt", "blocks done", "to the first task, s", "us a block", "to the end, s", "peak MiB",
               "requests before", "requests after"]  # fmt: skip
    show(f"The driver alone; requests, and what they take at {latency_ms:g} ms one after another", columns, rows,
         ("attempt", "requests before", "requests after"))  # fmt: skip
    wrong = sum(found["wrong_blocks"] for found in results.values())
    sys.stdout.write(
        "every attempt did exactly what was left, nothing twice\n" if not wrong
        else f"{wrong:,} blocks were done twice, or not at all\n"
    )  # fmt: skip
