"""Which actor on which node this process is, as labels of metrics and logs have it."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple


class Whereabouts(NamedTuple):
    """`node`: address of the node in its cluster. `actor`: `gpu0` where GPU 0 is this process's, the start of the
    actor's id elsewhere, `driver` or `task` where it is no actor. Both empty where there is no cluster."""

    node: str
    actor: str


def joined_ray() -> Any:
    """Ray's module where this process is one of a cluster's; None else, and behind Ray Client, where it is none.

    Never imports it: a process that has not done so is none of a cluster's.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    client = sys.modules.get("ray.util.client")
    return None if client is not None and client.ray.is_connected() else ray


def whereabouts() -> Whereabouts:
    """Where this process is."""
    ray = joined_ray()
    if ray is None:
        return Whereabouts("", "")
    context = ray.get_runtime_context()
    return Whereabouts(ray.util.get_node_ip_address(), _actor(ray, context))


def _actor(ray: Any, context: Any) -> str:
    if context.worker.mode == ray.SCRIPT_MODE:
        return "driver"
    gpus = context.get_accelerator_ids().get("GPU") or []
    if gpus:
        # The label is the device's: an actor that takes the place of a dead one goes on with its series.
        return "gpu" + "+".join(sorted(gpus))
    actor = context.get_actor_id()
    return str(actor)[:8] if actor else "task"
