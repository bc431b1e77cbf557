"""Secrets by reference: `env:OTHER` or `file:/path`, looked up where the work runs, so that no job file, process list,
dashboard or ledger ever holds a value.

    take(references)    in the driver: into this process's environment; the references are kept for the workers
    for_workers()       what Ray is told: the references, and a hook that looks them up in every worker process
    check_nodes()       whether they lead somewhere on every node, before any work
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFERENCES = "ASSAY_SECRETS"  # JSON: {name of the variable: reference}
LARGEST = 1 << 16  # bytes of a secret's file
NODES_SECONDS = 60.0  # for all nodes to answer; one that does not is not waited for
MOST_LINES = 20

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_variable(name: str) -> str:
    """A name that an environment variable may have.

    Raises:
        ValueError: it may not, or is the one that the references are kept in.
    """
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an environment variable")
    if name == REFERENCES:
        raise ValueError(f"{name} is set by Assay itself")
    return name


def check_reference(name: str, reference: str) -> str:
    """A reference, not looked up.

    Raises:
        ValueError: it is none. The message does not quote it: it may be the secret itself.
    """
    kind, _, place = reference.partition(":")
    if (kind == "env" and _VARIABLE.fullmatch(place)) or (kind == "file" and place.startswith("/")):
        return reference
    raise ValueError(f"{name}: expected env:NAME or file:/path, where the cluster has the value; never the value")


def take(references: Mapping[str, str]) -> None:
    """Set every variable to what its reference leads to, and remember the references for the workers.

    Raises:
        ConfigError: one line a reference that leads nowhere on this machine; nothing is set then.
    """
    from pipelines.config import ConfigError

    if not references:
        return
    found, missing = _look_up(references)
    if missing:
        raise ConfigError("\n".join(missing))
    os.environ.update(found)
    os.environ[REFERENCES] = json.dumps(dict(references))


def for_workers() -> dict[str, Any]:
    """The runtime environment for `ray.init`: empty where nothing is to be looked up."""
    references = os.environ.get(REFERENCES)
    if not references:
        return {}
    hook = f"{take_in_worker.__module__}.{take_in_worker.__name__}"
    return {"env_vars": {REFERENCES: references}, "worker_process_setup_hook": hook}


def take_in_worker() -> None:
    """Called by Ray in each worker process before its first task. What is missing is said by `check_nodes`: a hook that
    raises would end worker after worker, and say why in none but Ray's own logs."""
    found, _ = _look_up(_references())
    os.environ.update(found)


def missing_here() -> list[str]:
    """A line for each reference of this job that leads nowhere on this machine."""
    return _look_up(_references())[1]


def check_nodes() -> None:
    """Ask every node of the cluster that this process has joined whether it has what the references lead to.

    A node that joins later is not asked: what it lacks fails where it is first used.

    Raises:
        ConfigError: one line a reference and node.
    """
    from pipelines.config import ConfigError

    if not os.environ.get(REFERENCES):
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=1)(missing_here)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _works(node["Resources"])]
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote() for node in nodes
    ]
    missing: set[str] = set()
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=NODES_SECONDS) if asked else ([], [])
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):  # a node that is lost says nothing
            missing.update(ray.get(answer))
    if missing:
        more = [f"... and {len(missing) - MOST_LINES:,} more"] if len(missing) > MOST_LINES else []
        raise ConfigError("\n".join(sorted(missing)[:MOST_LINES] + more))


def _works(resources: Mapping[str, float]) -> bool:
    """Whether a node is given work: a node of GPUs alone is, a head that keeps itself free is not."""
    return any(resources.get(name, 0) > 0 for name in ("CPU", "GPU"))


def _references() -> dict[str, str]:
    references: dict[str, str] = json.loads(os.environ.get(REFERENCES) or "{}")
    return references


def _look_up(references: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What the references lead to, and a line for each that leads nowhere."""
    found: dict[str, str] = {}
    missing: list[str] = []
    for name, reference in references.items():
        kind, _, place = check_reference(name, reference).partition(":")
        try:
            value = os.environ[place] if kind == "env" else _content(Path(place))
            if not value:
                raise ValueError("it is empty")
            found[name] = value
        except KeyError:
            missing.append(f"submit.secrets.{name}: {place} is not set in the environment of {os.uname().nodename}")
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            missing.append(f"submit.secrets.{name}: {place} on {os.uname().nodename}: {said}")
    return found, missing


def _content(path: Path) -> str:
    """The text of a file, without the line break at its end.

    Raises:
        ValueError: it is no text that a variable can hold.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST or b"\0" in content:
        raise ValueError("no text that a variable can hold")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
