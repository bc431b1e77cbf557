"""Where the steps of a run go, by the nodes of a cluster; nothing is started."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import ConfigError, ScoreConfig
from pipelines.placement import Node, check_gpus, light_nodes, missing_room, plan_resources

L4, H100 = frozenset({"L4"}), frozenset({"H100"})
CPU_NODE = Node(32)
L4_NODE, H100_NODE = Node(8, 2, L4, "L4"), Node(96, 8, H100, "H100")


def config(**fields: Any) -> ScoreConfig:
    return ScoreConfig.parse(**{"model": "m", "input": "i", "lake": "l", "run_id": "r", **fields})


@pytest.mark.parametrize(
    ("node", "asked", "expected"),
    [
        (Node(3), {}, (2, 0.0, 0.9)),
        (Node(1), {}, (1, 0.0, 0.9)),
        (Node(2), {"actors": 5}, (5, 0.0, 0.36)),
        (Node(2), {"actors": 1, "max_actors": 5}, (1, 0.0, 0.9)),
        (Node(8), {"max_actors": 5}, (1, 0.0, 0.9)),
        (Node(8, 8), {}, (8, 1.0, 0.9)),
        (Node(4, 8), {}, (8, 1.0, 0.45)),
        (Node(0, 2), {}, (2, 1.0, 0.0)),
        (Node(64, 4), {"actors": 2}, (2, 1.0, 0.9)),
        (Node(64, 4), {"gpus_per_actor": 0.25}, (16, 0.25, 0.9)),
        (Node(8, 2), {"gpus_per_actor": 0.1}, (20, 0.1, 0.36)),
        (Node(64, 2), {"gpus_per_actor": 0.4}, (4, 0.4, 0.9)),
        (Node(9, 4), {"device": "cpu"}, (8, 0.0, 0.9)),
    ],
)
def test_actors_leave_cpus_for_the_tasks(node: Node, asked: dict[str, Any], expected: tuple[int, float, float]) -> None:
    resources = plan_resources(config(**asked), [node])
    assert (resources.actors, resources.gpus, resources.cpus) == expected
    assert resources.actors * resources.cpus <= 0.9 * node.cpus + 0.01


def test_a_kind_of_gpu_is_counted_alone() -> None:
    nodes = [CPU_NODE, L4_NODE, L4_NODE, H100_NODE]
    assert plan_resources(config(), nodes).actors == 12
    resources = plan_resources(config(accelerator_type="L4", gpus_per_actor=0.5), nodes)
    assert (resources.actors, resources.gpus, resources.accelerator_type) == (8, 0.5, "L4")


def test_light_tasks_go_where_no_gpus_are_if_such_nodes_keep_up() -> None:
    assert light_nodes([CPU_NODE, L4_NODE, H100_NODE]) == [CPU_NODE]
    resources = plan_resources(config(), [CPU_NODE, L4_NODE, H100_NODE])
    assert resources.cores == 32
    selector = resources.light_options["label_selector"]
    assert selector == {"ray.io/accelerator-type": "!in(H100, L4)"}


@pytest.mark.parametrize(
    "nodes",
    [
        [Node(1), H100_NODE, H100_NODE],  # one core for sixteen GPUs
        [Node(0), H100_NODE],  # a head that takes no work
        [CPU_NODE, Node(8, 2)],  # GPUs that Ray has no name for: their node cannot be told from the others
        [H100_NODE],
        [CPU_NODE],
    ],
)
def test_else_they_go_everywhere(nodes: list[Node]) -> None:
    assert light_nodes(nodes) == nodes
    assert plan_resources(config(), nodes).light_options == {}


def test_gpus_that_no_node_has_are_waited_for_or_refused() -> None:
    for asked in ({"accelerator_type": "A100"}, {"gpus_per_actor": 0.5, "accelerator_type": "A100"}):
        with pytest.raises(ConfigError, match=r"no node has a GPU of type A100; there are: H100, L4; leave out"):
            check_gpus(config(**asked), [L4_NODE, H100_NODE], may_grow=False)
        warned = check_gpus(config(**asked), [L4_NODE, H100_NODE], may_grow=True)
        assert warned is not None
        assert warned.endswith("the run waits until one joins the cluster")
        resources = plan_resources(config(**asked), [L4_NODE, H100_NODE])
        assert (resources.actors, resources.gpus) == (1, asked.get("gpus_per_actor", 1.0))  # demanded all the same
    assert check_gpus(config(gpus_per_actor=0.5), [L4_NODE], may_grow=False) is None
    assert check_gpus(config(), [CPU_NODE], may_grow=False) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus_per_actor": 2}, "--gpus-per-actor: 2 is more than an actor can use: a model is not split over GPUs"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor: 1.5 is more"),
        ({"gpus_per_actor": 0}, "--gpus-per-actor: "),
        (
            {"gpus_per_actor": 0.001},
            "--gpus-per-actor: 0.001 of a GPU is too little to hold a model; 0.01 is the least",
        ),
        ({"actors": 4, "max_actors": 3}, "--max-actors: 3 is less than --actors 4"),
        ({"gpus_per_actor": 0.5, "accelerator_type": "L4", "device": "cpu"}, "--gpus-per-actor and --accelerator-type"),
        ({"max_actors": 2, "engine": "inline"}, "--max-actors: the inline engine is one process"),
    ],
)
def test_faults_of_the_pool_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**fields)
    assert said in str(error.value)


def test_where_a_run_goes_is_no_part_of_what_it_is() -> None:
    pool = {"max_actors": 9, "gpus_per_actor": 0.5, "accelerator_type": "L4"}
    for deterministic in (False, True):
        assert config(**pool, deterministic=deterministic).identity == config(deterministic=deterministic).identity


def test_scorers_without_a_gpu_ask_for_the_memory_of_their_copy() -> None:
    nodes = [Node(8, memory=16e9), Node(8, memory=64e9)]
    assert plan_resources(config(), nodes, 20 * 10**9).memory == 20 * 10**9
    assert plan_resources(config(), [Node(8, 1, memory=16e9)], 20 * 10**9).memory == 0  # the GPU's is another matter
    with pytest.raises(ConfigError, match=r"weights take 65\.2 GiB, and no node has more than 59\.6 GiB to give"):
        plan_resources(config(), nodes, 70 * 10**9)


def test_scorers_without_a_gpu_are_as_many_as_their_copies_fit() -> None:
    nodes = [Node(8, memory=16e9), Node(8, memory=64e9)]
    assert plan_resources(config(), nodes, 10 * 10**9).actors == 1 + 6
    assert plan_resources(config(), nodes, 10**9).actors == 15
    assert plan_resources(config(), [Node(8), Node(8, memory=1e9)], 10**9).actors == 15  # Ray does not say


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        ([L4_NODE], {"actors": 5, "gpus_per_actor": 0.5}, "--actors 5: the nodes have GPUs for 4 now; the others wait"),
        ([L4_NODE, H100_NODE], {"actors": 3, "accelerator_type": "L4"}, "--actors 3: the nodes have GPUs for 2 now"),
        ([Node(8, memory=25.0)], {"actors": 3}, "--actors 3: the nodes have memory for 2 now"),
        ([L4_NODE], {"actors": 2}, None),
        ([L4_NODE], {"max_actors": 9}, None),  # the pool grows as far as it can
        ([H100_NODE], {"accelerator_type": "L4", "actors": 3}, None),  # `check_gpus` says that there is none
        ([Node(8, memory=25.0)], {}, None),
        ([Node(8)], {"actors": 99}, None),
    ],
)
def test_scorers_that_find_no_room_are_said(nodes: list[Node], asked: dict[str, Any], said: str | None) -> None:
    resources = plan_resources(config(**asked), nodes, 10)
    warned = missing_room(config(**asked), nodes, resources)
    assert warned == said or (said is not None and str(warned).startswith(said))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "8 x GPU"),
        ({"accelerator_type": "H100", "gpus_per_actor": 0.25, "max_actors": 9}, "1 to 9 x H100 0.25 GPU"),
        ({"device": "cpu", "actors": 2}, "2 x CPU core"),
    ],
)
def test_where_in_words(asked: dict[str, Any], said: str) -> None:
    assert plan_resources(config(**asked), [H100_NODE]).where == said
