"""Metrics of a run, as Ray exports them on every node: `METRICS` is all there is.

driver   documents, tokens, rejects by reason, the share done and the time left    (RunMeter; exactly once)
workers  seconds and blocks of every step                                          (StepMeter)
actors   tokens, how full batches are, GPU memory, share of the device's peak      (ScoreMeter)

Ray puts `ray_` before a name and serves it at every node's metrics port. The driver counts what the journal names, so
a block that is done twice counts once; what workers count is work, twice where it was done twice. Seconds and blocks
are two counters rather than a histogram, whose sum Ray 2.60 exports from the middles of its buckets.

Nothing here ever fails a run, and without a cluster nothing is done: an inline run is seen by `assay status`. Labels
stay few: runs, nodes, reasons, steps, and an actor is named by its GPU.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.whereabouts import joined_ray, whereabouts

if TYPE_CHECKING:
    from operators.score import Scorer

log = logging.getLogger(__name__)

GAUGES_EVERY, GAUGES_FOR = 5.0, 900.0  # seconds: how often a gauge is set again, and how long after its last value

StepName = Literal["read", "tokenize", "score", "write"]
_RUN, _STEP, _REASON = ("run_id",), ("run_id", "step"), ("run_id", "reason")
_ACTOR = ("run_id", "node", "actor")


@dataclass(frozen=True)
class Metric:
    """`labels`: exactly those that every value has; Ray adds its own (node, worker, session)."""

    name: str
    kind: Literal["Counter", "Gauge"]
    description: str
    labels: tuple[str, ...]

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
        return f"ray_{self.name}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("assay_documents_total", "Counter", "Documents scored and written.", _RUN),
        Metric("assay_tokens_total", "Counter", "Tokens of documents scored and written.", _RUN),
        Metric("assay_rejects_total", "Counter", "Records rejected, by reason.", _REASON),
        Metric("assay_run_done_ratio", "Gauge", "Share of the run's work that is done, 0 to 1.", _RUN),
        Metric("assay_run_left_seconds", "Gauge", "Estimate of the time left.", _RUN),
        Metric("assay_step_seconds_total", "Counter", "Time that workers spent in a step.", _STEP),
        Metric("assay_step_blocks_total", "Counter", "Blocks that left a step.", _STEP),
        Metric("assay_actor_tokens_total", "Counter", "Tokens of documents that an actor scored.", _ACTOR),
        Metric("assay_actor_tokens_per_second", "Gauge", "Tokens a second of an actor's last block.", _ACTOR),
        Metric("assay_actor_batch_fill_ratio", "Gauge", "Tokens fed over room in the batches, last block.", _ACTOR),
        Metric("assay_actor_flops_ratio", "Gauge", "Share of the device's peak FLOP/s achieved, last block.", _ACTOR),
        Metric("assay_actor_gpu_memory_peak_bytes", "Gauge", "Most that the actor's tensors took at once.", _ACTOR),
        Metric("assay_actor_gpu_memory_reserved_bytes", "Gauge", "GPU memory that the actor holds.", _ACTOR),
        Metric("assay_gpu_memory_used_bytes", "Gauge", "Memory in use on the actor's GPU, by anyone.", _ACTOR),
        Metric("assay_gpu_memory_total_bytes", "Gauge", "Memory of the actor's GPU.", _ACTOR),
    )
}


def never_failing(observe: Callable[..., None]) -> Callable[..., None]:
    """A run goes on without its metrics."""

    @functools.wraps(observe)
    def quietly(*args: Any, **kwargs: Any) -> None:
        try:
            observe(*args, **kwargs)
        except Exception:  # Ray's agent may be gone, its protocol another one: nobody's score depends on it
            log.debug("a metric was not recorded", exc_info=True)

    return quietly


@functools.lru_cache(maxsize=4 * len(METRICS))
def _instrument(name: str, node: str) -> Any:
    """Ray's side of a metric; one a process and cluster (`node` tells clusters apart)."""
    from ray.util import metrics

    metric = METRICS[name]
    return getattr(metrics, metric.kind)(metric.name, metric.description, metric.labels)


def record(name: str, value: float, **labels: str) -> None:
    """Add to a counter, or set a gauge. Nothing where this process is none of a cluster's."""
    ray = joined_ray()
    if ray is None:
        return
    instrument = _instrument(name, ray.get_runtime_context().get_node_id())
    if METRICS[name].kind == "Gauge":
        instrument.set(float(value), labels)
        _GAUGES.keep(name, labels, value)
    elif value > 0:  # Ray refuses to add nothing
        instrument.inc(float(value), labels)


class _Gauges:
    """Sets gauges again: Ray forgets what was not set in its last two reports, 20 seconds, and blocks take longer."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, float]] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, name: str, labels: Mapping[str, str], value: float) -> None:
        with self._guard:
            self._kept[name, tuple(sorted(labels.items()))] = (value, time.monotonic())
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._repeat, name="assay gauges", daemon=True)
                self._thread.start()

    def drop(self, run_id: str) -> None:
        """A run is over: its gauges fade."""
        with self._guard:
            self._kept = {key: kept for key, kept in self._kept.items() if dict(key[1])["run_id"] != run_id}

    def _repeat(self) -> None:
        """Until nothing is kept, or this process is none of a cluster's any more."""
        while True:
            time.sleep(GAUGES_EVERY)
            with self._guard:
                oldest = time.monotonic() - GAUGES_FOR
                ray = joined_ray()
                self._kept = {k: v for k, v in self._kept.items() if v[1] > oldest} if ray is not None else {}
                if not self._kept:
                    self._thread = None
                    return
                kept = list(self._kept.items())
            with contextlib.suppress(Exception):  # a cluster that goes meanwhile
                node = ray.get_runtime_context().get_node_id()
                for (name, labels), (value, _) in kept:
                    _instrument(name, node).set(float(value), dict(labels))


