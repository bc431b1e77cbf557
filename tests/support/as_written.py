"""What an engine makes of the files in infra/: compose's variables, KubeRay's `ray start`, a unit's settings."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
_VARIABLE = re.compile(r"\$\$|\$\{(\w+):-([^}]*)\}")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 1e-3}


def interpolated(text: str, variables: Mapping[str, str] | None = None) -> str:
    """A compose file with `${NAME:-default}` filled in, inside values alone; `$$` stands for itself."""
    given = dict(variables or {})

    def fill(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else given.get(match[1]) or match[2]

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(below) for key, below in value.items()}
        if isinstance(value, list):
            return [walk(below) for below in value]
        return _VARIABLE.sub(fill, value) if isinstance(value, str) else value

    return yaml.safe_dump(walk(yaml.safe_load(text)), sort_keys=False)


def compose_services(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The services of infra/compose by name."""
    text = (INFRA / "compose" / "compose.yaml").read_text(encoding="utf-8")
    services: dict[str, Any] = yaml.safe_load(interpolated(text, variables))["services"]
    return services


def ray_start(group: Mapping[str, Any], head: str | None = None) -> list[str]:
    """The command that KubeRay gives the pods of a group, its own flags after those of the manifest.

    `head`: the host of the head, or None for the head itself. Processors, GPUs and memory are the limits of the first
    container, unless the parameters say otherwise; labels and resources of the group become flags.
    """
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    flags = {"num-cpus": str(int(quantity(limits["cpu"]))), "memory": str(int(quantity(limits["memory"])))}
    if "nvidia.com/gpu" in limits:
        flags["num-gpus"] = str(limits["nvidia.com/gpu"])
    if group.get("labels"):
        flags["labels"] = ",".join(f"{name}={value}" for name, value in group["labels"].items())
    if group.get("resources"):
        flags["resources"] = json.dumps({name: quantity(value) for name, value in group["resources"].items()})
    flags |= {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365", **group["rayStartParams"]}
    where = ["--head", "--port=6379"] if head is None else [f"--address={head}:6379"]
    return ["ray", "start", *where, "--block", *(f"--{name}={value}" for name, value in flags.items())]


def quantity(value: object) -> float:
    """A quantity of Kubernetes as a number: 500m, 2, 16Gi."""
    text = str(value)
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """The sections of a systemd unit; a name may stand there several times."""

    class Repeated(dict):  # type: ignore[type-arg]
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                value = [*self[key], *value]
            super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Repeated, empty_lines_in_values=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(path.read_text(encoding="utf-8"))
    return {name: {key: value.splitlines() for key, value in parser[name].items()} for name in parser.sections()}


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a manifest."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def cluster_spec(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster that a RayCluster, RayJob or RayCronJob describes."""
    spec = manifest["spec"]
    found: dict[str, Any] = spec.get("jobTemplate", spec).get("rayClusterSpec", spec)
    return found


def groups(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Head and workers."""
    return [{"groupName": "head", **cluster["headGroupSpec"]}, *cluster["workerGroupSpecs"]]
