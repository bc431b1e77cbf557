"""The Ray cluster of a run: joined where one is named, else started here and ended with the run."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from pipelines.config import ConfigError
from pipelines.secrets import check_nodes, for_workers

# What blocks in flight may take before Ray spills them to disk; a node of many GPUs has its own cluster and settings.
OBJECT_STORE_BYTES = 1 << 30
CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def cluster(address: str | None, actors: int | None) -> Iterator[None]:
    """A Ray cluster is there within. `address`: whose to join; None for RAY_ADDRESS's, else a new one of this machine.

    A cluster that this process has joined already is used as it is, and left running.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, **_environment()}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side warns of what Ray Data does by design
    # A run that ends early kills its actors, and Ray would print of each that its task is done again.
    os.environ.setdefault("RAY_enable_output_error_log_if_still_retry", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # Ray colours its notes also where they go into a file
    address = named_address(address)
    _check_reachable(address)
    with _stderr_on_failure():
        if address:
            ray.init(address=address, **quiet)
        else:
            cores = actors or os.cpu_count() or 1
            # One logical CPU more than cores: the light tasks run beside the scoring actors, not after them.
            ray.init(
                address="local",
                num_cpus=cores + 1,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    try:
        check_nodes()
        yield
    finally:
        ray.shutdown()


def named_address(address: str | None) -> str | None:
    """The cluster to join, by the job or else by RAY_ADDRESS; None where one is to be started here."""
    return address or os.environ.get("RAY_ADDRESS") or None


def _environment() -> dict[str, Any]:
    """How workers find the secrets of this job: by reference, so that nothing that Ray shows holds one."""
    runtime_env = for_workers()
    return {"runtime_env": runtime_env} if runtime_env else {}


def _check_reachable(address: str | None) -> None:
    """Ray itself tries a wrong address for minutes.

    Raises:
        ConfigError: nothing listens at `address`, where it names a host and a port.
    """
    match = re.fullmatch(r"(?:ray://)?(\[?[\w.:-]+?\]?):(\d+)", address or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({error})") from None


@contextlib.contextmanager
def _stderr_on_failure() -> Iterator[None]:
    """Hold back what native code writes to standard error (notes on its log level), and show it if starting fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