_GAUGES = _Gauges()


@dataclass(frozen=True)
class StepMeter:
    """Times a step, in whatever process works; pickles."""

    run_id: str
    step: StepName

    @never_failing
    def observe(self, seconds: float) -> None:
        """A block left the step after this long."""
        record("assay_step_seconds_total", seconds, run_id=self.run_id, step=self.step)
        record("assay_step_blocks_total", 1, run_id=self.run_id, step=self.step)


@dataclass(frozen=True)
class RunMeter:
    """Counts what the driver takes into the journal."""

    run_id: str

    @classmethod
    def start(cls, run_id: str) -> RunMeter:
        return cls(run_id)

    @never_failing
    def observe(self, manifest: Mapping[str, Any], done: float | None, left: float | None) -> None:
        """A block's manifest; `done`: share of the run's work, `left`: seconds, None where unknown."""
        record("assay_documents_total", manifest["documents"], run_id=self.run_id)
        record("assay_tokens_total", manifest["tokens"], run_id=self.run_id)
        for reason, n in json.loads(manifest["reasons"] or "{}").items():
            record("assay_rejects_total", n, run_id=self.run_id, reason=reason)
        self._set(done, left)

    @never_failing
    def finish(self) -> None:
        """The attempt is over: what it says of now fades."""
        _GAUGES.drop(self.run_id)

    def _set(self, done: float | None, left: float | None) -> None:
        for name, value in (("assay_run_done_ratio", done), ("assay_run_left_seconds", left)):
            if value is not None:
                record(name, value, run_id=self.run_id)


@dataclass
class ScoreMeter:
    """What an actor does, block by block. Made where the model is, after it is loaded."""

    run_id: str
    scorer: Scorer
    labels: dict[str, str] = field(default_factory=dict)
    cost: Any = None  # ForwardCost
    peak: float | None = None  # FLOP/s
    _fed: int = 0
    _batches: int = 0

    @classmethod
    def start(cls, run_id: str, scorer: Scorer) -> ScoreMeter:
        """A meter for the model of `scorer`; where its cost or its device's peak is unknown, no share is recorded."""
        meter = cls(run_id, scorer)
        meter._look()
        return meter

    @never_failing
    def _look(self) -> None:
        here = whereabouts()
        self.labels = {"run_id": self.run_id, "node": here.node, "actor": here.actor}
        self._fed, self._batches = self.scorer.fed_tokens, self.scorer.batches
        if not here.node or self.scorer.model.device.type != "cuda":
            return
        import torch

        from operators.flops import ForwardCost, peak_flops

        model = self.scorer.model
        self.peak = peak_flops(torch.cuda.get_device_name(model.device), model.dtype)
        self.cost = ForwardCost.of(model.model) if self.peak else None

    @never_failing
    def observe(self, block: pa.Table, scored: pa.Table, seconds: float) -> None:
        """`block` went in, `scored` came out after `seconds`."""
        if joined_ray() is None:
            return
        tokens = pc.sum(pc.list_value_length(scored["token_id"])).as_py() or 0
        self._record("assay_actor_tokens_total", tokens)
        fed, batches = self.scorer.fed_tokens - self._fed, self.scorer.batches - self._batches
        self._fed, self._batches = self.scorer.fed_tokens, self.scorer.batches
        if tokens and seconds > 0:
            self._record("assay_actor_tokens_per_second", tokens / seconds)
        if batches:
            self._record("assay_actor_batch_fill_ratio", fed / (batches * self.scorer.batch_tokens))
        if self.cost is not None and self.peak and seconds > 0:
            self._record("assay_actor_flops_ratio", self._flops(block, scored) / seconds / self.peak)
        if self.scorer.model.device.type == "cuda":
            self._memory()

    def _flops(self, block: pa.Table, scored: pa.Table) -> float:
        """Operations that the block's windows need, done once: a batch that is done again is no achievement."""
        from operators.windows import segments

        lengths = [n for n in pc.list_value_length(block["token_id"]).to_pylist() if n]
        fed = [len(segment) for segment in segments(lengths, self.scorer.options.windows)]
        predicted = pc.count(pc.list_flatten(scored["logprob"])).as_py()  # a first token has none
        return float(self.cost.flops(fed, predicted))

    def _memory(self) -> None:
        import torch

        device = self.scorer.model.device
        free, total = torch.cuda.mem_get_info(device)
        self._record("assay_actor_gpu_memory_peak_bytes", torch.cuda.max_memory_allocated(device))
        self._record("assay_actor_gpu_memory_reserved_bytes", torch.cuda.memory_reserved(device))
        self._record("assay_gpu_memory_used_bytes", total - free)
        self._record("assay_gpu_memory_total_bytes", total)

    def _record(self, name: str, value: float) -> None:
        record(name, value, **self.labels)
