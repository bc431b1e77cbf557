"""The Ray engine: a Ray Data chain over the tasks of a run.

    tasks -> read -> tokenize -> score -> write -> manifests
             tasks   tasks       actors   tasks

Reading, tokenizing and writing are spread over the cluster's CPUs, scoring is a pool of actors, one GPU each where
there are GPUs and one CPU core each otherwise; blocks stream, so memory stays bounded. A block crosses Ray as one row
that holds an Arrow stream: Ray would merge and split tables as it sees fit, and a document's rows must stay in the part
that is named after them. Ray starts what was killed anew; `claims` sees to it that this ends.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from pipelines.claims import DEATHS_OF_LOADING, Claims, MemoryClaims, Step, counted, guarded
from pipelines.cluster import cluster
from pipelines.engines import Resources, Steps, UnitStep, plan_resources
from pipelines.plan import Plan, Scoring
from pipelines.steps import BlockPlace, ReadStep, ScoreStep, Task
from pipelines.units import Unit

_BLOCK, _WORK = "block", "work"
_READ_CPUS, _TOKENIZE_CPUS, _WRITE_CPUS = 0.03, 0.02, 0.03  # logical: steps of equal ones would fuse into one
_YIELD_EVERY_BLOCK = 1  # bytes: Ray gathers what a task yields up to its target size
_MAX_INPUTS = 2048  # Ray plans an input each; beyond, several units share one


class RaySurveyor:
    """The cluster at `address` or RAY_ADDRESS, else one started here with `workers` cores (default: all)."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self.address, self.workers = address, workers
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(cluster(self.address, self.workers))
        self._claims = RayClaims.start()
        _configure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def claims(self) -> Claims:
        return self._claims

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        found = _inputs(units).flat_map(_tables_of(step), num_cpus=1)
        yield from _tables(found)

    def may_restart(self, error: BaseException) -> bool:
        """What our own steps raise is final; a lost node, object or worker that Ray could not make good is not."""
        import ray.exceptions

        chain: list[BaseException] = []
        while error is not None and error not in chain:
            chain.append(error)
            error = getattr(error, "cause", None) or error.__cause__  # type: ignore[assignment]
        ours = (ray.exceptions.RayTaskError, ray.exceptions.UnserializableException)
        from_step = any(isinstance(e, ours) for e in chain)
        return not from_step and any(isinstance(e, ray.exceptions.RayError) for e in chain)


class RayEngine(RaySurveyor):
    """A surveyor that scores, too."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.config.address, plan.config.actors)
        self.plan = plan
        self.resources = Resources(0, 0.0, 0.0)

    def __enter__(self) -> Self:
        import ray

        super().__enter__()
        self.resources = plan_resources(self.plan, ray.cluster_resources())
        return self

    def score(self, tasks: Sequence[Task], block_bytes: int) -> Generator[pa.Table]:
        import ray.data

        # Tasks take next to no logical CPU, so that they always find room; how many run at once is said instead.
        few, many = max(2, self.resources.cores // 4), max(1, self.resources.cores // 2)
        claims = self.claims
        steps = Steps.of(self.plan, block_bytes, claims)
        manifests = (
            _inputs(tasks)
            .flat_map(_tables_of(steps.read), num_cpus=_READ_CPUS, concurrency=few)
            .map_batches(
                _over_blocks(_guarded(steps.tokenize, "tokenize", claims)),
                **_arrow(num_cpus=_TOKENIZE_CPUS, concurrency=many),
            )
            .map_batches(
                _actor_class(self.plan.scoring(), claims),
                compute=ray.data.ActorPoolStrategy(size=self.resources.actors),
                **_arrow(num_cpus=self.resources.cpus, num_gpus=self.resources.gpus),
            )
            .map_batches(
                _over_blocks(_counted(steps.write, "write", claims)), **_arrow(num_cpus=_WRITE_CPUS, concurrency=few)
            )
        )
        yield from _tables(manifests)


class RayClaims:
    """Claims held by an actor of their own. If that dies, nothing is held against anyone, and it starts over."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def start(cls) -> RayClaims:
        import ray

        return cls(ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(MemoryClaims).remote())

    def begin(self, name: str) -> int:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            return int(ray.get(self.actor.begin.remote(name)))
        return 0

    def end(self, name: str) -> None:
        self.actor.end.remote(name)


def _configure() -> None:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, and said once
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _YIELD_EVERY_BLOCK
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _inputs(work: Sequence[Any]) -> Any:
    """Ours to unpickle: what is packed here is what the tasks of this run unpack."""
    import ray.data

    return ray.data.from_items(
        [{_WORK: pickle.dumps(item)} for item in work], override_num_blocks=min(len(work), _MAX_INPUTS)
    )


def _tables(dataset: Any) -> Iterator[pa.Table]:
    with warnings.catch_warnings():
        # Ray counts inputs, not the blocks that reading makes of them, when it says that workers may idle.
        warnings.filterwarnings("ignore", "The (minimum|maximum) number of concurrent (actors|tasks)")
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from _unwrap(batch)


def _actor_class(scoring: Scoring, claims: Claims) -> type:
    """A pool member's class with its options bound: arguments of a constructor would not survive a restart."""

    class ScoreActor:
        def __init__(self) -> None:
            import ray

            # Restarts keep the actor's id, and Ray would go on with them for ever.
            loading = f"loading the model in actor {ray.get_runtime_context().get_actor_id()}"
            with counted(loading, claims, DEATHS_OF_LOADING):
                step = ScoreStep(scoring)
            self.over = _over_blocks(_guarded(step, "score", claims))

        def __call__(self, batch: pa.Table) -> pa.Table:
            return self.over(batch)

    return ScoreActor


def _guarded(step: Step, verb: str, claims: Claims) -> Step:
    return lambda block: guarded(step, block, f"{verb} {BlockPlace.of(block).name}", claims)


def _counted(step: Step, verb: str, claims: Claims) -> Step:
    def counted_step(block: pa.Table) -> pa.Table:
        with counted(f"{verb} {BlockPlace.of(block).name}", claims):
            return step(block)

    return counted_step


def _arrow(**resources: Any) -> dict[str, Any]:
    # A row is a block. Ray demands a batch size where GPUs are asked for.
    return {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True, **resources}


def _wrap(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    buffer: bytes = sink.getvalue().to_pybytes()
    return buffer


def _unwrap(batch: pa.Table) -> Iterator[pa.Table]:
    for value in batch[_BLOCK]:
        with pa.ipc.open_stream(value.as_buffer()) as reader:
            yield reader.read_all()


def _tables_of(step: ReadStep | UnitStep) -> Callable[[dict[str, Any]], Iterator[dict[str, bytes]]]:
    def rows(item: dict[str, Any]) -> Iterator[dict[str, bytes]]:
        tables: Iterable[pa.Table] = step(pickle.loads(item[_WORK]))
        for table in tables:
            yield {_BLOCK: _wrap(table)}

    return rows


def _over_blocks(step: Step) -> Callable[[pa.Table], pa.Table]:
    def over(batch: pa.Table) -> pa.Table:
        return pa.table({_BLOCK: pa.array([_wrap(step(block)) for block in _unwrap(batch)], pa.large_binary())})

    return over
