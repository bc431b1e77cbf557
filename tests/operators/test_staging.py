"""Uploads and downloads: what is copied, and that no buffer is written while it may still be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators import staging
from operators.staging import Downloads, Uploads

CPU = torch.device("cpu")


class Flight:
    """An event that says whether the copy it stands for has been waited for."""

    def __init__(self) -> None:
        self.open = False
        self.waits = 0

    def record(self) -> None:
        self.open = True

    def synchronize(self) -> None:
        self.waits += self.open
        self.open = False


@pytest.mark.parametrize(
    "host", [torch.arange(7), torch.zeros(0, dtype=torch.int32), torch.ones(3, 2), torch.tensor(5)]
)
def test_put_is_a_copy(host: torch.Tensor) -> None:
    uploads = Uploads(CPU)
    expected = host.clone()
    sent = [uploads.put(host) for _ in range(3)]
    host.add_(1)
    for tensor in sent:
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)


def test_into_writes_where_it_is_told() -> None:
    out = torch.zeros(10, dtype=torch.long)
    Uploads(CPU).into(torch.arange(4), out[3:7])
    assert out.tolist() == [0, 0, 0, 0, 1, 2, 3, 0, 0, 0]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_buffer_in_flight_is_waited_for(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flights: list[Flight] = []

    def event(_device: torch.device) -> Flight:
        flights.append(Flight())
        return flights[-1]

    monkeypatch.setattr(staging, "_event", event)
    uploads = Uploads(CPU, depth)
    for k in range(10):
        uploads.put(torch.tensor([k]))
        assert sum(f.waits for f in flights) == max(0, k + 1 - depth)
    assert len(flights) == depth


def test_buffers_grow_and_are_kept() -> None:
    uploads = Uploads(CPU, depth=1)
    places = []
    for n in (10, 3, 10, 1000, 10):
        uploads.put(torch.arange(n))
        places.append(uploads._slots[0].bytes.data_ptr())
    assert places[0] == places[1] == places[2]
    assert places[3] == places[4]


def test_a_ring_without_buffers_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is 0"):
        Uploads(CPU, 0)


def test_downloads_survive_what_comes_later() -> None:
    """The source may be a buffer that the next batch overwrites; results may be drained late and in any order."""
    downloads, buffer = Downloads(CPU), torch.zeros(4)
    pending = []
    for k in range(5):
        buffer.fill_(k)
        pending.append(downloads.start({"x": buffer[:2], "id": torch.full((2, 3), k, dtype=torch.int32)}))
    for k, one in reversed(list(enumerate(pending))):
        result = one.result()
        assert result["x"].tolist() == [k, k]
        assert result["id"].dtype == np.int32
        assert result["id"].shape == (2, 3)
    assert downloads.start({}).result() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_staging_on_cuda() -> None:
    device = torch.device("cuda")
    uploads, downloads = Uploads(device), Downloads(device)
    hosts = [torch.full((100_000,), k) for k in range(20)]
    pending = [downloads.start({"x": uploads.put(host) * 2}) for host in hosts]
    for k, one in enumerate(pending):
        assert (one.result()["x"] == 2 * k).all()
