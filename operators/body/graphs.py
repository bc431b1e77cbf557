"""A forward pass recorded once and replayed: the device then waits for no Python and no launch.

A recording repeats the same kernels on the same addresses, so inputs and outputs live in buffers that stay, and only
work whose shape is fixed may be recorded: variable-length attention reads its segments from the device, the other
paths take them from the host. All recordings share one pool of memory, which is safe as long as a recording's results
are read before the next one runs.

Without CUDA the same calls run each time they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch

from operators.attention import Path

_WARM_UPS = 2  # libraries set up their handles and work space in the first call on a stream


class Recorder(Protocol):
    """What records calls and repeats them."""

    def can_record(self, taken: Sequence[Path]) -> bool:
        """Whether a pass whose layers took these paths may be repeated for other segments."""
        ...

    def record(self, key: Hashable, call: Callable[[], Any]) -> None: ...

    def replay(self, key: Hashable) -> bool:
        """Repeat the call; False where none is recorded under this key."""
        ...


class Repeats:
    """The recorder of a device without graphs: the call itself, run again."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, Callable[[], Any]] = {}

    def can_record(self, taken: Sequence[Path]) -> bool:
        return True

    def record(self, key: Hashable, call: Callable[[], Any]) -> None:
        self._calls[key] = call

    def replay(self, key: Hashable) -> bool:
        call = self._calls.get(key)
        if call is not None:
            call()
        return call is not None


class Graphs:
    """CUDA graphs by key, in one pool of memory that is given back with this object."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def can_record(self, taken: Sequence[Path]) -> bool:
        return bool(taken) and set(taken) == {"varlen"}

    def record(self, key: Hashable, call: Callable[[], Any]) -> None:
        """Run `call` to warm up, then record it. Errors leave nothing recorded under `key`."""
        with torch.cuda.device(self._device):
            if self._stream is None:
                self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                self._pool = torch.cuda.graph_pool_handle()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    call()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # thread_local: what other threads do on the device, pinning memory say, is no part of it and no error.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                call()
        self._graphs[key] = graph

    def replay(self, key: Hashable) -> bool:
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
        return graph is not None
