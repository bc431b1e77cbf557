"""The Ray engine: a Ray Data chain over the tasks of a run.

    tasks -> read -> tokenize -> score -> write -> manifests
             tasks   tasks       actors   tasks

Reading, tokenizing and writing are spread over the cluster's CPUs, scoring is a pool of actors, one GPU or a share of
one each where there are GPUs and one CPU core each otherwise (`placement`). The pool is of one size, or grows while
blocks wait and shrinks while actors do. Blocks stream, so memory stays bounded. A block crosses Ray as one row
that holds an Arrow stream: Ray would merge and split tables as it sees fit, and a document's rows must stay in the part
that is named after them. Ray starts what was killed anew; `ray_claims` sees to it that this ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from operators.model_bytes import weight_bytes
from pipelines.claims import DEATHS_OF_LOADING, Claims, Step, counted, guarded
from pipelines.cluster import cluster, named_address
from pipelines.engines import Steps, UnitStep, inline_resources
from pipelines.logs import LogOptions
from pipelines.observed import Observer
from pipelines.placement import Node, Resources, check_gpus, missing_room, plan_resources
from pipelines.plan import Plan, Scoring
from pipelines.ray_claims import RayClaims
from pipelines.steps import WORKER_METADATA, BlockPlace, ScoreStep, Task
from pipelines.units import Unit

log = logging.getLogger(__name__)

_BLOCK, _WORK = "block", "work"
_READ_CPUS, _TOKENIZE_CPUS, _WRITE_CPUS = 0.03, 0.02, 0.03  # logical: steps of equal ones would fuse into one
_YIELD_EVERY_BLOCK = 1  # bytes: Ray gathers what a task yields up to its target size
_MAX_INPUTS = 2048  # Ray plans an input each; beyond, several units share one


class RaySurveyor:
    """The cluster at `address` or RAY_ADDRESS, else one started here with `workers` cores (default: all)."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self.address, self.workers = address, workers

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(cluster(self.address, self.workers))
            self._claims = RayClaims.start()
            _configure()
            self._stack = stack.pop_all()  # what fails before leaves no cluster behind
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
        # What an actor raises while it is made comes as its death: loading the model again would raise it again.
        from_step = any(isinstance(e, ours) or getattr(e, "actor_init_failed", False) for e in chain)
        return not from_step and any(isinstance(e, ray.exceptions.RayError) for e in chain)


class RayEngine(RaySurveyor):
    """A surveyor that scores, too."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.config.address, _cores(plan))
        self.plan = plan
        self.resources = Resources(0, 0.0, 0.0)

    def __enter__(self) -> Self:
        import ray

        joined = ray.is_initialized() or named_address(self.address) is not None
        super().__enter__()
        try:
            nodes = [Node.of(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]
            said = [check_gpus(self.plan.config, nodes, may_grow=joined)]
            weights = weight_bytes(self.plan.folder, self.plan.config.dtype)
            self.resources = plan_resources(self.plan.config, nodes, weights)
            for warning in filter(None, [*said, missing_room(self.plan.config, nodes, self.resources)]):
                log.warning("%s", warning)
        except BaseException:
            self._stack.close()
            raise
        return self

    def score(self, tasks: Sequence[Task], block_bytes: int) -> Generator[pa.Table]:
        # Tasks take next to no logical CPU, so that they always find room; how many run at once is said instead.
        few, many = max(2, self.resources.cores // 4), max(1, self.resources.cores // 2)
        claims, light = self.claims, self.resources.light_options
        steps = Steps.of(self.plan, block_bytes, claims)
        observer = Observer(LogOptions.of(self.plan.config.run_id))
        manifests = (
            _inputs(tasks)
            .flat_map(_tables_of(observer.reading(steps.read)), num_cpus=_READ_CPUS, concurrency=few, **light)
            .map_batches(
                _over_blocks(observer.step(_guarded(steps.tokenize, "tokenize", claims), "tokenize")),
                **_arrow(num_cpus=_TOKENIZE_CPUS, concurrency=many, **light),
            )
            .map_batches(
                _actor_class(self.plan.scoring(), claims, observer),
                compute=_pool(self.resources),
                **_actor_options(self.resources),
            )
            .map_batches(
                _over_blocks(observer.step(_counted(steps.write, "write", claims), "write")),
                **_arrow(num_cpus=_WRITE_CPUS, concurrency=few, **light),
            )
        )
        yield from _tables(manifests)


def _cores(plan: Plan) -> int | None:
    """Of a cluster that is started here, one for each actor; None for all where actors take GPUs, which says nothing of
    the cores that reading and tokenizing for them may take."""
    if named_address(plan.config.address) is None and inline_resources(plan).gpus:
        return None
    return plan.config.max_actors or plan.config.actors


def _configure() -> None:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, and said once
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _YIELD_EVERY_BLOCK
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _pool(resources: Resources) -> Any:
    """The scorers: as many as are asked for, or from the fewest to the most, as there is work.

    Ray adds an actor where each has a block in hand and one waiting, and ends one where half of them have none.
    """
    import ray.data

    most = resources.most_actors
    return ray.data.ActorPoolStrategy(min_size=resources.actors, max_size=most, max_tasks_in_flight_per_actor=2)


def _actor_options(resources: Resources) -> dict[str, Any]:
    asked = {"accelerator_type": resources.accelerator_type, "memory": resources.memory or None}
    asked = {name: value for name, value in asked.items() if value is not None}
    return _arrow(num_cpus=resources.cpus, num_gpus=resources.gpus, **asked)


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


def _actor_class(scoring: Scoring, claims: Claims, observer: Observer) -> type:
    """A pool member's class with its options bound: arguments of a constructor would not survive a restart."""

    class ScoreActor:
        def __init__(self) -> None:
            import ray

            observer.begin()
            # Restarts keep the actor's id, and Ray would go on with them for ever.
            loading = f"loading the model in actor {ray.get_runtime_context().get_actor_id()}"
            with counted(loading, claims, DEATHS_OF_LOADING):
                step = ScoreStep(scoring)
            self.over = _over_blocks(observer.scoring(_signed(_guarded(step, "score", claims)), step.scorer))

        def __call__(self, batch: pa.Table) -> pa.Table:
            return self.over(batch)

    return ScoreActor


def _signed(step: Step) -> Step:
    """`step`, whose blocks say where they were made: the actor, its node and its GPUs."""
    import ray

    context = ray.get_runtime_context()
    worker = json.dumps(
        {"actor": context.get_actor_id(), "node": context.get_node_id(), "gpus": context.get_accelerator_ids()["GPU"]}
    )

    def signed(block: pa.Table) -> pa.Table:
        done = step(block)
        return done.replace_schema_metadata({**(done.schema.metadata or {}), WORKER_METADATA: worker})

    return signed


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


def _tables_of(step: Callable[[Any], Iterator[pa.Table]]) -> Callable[[dict[str, Any]], Iterator[dict[str, bytes]]]:
    def rows(item: dict[str, Any]) -> Iterator[dict[str, bytes]]:
        for table in step(pickle.loads(item[_WORK])):
            yield {_BLOCK: _wrap(table)}

    return rows


def _over_blocks(step: Step) -> Callable[[pa.Table], pa.Table]:
    def over(batch: pa.Table) -> pa.Table:
        return pa.table({_BLOCK: pa.array([_wrap(step(block)) for block in _unwrap(batch)], pa.large_binary())})

    return over
