"""Where a job is sent: the address that counts, and what answers there, or does not."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.submission.client import choose_address
from pipelines.config import ConfigError


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A job file without a fault."""
    path = tmp_path / "job.yaml"
    path.write_text("model: /models/m\ninput: s3://b/c\nlake: s3://b/lake\nrun_id: monday\n", encoding="utf-8")
    return path


def test_the_address_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="--address: is needed"):
        choose_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    assert choose_address(None) == "cluster:6379"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://server:1")
    assert choose_address(None) == "http://server:1"
    assert choose_address(None, "http://file:2") == "http://file:2"
    assert choose_address("http://flag:3", "http://file:2") == "http://flag:3"


class _Answers(http.server.BaseHTTPRequestHandler):
    status = 404
    is_ray = False

    def do_GET(self) -> None:
        is_version = self.is_ray and self.path == "/api/version"
        self.send_response(200 if is_version else self.status)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}' if is_version else b"no job server\x1b[2J")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[Callable[..., str]]:
    """Starts a web server that answers everything with one status, or all but the question for Ray's version."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int, *, is_ray: bool = False) -> str:
        handler = type("Handler", (_Answers,), {"status": status, "is_ray": is_ray})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "why"), [(404, "is no Ray job server"), (200, "is no Ray job server"), (401, "RAY_AUTH_MODE=token")]
)
def test_what_answers_and_is_no_open_job_server(
    sound: Path, web_server: Callable[..., str], status: int, why: str
) -> None:
    address = web_server(status)
    result = CliRunner().invoke(app, ["submit", str(sound), "--address", address])
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stderr.startswith(f"error: --address {address}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status", "code", "why"),
    [
        (("list",), 500, 1, "the list of jobs: Request failed with status code 500: no job server\\x1b[2J."),
        (("status", "j"), 503, 1, "job j: Request failed with status code 503"),
        (("status", "j\x1b[2J"), 404, 2, "there is no job 'j\\x1b[2J' at this cluster"),
        (("stop", "../packages"), 500, 2, "there is no job '../packages' at this cluster"),
        (("logs", "j"), 404, 2, "there is no job 'j' at this cluster"),
        (("stop", "j"), 404, 2, "there is no job 'j' at this cluster"),
    ],
)
def test_a_job_server_that_refuses(
    web_server: Callable[..., str], words: tuple[str, ...], status: int, code: int, why: str
) -> None:
    result = CliRunner().invoke(app, ["job", *words, "--address", web_server(status, is_ray=True)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), result.stderr
    assert why in result.stderr


def test_rays_client_logs_nothing_of_its_own(web_server: Callable[..., str]) -> None:
    """It sets its loggers to INFO, and tells of every connection that is closed."""
    CliRunner().invoke(app, ["job", "list", "--address", web_server(500, is_ray=True)])
    for name in ("modules.job.sdk", "modules.dashboard_sdk"):
        assert not logging.getLogger(f"ray.dashboard.{name}").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "https://127.0.0.1:{}/"])
def test_nothing_answers(sound: Path, form: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])  # bound, and nobody listens
        started = time.monotonic()
        result = CliRunner().invoke(app, ["job", "list", "--address", address])
        assert time.monotonic() - started < 30  # Ray by itself goes on for longer
    assert result.exit_code == 2
    assert result.stderr == f"error: --address {address}: no Ray job server answers there (Connection refused)\n"


@pytest.mark.parametrize(("form", "why"), [("https://{}", "speaks no TLS"), ("{}", "is no Ray job server")])
def test_the_protocol_of_an_address(web_server: Callable[..., str], form: str, why: str) -> None:
    address = form.format(web_server(404).removeprefix("http://"))
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    assert (result.exit_code, why in result.stderr, len(result.stderr.splitlines())) == (2, True, 1), result.stderr


def test_a_host_that_takes_a_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.submission.client._FIRST_ANSWER", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(app, ["job", "status", "x", "--address", address])
    assert (result.exit_code, "(no answer in time)" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "jobs://head", "os://x", "ftp://head:8265", "://"])
def test_an_address_of_another_kind_is_never_tried(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray imports the module that a scheme is called, and asks `ray://` for half a minute."""
    monkeypatch.setattr("jobs.submission.client._Client", None)
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    expected = f"error: --address {address}: expected the address of the head's dashboard, such as http://head:8265\n"
    assert (result.exit_code, result.stderr) == (2, expected)


def test_a_clusters_own_address_that_no_cluster_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would ask for 40 s."""
    monkeypatch.setattr("jobs.submission.client._CLUSTER_ANSWER", 0.2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        threading.Thread(target=_say_something_else, args=(other,), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr("jobs.submission.client._Client", lambda *_, **__: time.sleep(5))
        result = CliRunner().invoke(app, ["job", "list", "--address", address])
    expected = f"error: --address {address}: no Ray job server answers there (no answer in time)\n"
    assert (result.exit_code, result.stderr) == (2, expected)


def _say_something_else(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"SSH-2.0-x\r\n")


def test_an_address_of_a_file_never_overrules_ours(
    web_server: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray lets its variables overrule the address that it is given."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    address = web_server(404)
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    assert "is no Ray job server" in result.stderr
