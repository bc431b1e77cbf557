"""Where the steps of a run go on a cluster: scorers to GPUs, or to cores where there are none; the rest beside them.

    node with GPUs     floor(1 / share) scorers a GPU, each with its share of it and of the node's cores
    node without       reading, tokenizing and writing, wherever such nodes have cores enough; else these are spread
                       over all nodes

Reading, tokenizing and writing take next to no logical CPU, so that scorers, which hold theirs for the whole run, never
keep them waiting; how many run at once is said instead. The price: Ray does not know how busy a core is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operators.model_bytes import gib
from pipelines.config import ConfigError, ScoreConfig

ACTOR_CPUS = 0.9  # logical, of a scorer: what is left fits tasks on every node, also when lost nodes' actors move there
UNKNOWN = 1 << 30  # scorers: no limit that is known of
GPUS_A_CORE = 4  # a core tokenizes a million tokens a second, several times what a GPU scores of a small model

ACCELERATOR_LABEL = "ray.io/accelerator-type"  # Ray sets it on nodes with GPUs
_ACCELERATOR_RESOURCE = "accelerator_type:"


@dataclass(frozen=True)
class Resources:
    """What a run takes: `actors` scorers, up to `max_actors`, each with `gpus` GPUs, `cpus` of a core and `memory`
    bytes of its node; tasks run on the `cores` of the nodes that `light` selects, as options of Ray's tasks."""

    actors: int
    gpus: float
    cpus: float
    cores: int = 1
    max_actors: int = 0
    accelerator_type: str | None = None
    light: Mapping[str, Any] | None = None
    memory: int = 0

    @property
    def most_actors(self) -> int:
        return max(self.actors, self.max_actors)

    @property
    def where(self) -> str:
        """`8 x GPU`, `1 to 4 x 0.25 GPU`, `2 x CPU core`."""
        number = f"{self.actors} to {self.most_actors}" if self.most_actors > self.actors else f"{self.actors}"
        share = f"{self.gpus:g} GPU" if self.gpus != 1 else "GPU"
        kind = f"{self.accelerator_type} " if self.accelerator_type else ""
        return f"{number} x {kind}{share}" if self.gpus else f"{number} x CPU core"

    @property
    def light_options(self) -> dict[str, Any]:
        return dict(self.light or {})


@dataclass(frozen=True)
class Node:
    """A node of the cluster. `accelerators`: the names that Ray knows its GPUs by; `label`: the one it is labelled
    with; `memory`: bytes that Ray gives out there, None where it does not say."""

    cpus: float
    gpus: float = 0.0
    accelerators: frozenset[str] = frozenset()
    label: str | None = None
    memory: float | None = None

    @classmethod
    def of(cls, resources: Mapping[str, float], labels: Mapping[str, str] | None = None) -> Node:
        names = {n.removeprefix(_ACCELERATOR_RESOURCE) for n in resources if n.startswith(_ACCELERATOR_RESOURCE)}
        label = (labels or {}).get(ACCELERATOR_LABEL) or None
        return cls(
            float(resources.get("CPU", 0)),
            float(resources.get("GPU", 0)),
            frozenset(names),
            label,
            resources.get("memory"),
        )

    def slots(self, share: float, accelerator_type: str | None) -> int:
        """Scorers that its GPUs hold."""
        if accelerator_type is not None and accelerator_type not in self.accelerators:
            return 0
        return int(self.gpus) * int(1 / share + 1e-9)


def wants_gpu(config: ScoreConfig) -> bool:
    """Whether a job asks for GPUs, whether or not the cluster has one now: it may grow."""
    asked = config.gpus_per_actor is not None or config.accelerator_type is not None
    return asked or config.device.startswith("cuda")


