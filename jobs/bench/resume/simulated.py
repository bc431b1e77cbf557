"""A run of very many shards by the driver's own code over a store that only lists: nothing is read, scored or written.

    list_input -> previous_run -> Plan -> score_corpus: journal, units, tasks, manifests, settling
                                            ^ the engine here: says of each block that is left that it was written

What the driver does is real: its listings, its journal, its comparisons. Workers are not there: a block takes no time,
its parts appear in the store as they would, and its manifest comes back. The engine can be killed after so many blocks,
with the machine: the store then takes nothing more, so what the journal had not stored is lost.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.bench.measure import memory_status
from jobs.bench.resume.store import PROTOCOL, RUN, World, part_name
from operators.lake import Lake
from operators.model_places import ModelPlace
from operators.windows import WindowOptions
from operators.write import MANIFEST
from pipelines.claims import Claims, MemoryClaims
from pipelines.config import ScoreConfig
from pipelines.engines import UnitStep
from pipelines.journal import Journal
from pipelines.placement import Resources
from pipelines.plan import Plan
from pipelines.previous import list_input, previous_run
from pipelines.score import score_corpus
from pipelines.steps import BlockPlace, Task
from pipelines.units import Unit

MORE_EVERY, MORE_BLOCKS = 10, 3  # every tenth unit has three blocks, the others one
REJECTS_EVERY = 50  # blocks
IDS_A_PART = 4
RECORDS, TOKENS, TEXT_BYTES = 1000, 500_000, 2_000_000  # of a block


class KilledError(BaseException):
    """The driver's process is gone."""


