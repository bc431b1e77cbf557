"""A storage that fails by a seeded plan: an HTTP proxy on loopback that stands before the S3 server of the tests.

    client -> on_request(method, path) -> slow down | delay | drop | forward -> after(method, path, status) -> client

A request is forwarded byte for byte, Host header included, so its signature stays valid; connections are kept alive on
both sides, answers are streamed. A body is held whole before it is sent on: a client that dies in the middle of a PUT
must leave no half object behind, as with S3 itself, and rclone would leave one.

    with s3.server(folder) as server, faults.proxy(server.endpoint, FaultPlan(seed=3, slow_down=0.05)) as proxy:
        environment = s3.environment(proxy.endpoint)
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

PIECE_BYTES = 1 << 16
CUT_HEAD_BYTES = 7  # within "HTTP/1.1": some clients take a head that ends early for a whole one
LONGEST_BODY = 256 << 20
LONGEST_HEAD = 1 << 16
TIMEOUT_SECONDS = 120.0
SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    b"<Resource>/</Resource><RequestId>0000000000000000</RequestId></Error>"
)


class Kind(StrEnum):
    """What can go wrong with one request."""

    SLOW_DOWN = "slow_down"  # answered 503 at once; nothing is done
    DELAY = "delay"  # done, late
    DROP = "drop"  # the connection ends before anything is done
    LOSE = "lose"  # done, but the connection ends before the answer
    CUT = "cut"  # done, but the connection ends in the middle of the answer


@dataclass(frozen=True)
class FaultPlan:
    """Rates from 0 to 1 of each kind of fault, which must not add up to more than 1.

    What happens to the n-th request of a method for a path follows from the seed alone, whichever thread comes first.
    After `most_in_a_row` faults a request passes, so that a client that retries more often than that can win.
    `longest_delay` is in seconds.
    """

    seed: int = 0
    slow_down: float = 0.0
    delay: float = 0.0
    drop: float = 0.0
    lose: float = 0.0
    cut: float = 0.0
    most_in_a_row: int = 2
    longest_delay: float = 1.0

    def __post_init__(self) -> None:
        rates = [self.rate(kind) for kind in Kind]
        if min(rates) < 0 or sum(rates) > 1:
            raise ValueError(f"fault rates are {rates}: each must be 0 or more, all together at most 1")

    def rate(self, kind: Kind) -> float:
        return float(getattr(self, kind.value))

    def draw(self, method: str, path: str, n: int) -> tuple[Kind | None, float]:
        """The fault of request `n` (from 0) of a method for a path, and a second draw from 0 to 1."""
        digest = hashlib.blake2b(f"{self.seed} {n} {method} {path}".encode("utf-8", "replace"), digest_size=16).digest()
        first, second = (int.from_bytes(half, "little") / 2**64 for half in (digest[:8], digest[8:]))
        for kind in Kind:
            if first < self.rate(kind):
                return kind, second
            first -= self.rate(kind)
        return None, second


@dataclass
class Hooks:
    """`on_request`: called before anything else; may block; False ends the connection and nothing is done.
    `after`: called when the storage has answered and before the client hears of it."""

    on_request: Callable[[str, str], bool | None] = lambda method, path: None
    after: Callable[[str, str, int], None] = lambda method, path, status: None


@dataclass
class _History:
    """What happened to one method and path so far."""

    requests: int = 0
    in_a_row: int = 0


class _Ended(Exception):  # noqa: N818 - not an error: one side has closed the connection
    pass


@dataclass
class _Message:
    """The head of a request or an answer, as it came and as it is understood."""

    raw: bytes
    first: list[str]
    headers: dict[str, str]

    @property
    def length(self) -> int | None:
        return int(self.headers["content-length"]) if "content-length" in self.headers else None

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower() or self.first[0] == "HTTP/1.0"


class FaultProxy:
    """Listens on loopback until closed. `endpoint`: its URL. `counts`: requests by method, `requests`, faults by kind,
    `refused` by a hook. Change `plan` and `hooks` at any time; a running request keeps those it began with."""

    def __init__(self, target: str, plan: FaultPlan | None = None, hooks: Hooks | None = None) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.plan, self.hooks = plan or FaultPlan(), hooks or Hooks()
        self.counts: Counter[str] = Counter()
        self._histories: dict[tuple[str, str], _History] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end every connection."""
        with self._lock:
            self._closed = True
            open_now = list(self._open)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in open_now:
            _end(connection)
        self._thread.join(5)

    def faults(self) -> dict[str, int]:
        """Faults so far, by kind."""
        with self._lock:
            return {kind.value: self.counts[kind] for kind in Kind}

    # Connections

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._tracked(client), contextlib.suppress(OSError, _Ended, ValueError):
            reader = client.makefile("rb", PIECE_BYTES)
            upstream: _Upstream | None = None
            try:
                while True:
                    request = _read_head(reader)
                    upstream = upstream or _Upstream(socket.create_connection(self._target, TIMEOUT_SECONDS))
                    with self._tracked(upstream.connection, closes=False):
                        kept = self._exchange(client, reader, upstream, request)
                    if not kept:
                        return
            finally:
                if upstream is not None:
                    _end(upstream.connection)

    @contextmanager
    def _tracked(self, connection: socket.socket, *, closes: bool = True) -> Iterator[None]:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
            closed = self._closed
        try:
            if closed:
                raise _Ended
            yield
        finally:
            with self._lock:
                self._open.discard(connection)
            if closes:
                _end(connection)

    # One request

    def _exchange(self, client: socket.socket, reader: BinaryIO, upstream: _Upstream, request: _Message) -> bool:
        """Serve one request; whether the connection stays open."""
        method, target = request.first[0], request.first[1]
        path = unquote(urlsplit(target).path)
        hooks = self.hooks
        kind, draw, pause = self._fault(method, path)
        body = _read_body(client, reader, request)
        if hooks.on_request(method, path) is False:
            self._count("refused")
            return False
        if kind is Kind.DROP:
            return False
        if kind is Kind.SLOW_DOWN:
            client.sendall(_slow_down(method))
            return True
        if kind is Kind.DELAY:
            time.sleep(draw * pause)
        answer = upstream.ask(request, body)
        hooks.after(method, path, int(answer.first[1]))
        if kind is Kind.LOSE:
            return False
        return _relay(client, upstream, answer, method, cut=kind is Kind.CUT) and not request.closes

    def _fault(self, method: str, path: str) -> tuple[Kind | None, float, float]:
        plan = self.plan
        with self._lock:
            history = self._histories.setdefault((method, path), _History())
            kind, draw = plan.draw(method, path, history.requests)
            history.requests += 1
            if kind not in (None, Kind.DELAY) and history.in_a_row >= plan.most_in_a_row:
                kind = None
            history.in_a_row = 0 if kind in (None, Kind.DELAY) else history.in_a_row + 1
            self.counts.update(["requests", method, *([kind.value] if kind else [])])
        return kind, draw, plan.longest_delay

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1