def plan_resources(config: ScoreConfig, nodes: Sequence[Node], weights: int = 0) -> Resources:
    """One actor a GPU, or as many as its share fits; without GPUs one a core but one, leaving what tasks need.

    `weights`: bytes of the model's, of which every scorer without a GPU holds a copy of its own.

    Raises:
        ConfigError: no node has the memory for one.
    """
    cores = int(sum(node.cpus for node in nodes)) or 1
    share = config.gpus_per_actor or 1.0
    on_cpu = config.device.startswith("cpu")
    slots = [0 if on_cpu else node.slots(share, config.accelerator_type) for node in nodes]
    if not sum(slots) and not wants_gpu(config):
        actors = config.actors or (1 if config.max_actors else max(1, min(cores - 1, _copies(nodes, weights))))
        # Actors hold their CPUs for the whole run: what the tasks need must be left, or nothing would ever be read.
        cpus = min(ACTOR_CPUS, max(0.01, ACTOR_CPUS * cores / actors))
        _check_memory(nodes, weights)
        return Resources(actors, 0.0, round(cpus, 2), cores, config.max_actors or 0, memory=weights)
    actors = config.actors or (1 if config.max_actors else sum(slots) or 1)
    light = light_nodes(nodes)
    return Resources(
        actors,
        share,
        min([ACTOR_CPUS, *(_cpus_of_slot(node, n) for node, n in zip(nodes, slots, strict=True) if n)]),
        int(sum(node.cpus for node in light)) or 1,
        config.max_actors or 0,
        config.accelerator_type,
        None if len(light) == len(nodes) else _elsewhere(nodes),
    )


def light_nodes(nodes: Sequence[Node]) -> list[Node]:
    """The nodes for reading, tokenizing and writing: those without GPUs, if they can be told from the others and keep
    up with them; else all."""
    without = [node for node in nodes if not node.gpus and node.cpus]
    labelled = all(node.label for node in nodes if node.gpus)
    enough = GPUS_A_CORE * sum(node.cpus for node in without) >= sum(node.gpus for node in nodes)
    return without if without and labelled and enough else list(nodes)


def check_gpus(config: ScoreConfig, nodes: Sequence[Node], *, may_grow: bool) -> str | None:
    """What to warn of where a job asks for GPUs that no node has; None where one has them.

    Raises:
        ConfigError: the cluster cannot grow: the run would wait for ever.
    """
    share = config.gpus_per_actor or 1.0
    if not wants_gpu(config) or any(node.slots(share, config.accelerator_type) for node in nodes):
        return None
    there = sorted({name for node in nodes for name in node.accelerators})
    kind = f"GPU of type {config.accelerator_type}" if config.accelerator_type else "GPU"
    said = f"no node has a {kind}; there are: {', '.join(there) or 'none that Ray names'}"
    if may_grow:
        return f"{said}; the run waits until one joins the cluster"
    raise ConfigError(f"{said}; leave out --gpus-per-actor and --accelerator-type, or name a cluster with --address")


def missing_room(config: ScoreConfig, nodes: Sequence[Node], resources: Resources) -> str | None:
    """What to warn of where the nodes hold fewer scorers than are asked for; None where they hold them, or none."""
    if resources.gpus:
        room = sum(node.slots(resources.gpus, config.accelerator_type) for node in nodes)
    else:
        room = _copies(nodes, resources.memory)
    if not 0 < room < resources.actors:
        return None
    what = "GPUs" if resources.gpus else "memory"
    return f"--actors {resources.actors}: the nodes have {what} for {room} now; the others wait for more"


def _copies(nodes: Sequence[Node], weights: int) -> int:
    """Copies of the weights that the nodes have memory for, as Ray gives it out; UNKNOWN where it does not say."""
    if not weights or any(node.memory is None for node in nodes):
        return UNKNOWN
    return sum(int((node.memory or 0) // weights) for node in nodes)


def _check_memory(nodes: Sequence[Node], weights: int) -> None:
    largest = max((node.memory for node in nodes if node.memory is not None), default=None)
    if largest is not None and weights > largest:
        raise ConfigError(
            f"the model's weights take {gib(weights)}, and no node has more than {gib(int(largest))} to give: "
            "choose --dtype bfloat16, a smaller model, or nodes with more memory. A model is not split over nodes"
        )


def _cpus_of_slot(node: Node, slots: int) -> float:
    """Logical CPUs of a scorer on a node: never so many that the node's last slot finds none."""
    return int(100 * min(ACTOR_CPUS, ACTOR_CPUS * node.cpus / slots)) / 100


def _elsewhere(nodes: Sequence[Node]) -> dict[str, Any]:
    """Options of tasks that keep to nodes without GPUs while there are any."""
    names = ", ".join(sorted({node.label for node in nodes if node.label}))
    return {
        "label_selector": {ACCELERATOR_LABEL: f"!in({names})"},
        "fallback_strategy": [{"label_selector": {}}],
    }
