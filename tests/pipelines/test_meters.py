"""Metrics: what a real node of Ray serves is what the run did."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
import runs
import small
import torch
from prometheus_client.parser import text_string_to_metric_families

from operators.windows import WindowOptions
from pipelines import meters
from pipelines.logs import LogOptions, Sayer
from pipelines.meters import METRICS, RunMeter, ScoreMeter, StepMeter, record
from pipelines.observed import Observer
from pipelines.steps import BlockPlace

MANIFEST = {"documents": 2, "tokens": 30, "reasons": '{"null_text": 1}'}


def scrape(run_id: str) -> Counter[tuple[str, ...]]:
    """What the nodes serve of a run, summed over processes: by name and the values of the labels after `run_id`."""
    found: Counter[tuple[str, ...]] = Counter()
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                metric = METRICS.get(sample.name.removeprefix("ray_"))
                if metric is not None and sample.labels.get("run_id") == run_id:
                    assert family.type == metric.kind.lower()
                    assert sample.name == metric.exported
                    own = [sample.labels[label] for label in metric.labels if label not in ("run_id", "node", "actor")]
                    found[(metric.name, *own)] += sample.value
    return found


def served(run_id: str, expected: dict[tuple[str, ...], float]) -> Counter[tuple[str, ...]]:
    """What is served once it is what is expected; else, after half a minute, whatever it is."""
    for _ in range(60):
        found = scrape(run_id)
        if {key: found[key] for key in expected} == expected:
            return found
        time.sleep(0.5)
    return found


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster", "no_catalog")
def test_a_node_serves_what_the_run_did(model_folder: Path, tmp_path: Path) -> None:
    small.write_corpus(tmp_path / "corpus.jsonl", 12)
    with (tmp_path / "corpus.jsonl").open("a") as file:
        file.write('not json\n{"text": null}\n{"text": null}\n')
    totals = runs.run(model_folder, tmp_path / "corpus.jsonl", tmp_path / "lake", "metered", engine="ray")["totals"]
    reasons = Counter(runs.rows(tmp_path / "lake", "rejects", "metered", order="source")["reason"].to_pylist())
    assert reasons == {"broken_json": 1, "null_text": 2}
    expected: dict[tuple[str, ...], float] = {
        ("assay_documents_total",): totals["documents"],
        ("assay_tokens_total",): totals["tokens"],
        ("assay_actor_tokens_total",): totals["tokens"],
        **{("assay_rejects_total", reason): n for reason, n in reasons.items()},
        **{("assay_step_blocks_total", step): 1 for step in ("read", "tokenize", "score", "write")},
    }
    record("assay_run_left_seconds", 7.0, run_id="metered")  # of a run this short nothing else stays
    expected["assay_run_left_seconds",] = 7.0
    found = served("metered", expected)
    RunMeter("metered").finish()
    assert {key: found[key] for key in expected} == expected
    assert all(found["assay_step_seconds_total", step] > 0 for step in ("read", "tokenize", "score", "write"))


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_what_a_worker_warns_of_reaches_the_driver_with_its_block(caplog: pytest.LogCaptureFixture) -> None:
    """Once, whoever else says the same; credentials are struck out on the way."""

    def warn(block: pa.Table) -> pa.Table:
        import logging

        logging.getLogger("operators.score").warning("out of %s at s3://me:hunter22@bucket", "memory")
        logging.getLogger("botocore").warning("not ours")
        return block

    step = Observer(LogOptions("run")).step(warn, "score")
    block = BlockPlace(3, 1, True, 1).attach(pa.table({"source": ["a.jsonl"]}))
    say = Sayer()
    for done in ray.get([ray.remote(num_cpus=0.1)(step).remote(block) for _ in range(2)]):
        say(done)
    assert [record.getMessage() for record in caplog.records] == ["out of memory at s3://***@bucket"]
    place = caplog.records[0].assay  # type: ignore[attr-defined]
    assert (place["unit"], place["block"], place["file"], place["actor"]) == (3, 1, "a.jsonl", "task")


def test_without_a_cluster_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "joined_ray", lambda: None)
    monkeypatch.setattr(meters, "_instrument", lambda *_: pytest.fail("a metric was made"))
    RunMeter.start("run").observe(MANIFEST, 0.5, None)
    StepMeter("run", "read").observe(1.0)


class Instruments:
    """Ray's side: what was set or added, by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, dict[str, str]]] = []

    def __call__(self, name: str, node: str) -> Any:
        def note(value: float, labels: dict[str, str]) -> None:
            assert set(labels) == set(METRICS[name].labels)
            self.calls.append((name, value, labels))

        return SimpleNamespace(set=note, inc=note)

    def last(self, name: str) -> float | None:
        return next((value for called, value, _ in reversed(self.calls) if called == name), None)


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    context = SimpleNamespace(get_node_id=lambda: "node")
    monkeypatch.setattr(meters, "joined_ray", lambda: SimpleNamespace(get_runtime_context=lambda: context))
    found = Instruments()
    monkeypatch.setattr(meters, "_instrument", found)
    monkeypatch.setattr(meters, "_GAUGES", meters._Gauges())
    return found


