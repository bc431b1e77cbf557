"""What runs the steps of a plan: the inline engine here, the Ray engine in `ray_engine`. Both write the same rows, bit
for bit on a CPU.

    tasks -> read -> tokenize -> score -> write -> manifests

Texts of a transformed run are changed where they are tokenized.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import pyarrow as pa

from pipelines.claims import DEATHS_OF_LOADING, Claims, StoredClaims, counted, guarded
from pipelines.cluster import local_cpus
from pipelines.observed import in_log
from pipelines.placement import Node, Resources, plan_resources
from pipelines.plan import Plan, digest
from pipelines.steps import BlockPlace, ReadStep, ScoreStep, Task, TokenizeStep, WriteStep
from pipelines.units import Unit

UnitStep = Callable[[Unit], Iterator[pa.Table]]


@dataclass(frozen=True)
class Steps:
    """The operators of a run, bound to its plan and to the size of its blocks."""

    read: ReadStep
    tokenize: TokenizeStep
    write: WriteStep

    @classmethod
    def of(cls, plan: Plan, block_bytes: int, claims: Claims) -> Steps:
        c = plan.config
        return cls(
            ReadStep(plan.read_options(block_bytes), plan.lake, c.run_id, c.storage_options, claims),
            TokenizeStep(plan.place, plan.tokenize_options(), plan.vocab_size, plan.block_transform()),
            WriteStep(plan.write_options()),
        )


class Engine(Protocol):
    """A context; within it both methods give tables as they are made, in no promised order."""

    resources: Resources

    @property
    def claims(self) -> Claims: ...

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterable[pa.Table]: ...

    def score(self, tasks: Sequence[Task], block_bytes: int) -> Generator[pa.Table]: ...

    def may_restart(self, error: BaseException) -> bool:
        """Whether it was the machinery that failed, so that starting the tasks that are left again may help."""
        ...


class InlineEngine:
    """A plain loop in this process, one block after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.resources = inline_resources(plan)
        self.scorer: ScoreStep | None = None
        self.claims = StoredClaims(plan.lake, plan.config.run_id, digest(plan.identity))

    def __enter__(self) -> InlineEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.claims.clear()

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        for unit in units:
            yield from step(unit)

    def score(self, tasks: Sequence[Task], block_bytes: int) -> Generator[pa.Table]:
        steps = Steps.of(self.plan, block_bytes, self.claims)

        def scored(rows: pa.Table) -> pa.Table:
            assert self.scorer is not None
            return self.scorer(steps.tokenize(rows))

        for task in tasks:
            for block in steps.read(task):
                self.scorer = self.scorer or self._load()
                name = BlockPlace.of(block).name
                with in_log(block, "score"):
                    manifest = steps.write(guarded(scored, block, name, self.claims))
                yield manifest

    def _load(self) -> ScoreStep:
        """Apart from any block: what kills here is not a document."""
        with counted("loading the model", self.claims, DEATHS_OF_LOADING):
            return ScoreStep(self.plan.scoring())

    def may_restart(self, error: BaseException) -> bool:
        return False


def make_engine(plan: Plan) -> AbstractContextManager[Engine]:
    if plan.config.engine == "inline":
        return InlineEngine(plan)
    from pipelines.ray_engine import RayEngine

    return RayEngine(plan)


def local_resources(plan: Plan) -> Resources:
    """What a run would take of this machine."""
    import torch

    return plan_resources(plan.config, [Node(local_cpus(None), torch.cuda.device_count())])


def inline_resources(plan: Plan) -> Resources:
    """The inline engine takes this process, and one GPU if there is one and it may."""
    import torch

    return Resources(1, float(torch.cuda.is_available() and not plan.config.device.startswith("cpu")), 1.0)
