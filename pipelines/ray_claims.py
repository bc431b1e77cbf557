"""Claims of workers on many nodes: what a lost node was doing is not held against it.

    begin(block) on node A ... the worker is killed, A lives     one death
    begin(block) on node A ... A is lost                         none

On preemptible nodes a block may lose its worker any number of times. A worker that Ray's memory monitor kills dies on a
living node. Ray notices a lost node some seconds after its workers are gone, so before a document is given up for
deaths elsewhere, that time is waited for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

NOTICE_SECONDS = 30.0  # five failed health checks three seconds apart, Ray's default, and as much again
_LIVED = ""  # instead of a node that was seen to outlive the worker


class PlacedClaims:
    """Where each piece of work was begun that was never ended, the earliest first. An actor, so that it outlives the
    workers."""

    def __init__(self) -> None:
        self.begun: dict[str, list[str]] = {}

    def begin(self, name: str, node: str) -> list[str]:
        """Begin on `node`; the nodes of earlier beginnings. Those on this one are deaths for good, also if it is lost
        later."""
        earlier = [_LIVED if place == node else place for place in self.begun.get(name, ())]
        self.begun[name] = [*earlier, node]
        return earlier

    def earlier(self, name: str) -> list[str]:
        """The nodes of the beginnings before the last one."""
        return self.begun.get(name, [])[:-1]

    def end(self, name: str) -> None:
        """A death in a part of `name` (`name/...`) is settled with the whole."""
        for known in [k for k in self.begun if k == name or k.startswith(f"{name}/")]:
            del self.begun[known]


class RayClaims:
    """Claims held by an actor of their own, on the driver's node, which lives as long as the run. If it dies all the
    same, nothing is held against anyone, and it starts over."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def start(cls) -> RayClaims:
        import ray

        options = {**beside_driver(), "max_restarts": -1, "max_task_retries": 3}
        return cls(ray.remote(**options)(PlacedClaims).remote())

    def begin(self, name: str) -> int:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            return _deaths(ray.get(self.actor.begin.remote(name, _this_node())))
        return 0

    def certain(self, name: str) -> int:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            earlier = ray.get(self.actor.earlier.remote(name))
            if set(earlier) - {_LIVED}:
                time.sleep(NOTICE_SECONDS)
            return _deaths(earlier)
        return 0

    def end(self, name: str) -> None:
        self.actor.end.remote(name)


def beside_driver() -> dict[str, Any]:
    """Options of an actor on the node of the process that asks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(_this_node(), soft=False)}


def _deaths(places: Sequence[str]) -> int:
    """How many workers died at these places while their node lived on."""
    if not places:
        return 0
    living = living_nodes()
    return sum(node == _LIVED or node in living for node in places)


def _this_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def living_nodes() -> set[str]:
    """Nodes of the cluster by id."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