def test_gauges_are_set_again_until_their_run_is_over(
    instruments: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "GAUGES_EVERY", 0.02)
    meter = RunMeter.start("run")
    meter.observe(MANIFEST, 0.25, None)
    for _ in range(200):
        if len([1 for name, _, _ in instruments.calls if name == "assay_run_done_ratio"]) > 2:
            break
        time.sleep(0.02)
    assert [v for name, v, _ in instruments.calls if name == "assay_run_done_ratio"][:3] == [0.25] * 3
    meter.finish()
    for _ in range(200):
        if meters._GAUGES._thread is None:
            break
        time.sleep(0.02)
    assert meters._GAUGES._thread is None


def test_a_broken_meter_does_not_end_the_run(instruments: Instruments, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> None:
        raise RuntimeError("no agent")

    monkeypatch.setattr(meters, "_instrument", broken)
    RunMeter.start("run").observe(MANIFEST, 0.5, 1.0)
    StepMeter("run", "write").observe(1.0)


class Device:
    """A scorer on a GPU that is not there."""

    def __init__(self) -> None:
        model = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.bfloat16, model=None)
        self.model: Any = model
        self.options = SimpleNamespace(windows=WindowOptions(8, 4))
        self.fed_tokens = self.batches = 0
        self.batch_tokens = 16


def test_fill_pace_memory_and_share_of_the_peak(instruments: Instruments, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents of 8 and 12 tokens: three windows of 8, fed in two batches of 16, 18 predictions, in 2 seconds."""
    scorer = Device()
    meter = ScoreMeter("run", scorer, {"run_id": "run", "node": "n", "actor": "gpu0"}, peak=1000.0)  # type: ignore[arg-type]
    meter.cost = SimpleNamespace(flops=lambda fed, predicted: 10.0 * sum(fed) + predicted)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (30, 80))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 40)
    ids = pa.array([[1] * 8, None, [1] * 12], pa.large_list(pa.int32()))
    logprob = pa.array([[None] + [0.5] * 7, None, [None] + [0.5] * 11], pa.large_list(pa.float32()))
    scorer.fed_tokens, scorer.batches = 24, 2
    block = pa.table({"token_id": ids})
    meter.observe(block, pa.table({"token_id": ids, "logprob": logprob}), 2.0)
    assert instruments.last("assay_actor_tokens_total") == 20
    assert instruments.last("assay_actor_tokens_per_second") == 10
    assert instruments.last("assay_actor_batch_fill_ratio") == 24 / 32
    assert instruments.last("assay_actor_flops_ratio") == (10 * (8 + 8 + 8) + 18) / 2 / 1000
    assert instruments.last("assay_gpu_memory_used_bytes") == 50
    assert instruments.last("assay_gpu_memory_total_bytes") == 80
    assert instruments.last("assay_actor_gpu_memory_peak_bytes") == 20
    assert instruments.last("assay_actor_gpu_memory_reserved_bytes") == 40


def test_a_device_whose_peak_is_not_known_has_no_share(instruments: Instruments) -> None:
    scorer = Device()
    scorer.model.device = torch.device("cpu")
    meter = ScoreMeter.start("run", scorer)  # type: ignore[arg-type]
    ids = pa.array([[1, 2]], pa.large_list(pa.int32()))
    meter.observe(pa.table({"token_id": ids}), pa.table({"token_id": ids}), 1.0)
    assert instruments.last("assay_actor_tokens_total") == 2
    assert instruments.last("assay_actor_flops_ratio") is None
