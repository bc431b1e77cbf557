"""Fixtures shared by all tests: a small model folder and a small corpus, made once a worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# Before numpy and torch are loaded: models this small gain nothing from threads, which spin while they wait for one
# another; beside a second test worker that took three times as long. Here, and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import small
import torch

from pipelines.cluster import cluster

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the hub fails at once
os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # tests that read Ray's metrics wait for a report
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton: its kernels then run here, too


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.make_model_folder(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session", autouse=True)
def cache_of_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not this user's own."""
    os.environ["ASSAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    small.write_corpus(path, 30)
    return path


@pytest.fixture(scope="module")
def no_catalog() -> Iterator[None]:
    """To make a lake's catalog anew takes longer than a run of this size: for modules that read none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        yield


_SHARED = contextlib.ExitStack()  # of this process: the cluster that `shared_cluster` started


@pytest.fixture
def shared_cluster() -> None:
    """A Ray cluster of three logical cores, which a run with the Ray engine joins by itself: to start one takes longer
    than such a run. It is left running for the next test that asks for it, which follows: these tests come first."""
    import ray

    if not ray.is_initialized():
        _SHARED.close()
        _SHARED.enter_context(cluster(None, 2))


@pytest.fixture
def own_cluster() -> Iterator[None]:
    """For a test that starts a Ray cluster of its own in this process: no other is there, before or after."""
    import ray

    _SHARED.close()
    yield
    ray.shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not _shares_a_cluster(item))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _shares_a_cluster(item):
        _SHARED.close()  # even idle it takes a tenth of a core


def pytest_sessionfinish() -> None:
    _SHARED.close()


def _shares_a_cluster(item: pytest.Item) -> bool:
    return "shared_cluster" in getattr(item, "fixturenames", ())
