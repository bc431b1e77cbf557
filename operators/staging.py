"""Moves small host tensors to the device and results back without making either side wait for the other.

    host ints -> pinned ring -> device        the host goes on while the copy runs
    device columns -> pinned memory -> numpy  the host waits only when the caller asks for the result

On a CPU the same calls are plain copies. The price: pinned memory, two buffers of the largest upload and whatever
results the caller has not drained yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class _Event(Protocol):
    """The part of `torch.cuda.Event` used here."""

    def record(self) -> Any: ...

    def synchronize(self) -> Any: ...


class _Done:
    """The event of a device whose copies are over when they return."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class _Marked:
    """A CUDA event on the stream of a device that need not be the current one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def record(self) -> None:
        self._event.record(torch.cuda.current_stream(self._device))

    def synchronize(self) -> None:
        self._event.synchronize()


def _event(device: torch.device) -> _Event:
    return _Marked(device) if device.type == "cuda" else _Done()


class _Slot:
    """One pinned buffer, in flight until its event has passed."""

    def __init__(self, device: torch.device) -> None:
        self.pin = device.type == "cuda"
        self.event = _event(device)
        self.bytes = torch.empty(0, dtype=torch.uint8)

    def filled(self, host: Tensor) -> Tensor:
        """A view of this buffer that holds a copy of `host`, once the buffer's last upload is over."""
        self.event.synchronize()
        size = host.numel() * host.element_size()
        if self.bytes.numel() < size:
            self.bytes = torch.empty(2 * size, dtype=torch.uint8, pin_memory=self.pin)
        return self.bytes[:size].view(host.dtype).view(host.shape).copy_(host)


class Uploads:
    """A ring of `depth` pinned buffers: a buffer is written again only after its last copy to the device is over.

    Copies run on the current stream, in order with the work that reads them.
    """

    def __init__(self, device: torch.device, depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}: a ring needs at least one buffer")
        self.device = device
        self._slots = [_Slot(device) for _ in range(depth)]
        self._next = 0

    def put(self, host: Tensor) -> Tensor:
        """A copy of `host` on the device; `host` may be changed as soon as this returns."""
        return self.into(host, torch.empty(host.shape, dtype=host.dtype, device=self.device))

    def into(self, host: Tensor, out: Tensor) -> Tensor:
        """Copy `host` into `out`, of the same shape, on the device; returns `out`."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        out.copy_(slot.filled(host), non_blocking=True)
        slot.event.record()
        return out


class Pending:
    """Results on their way to the host."""

    def __init__(self, columns: dict[str, Tensor], event: _Event) -> None:
        self._columns, self._event = columns, event

    def result(self) -> dict[str, np.ndarray]:
        """Wait for the copies and give the arrays, which no later download overwrites."""
        self._event.synchronize()
        return {name: column.numpy() for name, column in self._columns.items()}


class Downloads:
    """Starts copies of results to the host. Each has memory of its own, which torch's pinned allocator reuses."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self, columns: Mapping[str, Tensor]) -> Pending:
        """Begin to copy; later work on the current stream may overwrite `columns`, other streams may not."""
        host = {}
        for name, column in columns.items():
            pin = column.device.type == "cuda"
            host[name] = torch.empty(column.shape, dtype=column.dtype, pin_memory=pin)
            host[name].copy_(column, non_blocking=pin)
        event = _event(self.device)
        event.record()
        return Pending(host, event)
