"""The Ray engine on a real cluster of three nodes with logical GPUs: pinning, sharing, growing, shrinking, losing."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import runs
import small
from gates import Gate, wait_until
from runs import rows

from operators.lake import Lake
from operators.verify import verify
from pipelines import ray_claims, ray_engine, units
from pipelines.config import ScoreConfig
from pipelines.placement import Node, plan_resources
from pipelines.ray_claims import RayClaims
from pipelines.score import RunError
from pipelines.steps import WORKER_METADATA

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("no_catalog")]

FILES, TEXTS = 9, 4


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Any]:
    """A head without GPUs, and a node of one GPU; tests add and remove a third, of two."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    # A lost node is noticed after a second, not after fifteen.
    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=2, num_gpus=1, labels={"ray.io/accelerator-type": "L4"})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for name in range(FILES):
        texts = small.stdlib_texts(900)[name * TEXTS : (name + 1) * TEXTS]
        (folder / f"{name:02}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 4000)
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 4000)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 4000)


@pytest.fixture(scope="module")
def expected(model_folder: Path, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """The rows of the inline engine."""
    lake = tmp_path_factory.mktemp("inline")
    runs.run(model_folder, corpus_folder, lake)
    return {table: rows(lake, table) for table in ("tokens", "documents")}


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(tmp_path / "gate")
    monkeypatch.setattr(ray_engine.RayClaims, "start", gate.claims)
    return gate


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Who scored each block of the run, as its manifest says."""
    found: list[dict[str, Any]] = []
    score = ray_engine.RayEngine.score

    def observed(self: Any, *args: Any) -> Generator[pa.Table]:
        for manifest in score(self, *args):
            found.append(json.loads(manifest.schema.metadata[WORKER_METADATA]))
            yield manifest

    monkeypatch.setattr(ray_engine.RayEngine, "score", observed)
    return found


@contextlib.contextmanager
def running(gate: Gate, *args: Any, **more: Any) -> Iterator[None]:
    """A run in a thread of its own beside what is within, which it outlasts: nodes can be added by the main thread
    alone. What holds it is released at the end, and what it raises is raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            runs.run(*args, engine="ray", **more)
        except BaseException as error:  # reported below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        gate.release_all()
        thread.join()
    if failures:
        raise failures[0]


def assert_whole(lake: Path, expected: dict[str, pa.Table]) -> None:
    for table, whole in expected.items():
        assert rows(lake, table).equals(whole), table
    assert verify(Lake(str(lake))) == []


def begin_on(node: Any, claims: RayClaims) -> int:
    """As a worker there does that never ends what it began."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def begin() -> int:
        return claims.begin("a block")

    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return int(ray.get(ray.remote(num_cpus=0, scheduling_strategy=there)(begin).remote()))


def free_gpus() -> float:
    import ray

    return float(ray.available_resources().get("GPU", 0.0))


def test_the_pool_grows_onto_a_node_that_joins_and_shrinks_again(
    three_nodes: Any, model_folder: Path, corpus_folder: Path, tmp_path: Path, expected: dict[str, pa.Table],
    gate: Gate, workers: list[dict[str, Any]],
) -> None:  # fmt: skip
    """From one actor to three when a node of two GPUs joins, each with a GPU of its own; back to one while the last
    unit is being read."""
    last = f"read {FILES - 1}"
    gate.hold("score", last)
    joined: list[Any] = []
    try:
        with running(gate, model_folder, corpus_folder, tmp_path / "lake", actors=1, max_actors=3):
            wait_until(lambda: gate.loaded)
            joined.append(three_nodes.add_node(num_cpus=2, num_gpus=2, labels={"ray.io/accelerator-type": "L4"}))
            wait_until(lambda: len(gate.loaded) == 3 and gate.begun("score") >= 3)  # a block in each one's hands
            gate.release("score")
            wait_until(lambda: free_gpus() == 2)
            assert gate.begun("score") < FILES
        places = {(w["node"], *w["gpus"]) for w in workers}
        assert len({w["actor"] for w in workers}) == len(places) == 3
        assert {w["node"] for w in workers} > {joined[0].node_id}
        assert_whole(tmp_path / "lake", expected)
    finally:
        for node in joined:
            three_nodes.remove_node(node, allow_graceful=False)


def test_a_node_that_is_lost_costs_no_row_and_what_is_left_is_shared(
    three_nodes: Any, model_folder: Path, corpus_folder: Path, tmp_path: Path, expected: dict[str, pa.Table],
    gate: Gate, workers: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Two actors a GPU on both nodes; one goes while blocks are being scored there, and no block is blamed for it."""
    gate.hold("score")
    node = three_nodes.add_node(num_cpus=2, num_gpus=1, labels={"ray.io/accelerator-type": "L4"})
    claims = gate.claims()
    try:
        assert [begin_on(place, claims) for place in (node, three_nodes.head_node)] == [0, 1]
        with running(gate, model_folder, corpus_folder, tmp_path / "lake", actors=4, gpus_per_actor=0.5):
            wait_until(lambda: len(gate.loaded) == 4)
            wait_until(lambda: gate.begun("score") >= 4)
            three_nodes.remove_node(node, allow_graceful=False)
            wait_until(lambda: node.node_id not in ray_claims.living_nodes())
            node = None
            assert claims.begin("a block") == 1  # of two workers one died with its node
            gate.release("score")
    finally:
        if node is not None:
            three_nodes.remove_node(node, allow_graceful=False)
    places = {(w["node"], *w["gpus"]) for w in workers}
    assert len(places) == 1  # the other node was lost before it could finish a block
    assert len({w["actor"] for w in workers}) >= 2
    assert_whole(tmp_path / "lake", expected)


def test_light_tasks_keep_to_nodes_without_gpus_and_scorers_to_their_kind(three_nodes: Any) -> None:
    import ray

    nodes = [Node.of(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]
    resources = plan_resources(ScoreConfig.parse(model="m", input="i", lake="l", run_id="r"), nodes)
    assert (resources.actors, resources.gpus, resources.cores) == (1, 1.0, 2)

    @ray.remote(num_cpus=0.02, scheduling_strategy="SPREAD", **resources.light_options)
    def where() -> str:
        return str(ray.get_runtime_context().get_node_id())

    gpu_nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}
    assert gpu_nodes
    assert not set(ray.get([where.remote() for _ in range(8)])) & gpu_nodes


def test_what_an_actor_refuses_ends_the_run_with_its_words(
    three_nodes: Any, model_folder: Path, corpus_folder: Path, tmp_path: Path, gate: Gate
) -> None:
    """The driver has not the cluster's devices: that there is none is found where the model is loaded, and once."""
    with pytest.raises(RunError, match=r"--device cuda: this machine has no CUDA device"):
        runs.run(
            model_folder, corpus_folder, tmp_path / "lake", engine="ray", device="cuda", address=three_nodes.address
        )
    assert gate.begun("loading") == 1
