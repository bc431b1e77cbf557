"""The failing storage of the tests: what passes is unchanged, what fails does so by the plan, and hooks see it all."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import faults
import pytest
import s3
from faults import FaultPlan, Hooks, Kind

LARGE = bytes(range(256)) * 2000


class Store(BaseHTTPRequestHandler):
    """Objects in memory; remembers the heads of its requests."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    seen: list[tuple[str, str, dict[str, str]]]

    def do_GET(self) -> None:
        self._answer(self.objects.get(self.path))

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, body: bytes | None) -> None:
        self.seen.append((self.command, self.path, dict(self.headers)))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store() -> Iterator[tuple[str, type[Store]]]:
    handler = type("Handler", (Store,), {"objects": {}, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connected(endpoint: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_requests_and_answers_pass_unchanged_over_one_connection(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    with faults.proxy(target) as proxy, connected(proxy.endpoint) as connection:
        assert ask(connection, "PUT", "/b/run_id%3Dx/a%20b?x=1", LARGE) == (200, b"")
        local = connection.sock.getsockname()
        assert ask(connection, "GET", "/b/run_id%3Dx/a%20b?x=1") == (200, LARGE)
        assert ask(connection, "HEAD", "/b/none")[0] == 404
        assert ask(connection, "GET", "/b/none") == (404, b"")
        assert connection.sock.getsockname() == local
        assert proxy.counts == {"requests": 4, "PUT": 1, "GET": 2, "HEAD": 1}
    host = proxy.endpoint.removeprefix("http://")
    assert [(method, path) for method, path, _ in handler.seen][:2] == [
        ("PUT", "/b/run_id%3Dx/a%20b?x=1"),
        ("GET", "/b/run_id%3Dx/a%20b?x=1"),
    ]
    assert {headers["Host"] for _, _, headers in handler.seen} == {host}


def test_a_client_that_waits_for_100_is_told_to_go_on(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    with faults.proxy(target) as proxy, socket.create_connection(("127.0.0.1", _port(proxy.endpoint)), 10) as client:
        client.sendall(b"PUT /b/o HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert handler.objects == {"/b/o": b"abc"}


def test_a_put_whose_client_dies_leaves_nothing(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    with faults.proxy(target) as proxy:
        with socket.create_connection(("127.0.0.1", _port(proxy.endpoint)), 10) as client:
            client.sendall(b"PUT /b/o HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\nabc")
        with connected(proxy.endpoint) as connection:
            assert ask(connection, "GET", "/b/o")[0] == 404
    assert handler.objects == {}


def test_slow_down_is_the_error_that_s3_sends(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    with faults.proxy(target, FaultPlan(slow_down=1.0)) as proxy, connected(proxy.endpoint) as connection:
        status, body = ask(connection, "PUT", "/b/o", b"abc")
        assert (status, handler.objects) == (503, {})
        assert b"<Code>SlowDown</Code>" in body
        assert ask(connection, "HEAD", "/b/o") == (503, b"")
        assert proxy.faults() == {"slow_down": 2, "delay": 0, "drop": 0, "lose": 0, "cut": 0}


@pytest.mark.parametrize(("kind", "is_done"), [("drop", False), ("lose", True), ("cut", True)])
def test_a_connection_ends_before_the_deed_or_after_it(
    store: tuple[str, type[Store]], kind: str, is_done: bool
) -> None:
    target, handler = store
    ended = pytest.raises((http.client.HTTPException, ConnectionError))
    with faults.proxy(target, FaultPlan(**{kind: 1.0})) as proxy, connected(proxy.endpoint) as connection, ended:
        ask(connection, "PUT", "/b/o", b"abc")
    assert handler.objects == ({"/b/o": b"abc"} if is_done else {})


def test_an_answer_is_cut_in_its_middle(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    handler.objects["/b/o"] = LARGE
    with faults.proxy(target, FaultPlan(cut=1.0)) as proxy, connected(proxy.endpoint) as connection:
        connection.request("GET", "/b/o")
        answer = connection.getresponse()
        assert answer.getheader("Content-Length") == str(len(LARGE))
        with pytest.raises(http.client.IncompleteRead) as error:
            answer.read()
        assert 0 < len(error.value.partial) < len(LARGE)
        assert LARGE.startswith(error.value.partial)


def test_retries_win_after_the_faults_in_a_row(store: tuple[str, type[Store]]) -> None:
    target, _ = store
    plan = FaultPlan(slow_down=1.0, most_in_a_row=2)
    with faults.proxy(target, plan) as proxy, connected(proxy.endpoint) as connection:
        statuses = [ask(connection, "GET", "/b/o")[0] for _ in range(6)]
    assert statuses == [503, 503, 404, 503, 503, 404]


def test_the_seed_decides_and_rates_are_kept() -> None:
    plan = FaultPlan(seed=7, slow_down=0.2, delay=0.1, drop=0.05, lose=0.04, cut=0.03)
    drawn = [plan.draw("GET", f"/b/{i}", 0)[0] for i in range(10_000)]
    assert drawn == [plan.draw("GET", f"/b/{i}", 0)[0] for i in range(10_000)]
    assert drawn != [FaultPlan(seed=8, slow_down=0.2).draw("GET", f"/b/{i}", 0)[0] for i in range(10_000)]
    for kind in Kind:  # five standard deviations of a count of 10,000
        expected = 10_000 * plan.rate(kind)
        assert abs(drawn.count(kind) - expected) < 5 * expected**0.5, kind
    with pytest.raises(ValueError, match="fault rates"):
        FaultPlan(slow_down=0.7, cut=0.7)


def test_hooks_see_every_request_and_can_refuse_it(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    seen: list[tuple[Any, ...]] = []
    hooks = Hooks(lambda method, path: "secret" not in path, lambda *told: seen.append(told))
    with faults.proxy(target, hooks=hooks) as proxy:
        with connected(proxy.endpoint) as connection:
            ask(connection, "PUT", "/b/run_id%3Dx/o", b"abc")
        with connected(proxy.endpoint) as connection, pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(connection, "PUT", "/b/secret", b"abc")
        assert proxy.counts["refused"] == 1
    assert seen == [("PUT", "/b/run_id=x/o", 200)]
    assert list(handler.objects) == ["/b/run_id%3Dx/o"]


def test_a_request_held_by_a_hook_is_done_only_when_it_returns(store: tuple[str, type[Store]]) -> None:
    target, handler = store
    arrived, go_on = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> bool:
        arrived.set()
        return go_on.wait(10)

    def put(endpoint: str) -> None:
        with connected(endpoint) as connection:
            ask(connection, "PUT", "/b/o", b"abc")

    with faults.proxy(target, hooks=Hooks(hold)) as proxy:
        thread = threading.Thread(target=put, args=(proxy.endpoint,))
        thread.start()
        assert arrived.wait(10)
        assert handler.objects == {}
        go_on.set()
        thread.join(10)
    assert handler.objects == {"/b/o": b"abc"}


def test_closing_ends_what_is_open(store: tuple[str, type[Store]]) -> None:
    target, _ = store
    with faults.proxy(target) as proxy:
        client = socket.create_connection(("127.0.0.1", _port(proxy.endpoint)), 10)
        client.sendall(b"GET /b/o HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 404")
    with client:
        assert client.recv(1) == b""


USE_S3 = """
import fsspec, os, sys
fs = fsspec.filesystem("s3")
data = bytes(range(256)) * 4096
for i in range(8):
    fs.pipe_file(f"b/run_id=a b/{i}", data)
assert [name.rsplit("/", 1)[1] for name in sorted(fs.ls("b/run_id=a b"))] == [str(i) for i in range(8)]
for i in range(8):
    assert fs.cat_file(f"b/run_id=a b/{i}") == data
fs.rm_file("b/run_id=a b/3")
assert not fs.exists("b/run_id=a b/3")
"""


@pytest.mark.parametrize("plan", [FaultPlan(), FaultPlan(seed=1, slow_down=0.1, delay=0.1, longest_delay=0.05)])
def test_a_real_client_reaches_a_real_server_through_it(tmp_path: Path, plan: FaultPlan) -> None:
    (tmp_path / "s3" / "b").mkdir(parents=True)
    with s3.server(tmp_path / "s3") as server, faults.proxy(server.endpoint, plan) as proxy:
        environment = {**os.environ, **s3.environment(proxy.endpoint)}
        subprocess.run([sys.executable, "-c", USE_S3], env=environment, check=True, timeout=60)
        assert proxy.counts["PUT"] >= 8
    assert (tmp_path / "s3" / "b" / "run_id=a b" / "7").read_bytes() == bytes(range(256)) * 4096


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])