class _Upstream:
    """A connection to the storage."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.reader = connection.makefile("rb", PIECE_BYTES)

    def ask(self, request: _Message, body: bytes) -> _Message:
        """Send a request whole; the head of its answer, whose body is still to be read."""
        self.connection.sendall(request.raw)
        self.connection.sendall(body)
        answer = _read_head(self.reader)
        while answer.first[1].startswith("1"):  # the client was told to go on when its body was read
            answer = _read_head(self.reader)
        return answer


@contextmanager
def proxy(target: str, plan: FaultPlan | None = None, hooks: Hooks | None = None) -> Iterator[FaultProxy]:
    """A proxy before the server at URL `target`, closed with the context."""
    served = FaultProxy(target, plan, hooks)
    try:
        yield served
    finally:
        served.close()


# HTTP/1.1, as much of it as S3 clients speak


def _read_head(reader: BinaryIO) -> _Message:
    lines = []
    while (line := reader.readline(LONGEST_HEAD)) not in (b"\r\n", b"\n"):
        if not line.endswith(b"\n"):
            raise _Ended
        lines.append(line)
    pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return _Message(b"".join(lines) + b"\r\n", lines[0].decode("latin-1").split(" ", 2), headers)


def _read_body(client: socket.socket, reader: BinaryIO, request: _Message) -> bytes:
    """The body as it came, chunk marks included."""
    length = request.length or 0
    if length > LONGEST_BODY:
        raise _Ended
    if (length or request.is_chunked) and request.headers.get("expect", "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if request.is_chunked:
        return b"".join(_chunks(reader))
    body = reader.read(length)
    if len(body) < length:
        raise _Ended
    return body


def _chunks(reader: BinaryIO) -> Iterator[bytes]:
    """A chunked body piece by piece, as it came."""
    while True:
        mark = reader.readline(LONGEST_HEAD)
        if not mark.endswith(b"\n"):
            raise _Ended
        yield mark
        size = int(mark.split(b";")[0], 16)
        if not size:
            break
        yield from _pieces(reader, size + 2)
    while (line := reader.readline(LONGEST_HEAD)) not in (b"\r\n", b"\n"):
        if not line:
            raise _Ended
        yield line
    yield line


def _pieces(reader: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = reader.read(min(size, PIECE_BYTES))
        if not piece:
            raise _Ended
        size -= len(piece)
        yield piece


def _relay(client: socket.socket, upstream: _Upstream, answer: _Message, method: str, *, cut: bool) -> bool:
    """Send an answer on; `cut` ends the connection half-way. Whether both connections stay open."""
    status, length = answer.first[1], answer.length
    if method == "HEAD" or status in ("204", "304"):
        client.sendall(answer.raw[:CUT_HEAD_BYTES] if cut else answer.raw)
        return not cut and not answer.closes
    if cut:
        # Half a body is the crueller cut; an answer without one is cut in its first line.
        half = next(_pieces(upstream.reader, max(1, length // 2)), b"") if length else b""
        client.sendall(answer.raw + half if half else answer.raw[:CUT_HEAD_BYTES])
        return False
    client.sendall(answer.raw)
    if answer.is_chunked:
        body = _chunks(upstream.reader)
    elif length is not None:
        body = _pieces(upstream.reader, length)
    else:
        body = iter(lambda: upstream.reader.read(PIECE_BYTES), b"")
    for piece in body:
        client.sendall(piece)
    return not answer.closes and (answer.is_chunked or length is not None)


def _slow_down(method: str) -> bytes:
    head = (
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nServer: faults\r\n"
        f"Content-Length: {len(SLOW_DOWN_BODY)}\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else SLOW_DOWN_BODY)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
