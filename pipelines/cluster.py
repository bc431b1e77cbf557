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

from operators.machine import usable_cores
from pipelines.config import ConfigError
from pipelines.secrets import check_nodes, for_workers

# What blocks in flight may take before Ray spills them to disk; a node of many GPUs has its own cluster and settings.
OBJECT_STORE_BYTES = 1 << 30
CONNECT_SECONDS = 10.0
# Settings of Ray that hold for a cluster that is started here, unless the environment says otherwise.
_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ side warns of what Ray Data does by design
    # A run that ends early kills its actors, and Ray would print of each that its task is done again.
    "RAY_enable_output_error_log_if_still_retry": "0",
    "RAY_COLOR_PREFIX": "0",  # Ray colours its notes also where they go into a file
    # Scorers hold nearly all cores, so Ray would end a worker that was idle for a second, and start a process and
    # import everything anew for the next block.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}


@contextlib.contextmanager
def cluster(address: str | None, actors: int | None) -> Iterator[None]:
    """A Ray cluster is there within. `address`: whose to join; None for RAY_ADDRESS's, else a new one of this machine.
    `actors`: as many cores as these it has then; None for all that this process may use.

    A cluster that this process has joined already is used as it is, and left running.

    Raises:
        ConfigError: an address of another kind, or nothing listens there.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, **_environment()}
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    _check_reachable(address)
    named = named_address(address)
    with _stderr_on_failure():
        if named:
            ray.init(address=named, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=local_cpus(actors),
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


def local_cpus(actors: int | None) -> int:
    """Logical CPUs of a cluster that is started here: one more than cores, for the light tasks run beside the scoring
    actors, not after them."""
    return (actors or usable_cores()) + 1


def _environment() -> dict[str, Any]:
    """How workers find the secrets of this job: by reference, so that nothing that Ray shows holds one."""
    runtime_env = for_workers()
    return {"runtime_env": runtime_env} if runtime_env else {}


def _check_reachable(address: str | None) -> None:
    """Ray itself tries a wrong address for minutes.

    Raises:
        ConfigError: the address that is named, here or by RAY_ADDRESS, is a dashboard's, or none answers there.
    """
    named = named_address(address) or ""
    where = f"--address {named}" if address else f"RAY_ADDRESS {named}"
    if re.match(r"https?://", named):
        raise ConfigError(
            f"{where}: that is a dashboard, which takes jobs (`assay submit`); a cluster is joined as head:6379, or as "
            f"ray://head:10001 from outside{'' if address else '; or unset RAY_ADDRESS to run on this machine'}"
        )
    match = re.fullmatch(r"(?:ray://)?(\[?[\w.:-]+?\]?):(\d+)", named)
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(f"{where}: no Ray cluster answers there ({error})") from None


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
