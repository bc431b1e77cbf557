"""Steps that are seen at work: each block timed for the metrics, named in the log, and given the log's warnings to
carry to the driver.

    step -> observed(step) -> the same blocks
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from pipelines.logs import LogOptions, carry, configure_worker, log_place
from pipelines.meters import ScoreMeter, StepMeter, StepName

if TYPE_CHECKING:
    from operators.score import Scorer

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Observer:
    """What workers need to be seen; pickles."""

    options: LogOptions

    @property
    def run_id(self) -> str:
        return self.options.run_id or ""

    def begin(self) -> None:
        """Before a worker loads what it needs: what it warns of then is carried by its first block."""
        configure_worker(self.options)

    def step(self, step: Callable[[pa.Table], pa.Table], name: StepName) -> Callable[[pa.Table], pa.Table]:
        """`step`, block by block."""
        return self._watched(step, name, None)

    def scoring(self, step: Callable[[pa.Table], pa.Table], scorer: Scorer) -> Callable[[pa.Table], pa.Table]:
        """The step of an actor, whose scorer is loaded."""
        return self._watched(step, "score", ScoreMeter.start(self.run_id, scorer))

    def _watched(
        self, step: Callable[[pa.Table], pa.Table], name: StepName, actor: ScoreMeter | None
    ) -> Callable[[pa.Table], pa.Table]:
        meter = StepMeter(self.run_id, name)

        def watched(block: pa.Table) -> pa.Table:
            configure_worker(self.options)
            started = time.perf_counter()
            with in_log(block, name):
                done = step(block)
            seconds = time.perf_counter() - started
            meter.observe(seconds)
            if actor is not None:
                actor.observe(block, done, seconds)
            return carry(done)

        return watched

    def reading(self, step: Callable[[T], Iterator[pa.Table]]) -> Callable[[T], Iterator[pa.Table]]:
        """A step that gives the blocks of a task: each is timed from when it was asked for."""
        meter = StepMeter(self.run_id, "read")

        def watched(task: T) -> Iterator[pa.Table]:
            configure_worker(self.options)
            unit = getattr(task, "unit", task)
            with log_place(step="read", unit=getattr(unit, "index", None), file=_first_file(unit)):
                started = time.perf_counter()
                for block in step(task):
                    meter.observe(time.perf_counter() - started)
                    yield carry(block)
                    started = time.perf_counter()

        return watched


@contextlib.contextmanager
def in_log(block: pa.Table, step: str) -> Iterator[None]:
    """What is logged within names the block; at its end, that it is done (level INFO)."""
    with log_place(step=step, **_place(block)):
        started = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - started, 4)
        log.info("block done", extra={"assay": {"seconds": seconds, "rows": len(block)}})


def _place(block: pa.Table) -> dict[str, Any]:
    """Where a block lies in the input; its file is that of its first record."""
    from pipelines.steps import BlockPlace

    place = BlockPlace.of(block)
    sources = block["source"] if "source" in block.schema.names and len(block) else None
    return {"unit": place.unit, "block": place.block, "file": None if sources is None else sources[0].as_py()}


def _first_file(unit: Any) -> str | None:
    pieces = getattr(unit, "pieces", ())
    return pieces[0].shard.uri if pieces else None
