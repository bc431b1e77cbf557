"""How many threads torch takes where results must not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: with more it splits sums, and rows round differently."""
    import torch  # here, for callers that travel to a worker before torch is wanted

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
