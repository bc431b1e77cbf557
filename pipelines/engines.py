"""Runs the steps of a plan under one of two engines that write the same rows, bit for bit on a CPU.

    sources -> read -> tokenize -> score -> write -> manifests

`inline` is a plain loop in this process. `ray` is a Ray Data chain: reading, tokenizing and writing are tasks spread
over the cluster's CPUs, scoring is a pool of actors, one GPU each where there are GPUs and one CPU core each otherwise;
blocks stream, so memory stays bounded. A block crosses Ray as one row that holds an Arrow stream: Ray would merge and
split tables as it sees fit, and a document's rows must stay in the part that is named after them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from operators.shards import Shard
from pipelines.plan import Plan, Scoring, Source
from pipelines.steps import ReadStep, ScoreStep, TokenizeStep, WriteStep

_BLOCK = "block"
_TASK_CPUS = 0.75  # reading, tokenizing and writing side by side
_STEP_CPUS = 0.25  # logical: keeps tasks from fusing into the actors
_YIELD_EVERY_BLOCK = 1  # bytes: Ray gathers what a task yields up to its target size


@dataclass(frozen=True)
class Resources:
    """What a run takes: `actors` scorers, each with `gpus` GPUs or one CPU core."""

    actors: int
    gpus: float
    cpus: float


def inline(plan: Plan) -> Generator[pa.Table]:
    """Manifests of a run in this process, one block after the other."""
    read, tokenize, write = _cpu_steps(plan, inline_resources(plan))
    score: ScoreStep | None = None
    for source in plan.sources:
        for block in read(source):
            score = score or ScoreStep(plan.scoring())
            yield write(score(tokenize(block)))


def ray_data(plan: Plan) -> Generator[pa.Table]:
    """Manifests of a run on Ray: the cluster at `--address` or RAY_ADDRESS, else one started here for the run."""
    import ray.data

    with _cluster(plan):
        resources = plan_resources(plan, ray.cluster_resources())
        read, tokenize, write = _cpu_steps(plan, resources)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, and said once
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = _YIELD_EVERY_BLOCK
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        sources = ray.data.from_items([_record(s) for s in plan.sources], override_num_blocks=len(plan.sources))
        manifests = (
            sources.flat_map(_rows_of(read), num_cpus=_STEP_CPUS)
            .map_batches(_over_blocks(tokenize), **_arrow(num_cpus=_STEP_CPUS / 2))
            .map_batches(
                _actor_class(plan.scoring()),
                compute=ray.data.ActorPoolStrategy(size=resources.actors),
                **_arrow(num_cpus=resources.cpus, num_gpus=resources.gpus),
            )
            .map_batches(_over_blocks(write), **_arrow(num_cpus=_STEP_CPUS))
        )
        with warnings.catch_warnings():
            # Ray counts inputs, not the blocks that reading makes of them, when it says that actors may idle.
            warnings.filterwarnings("ignore", "The minimum number of concurrent actors")
            for batch in manifests.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from _unwrap(batch)


ENGINES: dict[str, Callable[[Plan], Generator[pa.Table]]] = {"ray": ray_data, "inline": inline}


def _actor_class(scoring: Scoring) -> type:
    """A pool member's class with its options bound: arguments of a constructor would not survive a restart."""

    class ScoreActor:
        def __init__(self) -> None:
            self.over = _over_blocks(ScoreStep(scoring))

        def __call__(self, batch: pa.Table) -> pa.Table:
            return self.over(batch)

    return ScoreActor


def plan_resources(plan: Plan, cluster: dict[str, float]) -> Resources:
    """One actor a GPU; without GPUs one a core, leaving the logical share that tasks need."""
    on_cpu = plan.config.device.startswith("cpu")
    gpus = 0 if on_cpu else int(cluster.get("GPU", 0))
    cores = int(cluster.get("CPU", 1))
    actors = plan.config.actors or gpus or max(1, cores - 1)
    # Actors hold their CPUs for the whole run: what the tasks need must be left, or nothing would ever be read.
    cpus = min(1.0, max(0.01, (cores - _TASK_CPUS) / actors))
    return Resources(actors, 1.0 if gpus else 0.0, round(cpus, 2))


def local_resources(plan: Plan) -> Resources:
    """What a run would take of this machine."""
    import torch

    return plan_resources(plan, {"CPU": (os.cpu_count() or 1) + 1, "GPU": torch.cuda.device_count()})


def inline_resources(plan: Plan) -> Resources:
    """The inline engine takes this process, and one GPU if there is one and it may."""
    import torch

    return Resources(1, float(torch.cuda.is_available() and not plan.config.device.startswith("cpu")), 1.0)


def _cpu_steps(plan: Plan, resources: Resources) -> tuple[ReadStep, TokenizeStep, WriteStep]:
    done_in = None if plan.previous is None else (plan.lake, plan.config.run_id)
    read = ReadStep(
        plan.read_options(resources.actors, on_gpu=resources.gpus > 0), done_in, plan.config.storage_options
    )
    tokenize = TokenizeStep(str(plan.folder), plan.tokenize_options(), plan.vocab_size)
    return read, tokenize, WriteStep(plan.write_options())


def _arrow(**resources: float) -> dict[str, Any]:
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


def _record(source: Source) -> dict[str, Any]:
    return {**asdict(source.shard), "stop": -1 if source.stop is None else source.stop}


def _source(record: dict[str, Any]) -> Source:
    stop = record["stop"]
    shard = Shard(record["uri"], record["format"], record["n_bytes"])
    return Source(shard, None if stop < 0 else stop)


def _rows_of(read: ReadStep) -> Callable[[dict[str, Any]], Iterator[dict[str, bytes]]]:
    def rows(item: dict[str, Any]) -> Iterator[dict[str, bytes]]:
        for block in read(_source(item)):
            yield {_BLOCK: _wrap(block)}

    return rows


def _over_blocks(step: Callable[[pa.Table], pa.Table]) -> Callable[[pa.Table], pa.Table]:
    def over(batch: pa.Table) -> pa.Table:
        return pa.table({_BLOCK: pa.array([_wrap(step(block)) for block in _unwrap(batch)], pa.large_binary())})

    return over


class _cluster:  # noqa: N801 - used as a statement
    """A Ray cluster for the run: joined if there is one, else started here and ended with the run."""

    def __init__(self, plan: Plan) -> None:
        self.address = plan.config.address or os.environ.get("RAY_ADDRESS")
        self.actors = plan.config.actors
        self.started = False

    def __enter__(self) -> None:
        import ray

        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side warns of what Ray Data does by design
        with _stderr_on_failure():
            if self.address:
                ray.init(address=self.address, **quiet)
            else:
                cores = self.actors or os.cpu_count() or 1
                # One logical CPU more than cores: the light tasks run beside the scoring actors, not after them.
                ray.init(address="local", num_cpus=cores + 1, include_dashboard=False, **quiet)
        self.started = True

    def __exit__(self, *_: object) -> None:
        import ray

        if self.started:
            ray.shutdown()


@contextlib.contextmanager
def _stderr_on_failure() -> Iterator[None]:
    """Hold back what native code writes to standard error (notes on its log level), and show it if starting fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