def n_blocks(n_units: int) -> int:
    """Blocks of so many units."""
    return n_units + (MORE_BLOCKS - 1) * -(-n_units // MORE_EVERY)


def first_block(unit: int) -> int:
    """The number in the run of a unit's first block."""
    return n_blocks(unit)


def blocks_of(unit: int) -> int:
    return MORE_BLOCKS if unit % MORE_EVERY == 0 else 1


@dataclass(frozen=True)
class Attempt:
    """One start of the driver. `resume_s`: from its start to the first task; `driver_us`: of the driver for a block;
    `settle_s`: from the last block to the end; memory in bytes; `requests`: of the driver, by kind, before the first
    task and after; `done`: the numbers of the blocks that were done, in order."""

    resume_s: float
    driver_us: float
    settle_s: float
    peak_bytes: int
    requests: tuple[dict[str, int], dict[str, int]]
    done: npt.NDArray[np.int64]
    is_finished: bool


@dataclass
class Driver:
    """Starts the driver again and again over one world. `blocks_a_flush`: how many come in the seconds between two
    writes of the journal."""

    world: World
    name: str
    blocks_a_flush: int

    def attempt(self, stop_after: int | None = None) -> Attempt:
        """Run until the end, or until the machine is lost after that many blocks."""
        self.world.is_dead = False
        self.world.requests.clear()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        started = time.perf_counter()
        plan = self.plan()
        engine = ListedEngine(plan, self.world, self.blocks_a_flush, stop_after)
        finished = True
        try:
            journal = PacedJournal.open(plan.lake, RUN)
            journal.pace = self.blocks_a_flush
            score_corpus(plan, engine, journal)
        except BaseException:  # that, or what came of the store's refusal on the way out
            if not self.world.is_dead:
                raise
            finished = False
        ended = time.perf_counter()
        peak = memory_status("VmHWM")
        before = engine.before
        after = {kind: n - before.get(kind, 0) for kind, n in self.world.requests.items()}
        done = np.array(engine.done, np.int64)
        first, last = engine.first_s or ended, engine.last_s or ended
        return Attempt(
            first - started, 1e6 * (last - first) / max(1, len(done)), ended - last if finished else 0.0, peak,
            (before, after), done, finished,
        )  # fmt: skip

    def plan(self) -> Plan:
        """As `pipelines.plan.make_plan` makes it, without a model."""
        config = ScoreConfig.parse(
            model="none", input=(f"{PROTOCOL}://{self.name}/in",), lake=f"{PROTOCOL}://{self.name}/lake", run_id=RUN,
            engine="inline", device="cpu",
        )  # fmt: skip
        lake = ListedLake(config.lake)
        listing = list_input(config)
        identity = {**config.identity, "input_listing": listing.digest}
        facts = {"vocab_size": 2, "path": "none"}
        previous = previous_run(lake, RUN, identity, listing)
        return Plan(
            config, lake, listing, Path(), place=ModelPlace("none"), windows=WindowOptions(1024, 512),
            identity=identity, model_facts=facts, tokenizer_facts=facts, previous=previous,
        )  # fmt: skip


@dataclass
class PacedJournal(Journal):
    """Stores what was added every so many blocks, not every few seconds: here these take no time."""

    pace: int = 1

    def add(self, row: dict[str, Any]) -> None:
        super().add(row)
        if len(self._new) >= self.pace:
            self.flush()


class ListedLake(Lake):
    """Documents parts that nobody wrote cannot be read: their ids are given, `IDS_A_PART` of each."""

    def _doc_ids(self, names: list[str], run_id: str) -> Iterator[npt.NDArray[np.int64]]:
        for name in names:
            start = int(name[:15], 16) << 2
            yield np.arange(start, start + IDS_A_PART, dtype=np.int64)


@dataclass
class ListedEngine:
    """Says of every block of its tasks that it was written; `done`: their numbers. `before`: requests made before the
    first task."""

    plan: Plan
    world: World
    blocks_a_flush: int
    stop_after: int | None
    resources: Resources = field(default_factory=lambda: Resources(256, 1.0, 1.0))
    claims: Claims = field(default_factory=MemoryClaims)
    done: list[int] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    first_s: float | None = None
    last_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterable[pa.Table]:
        return [table for unit in units for table in step(unit)]

    def score(self, tasks: Sequence[Task], block_bytes: int) -> Generator[pa.Table]:
        self.first_s = self.first_s or time.perf_counter()
        self.before = self.before or dict(self.world.requests)
        places: list[BlockPlace] = []
        for task in tasks:
            unit = task.unit.index
            for block in range(blocks_of(unit)):
                if block not in task.done:
                    places.append(BlockPlace(unit, block, block + 1 == blocks_of(unit), RECORDS))
            if len(places) >= self.blocks_a_flush:
                yield self._written(places)
                places = []
        if places:
            yield self._written(places)
        self.last_s = time.perf_counter()

    def may_restart(self, error: BaseException) -> bool:
        return False

    def _written(self, places: Sequence[BlockPlace]) -> pa.Table:
        """Let the parts of these blocks appear, and give their manifests."""
        if self.stop_after is not None and len(self.done) >= self.stop_after:
            self.last_s = time.perf_counter()
            self.world.is_dead = True
            raise KilledError
        numbers = [first_block(place.unit) + place.block for place in places]
        for number in numbers:
            for table, there in self.world.parts.items():
                there[number] = table != "rejects" or number % REJECTS_EVERY == 0
        self.done += numbers
        return manifests(places, numbers)


def manifests(places: Sequence[BlockPlace], numbers: Sequence[int]) -> pa.Table:
    """What the write step says of these blocks, a row each."""
    rejects = [int(number % REJECTS_EVERY == 0) for number in numbers]
    names = [part_name(number) for number in numbers]
    columns: dict[str, Any] = {
        "part": names,
        "rejects_part": [name if n else None for name, n in zip(names, rejects, strict=True)],
        "documents": [RECORDS - n for n in rejects],
        "rejects": rejects,
        "reasons": ['{"empty_text": 1}' if n else None for n in rejects],
        "tokens": [TOKENS] * len(places),
        "scored": [TOKENS] * len(places),
        "text_bytes": [TEXT_BYTES] * len(places),
    }
    zeros = {f.name: [0] * len(places) for f in MANIFEST if f.name not in columns}
    where = {name: [getattr(place, name) for place in places] for name in ("unit", "block", "is_last", "rows_in")}
    share = {"share": [1.0 / blocks_of(place.unit) for place in places]}
    return pa.table({**columns, **zeros, **where, **share})
