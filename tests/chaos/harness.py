"""Kills runs at every moment, lets their storage fail, resumes them, and compares what they wrote with a quiet run's.

    python tests/chaos/harness.py --seeds 30 --out chaos.jsonl

    quiet run -> its rows
    each seed -> attempts, disturbed as `disturb.draw` plans -> exit 0 -> rows lost, doubled, different; `verify`

Prints a line a seed, a table and one line of JSON; exits 1 if any seed is not clean. Needs Linux and rclone. The price:
a seed starts the command two to four times, 10 to 30 seconds each on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

for _folder in (Path(__file__).parents[2], Path(__file__).parents[1] / "support"):
    if str(_folder) not in sys.path:  # under pytest they are there
        sys.path.insert(0, str(_folder))

import compare  # noqa: E402 - beside this file
import faults  # noqa: E402
import s3  # noqa: E402
from attempt import Attempt, Outcome, Scale  # noqa: E402
from disturb import SeedPlan, draw  # noqa: E402
from world import BUCKET, RUN_ID, World, make_world  # noqa: E402

from schemas import DOCUMENTS  # noqa: E402

LIMIT_SECONDS = {"inline": 120.0, "ray": 180.0}  # an attempt that takes longer has hung
SPARE_ATTEMPTS = 4  # after the planned ones: the storage goes on failing
CORPUS_BYTES = 240_000
LEAST_PARTS = 16  # with fewer, moments between blocks are hardly hit


@dataclass
class Result:
    """What a seed did to a run and what came of it. `hung`: attempts ended for taking too long. `left`: processes that
    outlived a driver which had ended by itself. `remains`: what is wrong with the lake in itself."""

    seed: int
    engine: str
    blows: dict[str, int] = field(default_factory=dict)
    statuses: list[int | None] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False
    hung: int = 0
    left: int = 0
    parts: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    added: int = 0
    remains: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        return sum(self.blows.values())

    @property
    def is_clean(self) -> bool:
        rows = self.lost + self.doubled + self.different + self.added
        return self.finished and not rows and not self.remains and not self.hung and not self.left

    def line(self) -> str:
        blows = ", ".join(f"{n} x {name}" for name, n in sorted(self.blows.items())) or "none"
        rows = ", ".join(f"{getattr(self, name)} {name}" for name in compare.COUNTS)
        return (
            f"seed {self.seed:3} {self.engine:6} {'clean' if self.is_clean else 'FAULT'} {self.seconds:5.0f} s, "
            f"{len(self.statuses)} attempts {self.statuses}, {sum(self.faults.values()):3} storage faults, {rows}, "
            f"{self.parts} parts; {blows}"
        )


@dataclass
class Arena:
    """A world, its server, and the rows of a quiet run in it."""

    world: World
    endpoint: str
    expected: compare.Rows
    scale: Scale


@contextmanager
def arena(root: Path, n_bytes: int = CORPUS_BYTES) -> Iterator[Arena]:
    """Make the world in `root`, serve it, and score it once undisturbed, inline.

    Raises:
        RuntimeError: the quiet run failed or did not give what the corpus holds; the message ends with its output.
    """
    world = make_world(root, n_bytes=n_bytes)
    with s3.server(world.served) as server:
        with faults.proxy(server.endpoint) as proxy:
            outcome = Attempt(world, "quiet", "inline", proxy, (), Scale(1, 1))(root / "quiet.log", 300.0)
            requests = proxy.counts["requests"]
        if outcome.status != 0:
            raise RuntimeError(f"the quiet run ended with {outcome.status}:\n{_tail(outcome.log)}")
        lake = world.lake("quiet")
        expected = compare.read(lake, RUN_ID)
        if (len(expected.documents), len(expected.rejects)) != (world.documents, world.rejects):
            raise RuntimeError(
                f"the quiet run gave {len(expected.documents)} documents and {len(expected.rejects)} rejects, "
                f"the corpus holds {world.documents} and {world.rejects}"
            )
        if remains := compare.remains(lake, RUN_ID):
            raise RuntimeError("the quiet run's lake is not sound:\n" + "\n".join(remains))
        parts = len(lake.parts(DOCUMENTS.name, RUN_ID))
        if parts < LEAST_PARTS * n_bytes // CORPUS_BYTES:
            raise RuntimeError(f"the quiet run wrote {parts} parts: too few to be disturbed between them")
        scale = Scale(requests, parts)
        yield Arena(world, server.endpoint, expected, scale)


def run_seed(place: Arena, plan: SeedPlan) -> Result:
    """Run one seed to its end and judge it; keeps the lake and the logs of a seed that is not clean."""
    result, started = Result(plan.seed, plan.engine), time.monotonic()
    name = f"seed-{plan.seed}-{plan.engine}"
    logs: list[Path] = []
    with faults.proxy(place.endpoint, plan.storage) as proxy:
        for number in range(len(plan.attempts) + SPARE_ATTEMPTS):
            planned = plan.attempts[number] if number < len(plan.attempts) else ()
            logs.append(place.world.root / f"{name}-{number}.log")
            attempt = Attempt(place.world, name, plan.engine, proxy, planned, place.scale)
            _note(result, attempt(logs[-1], LIMIT_SECONDS[plan.engine]))
            if result.finished:
                break
        result.faults = {kind: n for kind, n in proxy.faults().items() if n}
    lake = place.world.lake(name)
    found = compare.read(lake, RUN_ID)
    for counts in compare.differences(place.expected, found).values():
        for what, n in counts.items():
            setattr(result, what, getattr(result, what) + n)
    result.parts = len(lake.parts(DOCUMENTS.name, RUN_ID))
    result.remains = compare.remains(lake, RUN_ID)
    result.seconds = round(time.monotonic() - started, 1)
    if result.is_clean:
        shutil.rmtree(place.world.served / BUCKET / name)
        for log in logs:
            log.unlink()
    return result


def _note(result: Result, outcome: Outcome) -> None:
    result.blows = dict(Counter(result.blows) + outcome.blows)
    result.statuses.append(outcome.status)
    result.hung += outcome.status is None
    result.left += outcome.left
    result.finished = outcome.status == 0


def _tail(log: Path, n_bytes: int = 3000) -> str:
    return log.read_bytes()[-n_bytes:].decode("utf-8", "replace")


def explain(place: Arena, result: Result) -> str:
    """What is wrong with a seed: its line, its lake's faults, and the end of each attempt's output."""
    logs = sorted(place.world.root.glob(f"seed-{result.seed}-{result.engine}-*.log"))
    tails = [f"--- {log.name}\n{_tail(log)}" for log in logs]
    return "\n".join([result.line(), *result.remains[:20], *tails])


def table(results: list[Result]) -> str:
    """Sums by engine and over all."""
    columns = ("seeds", "clean", "attempts", "blows", "faults", *compare.COUNTS, "hung", "left", "remains", "seconds")
    lines = [f"{'engine':8}" + "".join(f"{name:>11}" for name in columns)]
    for engine in ("ray", "inline", "all"):
        group = [r for r in results if engine in (r.engine, "all")]
        cells = [
            len(group), sum(r.is_clean for r in group), sum(len(r.statuses) for r in group),
            sum(r.kills for r in group), sum(sum(r.faults.values()) for r in group),
            *(sum(getattr(r, name) for r in group) for name in compare.COUNTS),
            sum(r.hung for r in group), sum(r.left for r in group), sum(len(r.remains) for r in group),
            round(sum(r.seconds for r in group)),
        ]  # fmt: skip
        lines.append(f"{engine:8}" + "".join(f"{cell:11,}" for cell in cells))
    return "\n".join(lines)


def record(result: Result) -> dict[str, Any]:
    return {**asdict(result), "kills": result.kills, "attempts": len(result.statuses), "clean": result.is_clean}


def run_seeds(root: Path, seeds: Iterable[int], out: Path | None, engine: str | None, n_bytes: int) -> list[Result]:
    """Run the seeds one after the other, printing each; appends a line of JSON a seed to `out`."""
    results = []
    with arena(root, n_bytes) as place:
        print(f"quiet run: {place.scale.requests} requests, {place.scale.receipts} parts, "
              f"{len(place.expected.documents)} documents, {len(place.expected.rejects)} rejects, "
              f"{len(place.expected.tokens)} tokens", flush=True)  # fmt: skip
        for seed in seeds:
            plan = draw(seed)
            if engine not in (None, plan.engine):
                continue
            result = run_seed(place, plan)
            results.append(result)
            print(result.line() if result.is_clean else explain(place, result), flush=True)
            if out is not None:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record(result)) + "\n")
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill runs at every moment and compare what they wrote.")
    parser.add_argument("--seeds", type=int, default=30, help="how many seeds; even ones on ray, odd ones inline")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--engine", choices=("ray", "inline"), help="only the seeds of this engine")
    parser.add_argument("--bytes", type=int, default=CORPUS_BYTES, help="size of the corpus")
    parser.add_argument("--out", type=Path, help="append a line of JSON a seed")
    parser.add_argument("--folder", type=Path, help="where worlds, lakes and logs go (default: temporary, removed)")
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    root = Path(tempfile.mkdtemp(prefix="assay-chaos-", dir=asked.folder))
    try:
        seeds = range(asked.first, asked.first + asked.seeds)
        results = run_seeds(root, seeds, asked.out, asked.engine, asked.bytes)
    finally:
        if asked.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    print(table(results))
    print(json.dumps([record(result) for result in results]))
    return 0 if results and all(result.is_clean for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
