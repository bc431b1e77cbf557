"""A real Ray head with its job server, on free loopback ports, for tests that submit jobs.

with job_server.head(folder, cpus=4) as head:
    head.address          # http://127.0.0.1:PORT
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
import requests

START_SECONDS = 60.0
RAY = str(Path(sys.executable).parent / "ray")
_PORTS = (
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)


@dataclass(frozen=True)
class Head:
    """`environment`: what a process needs to reach it, a token; `folder`: of what Ray writes, logs among it; `family`:
    the head's processes and all they started."""

    address: str
    gcs: str
    environment: dict[str, str]
    folder: Path
    family: processes.Family


@contextmanager
def head(folder: Path, cpus: int, environment: dict[str, str] | None = None) -> Iterator[Head]:
    """A head of `cpus` logical CPUs; it and all it started are ended with the context, found by a mark of their own.

    Two of them, also in two test workers, share neither ports nor folders.
    """
    ports = _free_ports()
    family = processes.Family()
    # Ray's sockets lie below, and their paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        command = [
            RAY, "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1", "--include-dashboard=true", f"--num-cpus={cpus}", "--num-gpus=0",
            f"--object-store-memory={200 << 20}", f"--temp-dir={temporary}",
            "--min-worker-port=0", "--max-worker-port=0",  # any that is free
            *(f"--{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | token
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])  # its `python`
        log = folder / "head.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=own | (environment or {}) | family.environment
            )
            try:
                address = f"http://127.0.0.1:{ports['dashboard-port']}"
                _wait(process, address, token, log)
                yield Head(address, f"127.0.0.1:{ports['port']}", token, Path(temporary), family)
            finally:
                family.end()
                process.wait(10)


def _free_ports() -> dict[str, int]:
    """All different: each is held until the last is found."""
    with ExitStack() as held:
        found = {name: held.enter_context(socket.socket()) for name in _PORTS}
        for each in found.values():
            each.bind(("127.0.0.1", 0))
        return {name: int(each.getsockname()[1]) for name, each in found.items()}


def _wait(process: subprocess.Popen[bytes], address: str, token: dict[str, str], log: Path) -> None:
    """Until the job server answers.

    Raises:
        RuntimeError: the head ended first; TimeoutError: nothing answers.
    """
    bearer = {"Authorization": f"Bearer {token['RAY_AUTH_TOKEN']}"}
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the head ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            if requests.get(f"{address}/api/jobs/", headers=bearer, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"no job server within {START_SECONDS} s: {log.read_text()[-2000:]}")
