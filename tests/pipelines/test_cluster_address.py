"""Which cluster a run joins or starts, and the words for an address that leads to none; Ray is not started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import runs
import s3
import torch

from pipelines import cluster as cluster_module
from pipelines.cluster import cluster, local_cpus
from pipelines.config import ConfigError
from pipelines.plan import make_plan
from pipelines.ray_engine import RayEngine


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Ray is asked to start, in place of doing so."""
    asked: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: asked.append(options))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(cluster_module, "check_nodes", lambda: None)
    monkeypatch.setattr(cluster_module, "usable_cores", lambda: 12)
    for name in cluster_module._SETTINGS:  # what is set here is gone after the test
        monkeypatch.setenv(name, "")
    return asked


@pytest.mark.parametrize("by_flag", [True, False])
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{port}", "no Ray cluster answers there"),
        ("http://127.0.0.1:{port}", "that is a dashboard, which takes jobs .*a cluster is joined as head:6379"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_with_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str, by_flag: bool
) -> None:
    address = address.format(port=s3.free_port())
    if not by_flag:
        monkeypatch.setenv("RAY_ADDRESS", address)
    name = "--address" if by_flag else "RAY_ADDRESS"
    with pytest.raises(ConfigError, match=f"^{name} {address}: {said}"), cluster(address if by_flag else None, None):
        pytest.fail("joined")


def test_a_cluster_of_this_machine_has_a_cpu_more_than_cores(no_cluster: list[dict[str, Any]]) -> None:
    assert (local_cpus(None), local_cpus(3)) == (13, 4)
    for actors in (None, 3):
        with cluster(None, actors):
            pass
    assert [asked["num_cpus"] for asked in no_cluster] == [13, 4]


def test_the_environment_decides_over_our_settings_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = "RAY_idle_worker_killing_time_threshold_ms"
    for said, expected in ((None, "60000"), ("5000", "5000")):
        monkeypatch.delenv(idle)
        if said is not None:
            monkeypatch.setenv(idle, said)
        with cluster(None, None):
            assert os.environ[idle] == expected


@pytest.mark.parametrize(("has_gpu", "device", "cores"), [(True, "auto", None), (True, "cpu", 2), (False, "auto", 2)])
def test_actors_on_gpus_say_nothing_of_cores(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, device: str,
    cores: int | None,
) -> None:  # fmt: skip
    plan = make_plan(runs.config(model_folder, corpus, tmp_path, engine="ray", actors=2, device=device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert RayEngine(plan).workers == cores


def test_a_cluster_is_ended_where_the_run_cannot_begin(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr("ray.shutdown", lambda: ended.append(True))

    def fails() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.ray_engine.RayClaims.start", fails)
    engine = RayEngine(make_plan(runs.config(model_folder, corpus, tmp_path, engine="ray")))
    with pytest.raises(KeyboardInterrupt), engine:
        pytest.fail("began")
    assert ended == [True]
