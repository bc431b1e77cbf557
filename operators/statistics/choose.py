"""Which kernel computes the statistics of a head on this device."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from operators.failures import first_line, is_out_of_memory
from operators.head import GivenLogits, VocabularyHead
from operators.statistics.options import TileOptions
from operators.statistics.tiles import TiledStatistics

log = logging.getLogger(__name__)

MIN_CAPABILITY = (8, 0)  # bfloat16 products
CHECKED_ROWS = 64


class Statistics(Protocol):
    """What a kernel called `name` offers for up to `rows` rows at once (see `TiledStatistics`)."""

    name: str
    options: TileOptions
    rows: int
    top_k: int

    @property
    def head(self) -> VocabularyHead | GivenLogits: ...

    def put(self, hidden_LD: Tensor, target_L: Tensor, at: int) -> None: ...

    def run(self, n: int) -> dict[str, Tensor]: ...

    def __call__(self, hidden_RD: Tensor, target_R: Tensor) -> dict[str, Tensor]: ...


def make_statistics(
    head: VocabularyHead | GivenLogits, groups: frozenset[str] = frozenset(), options: TileOptions | None = None
) -> Statistics:
    """The kernel that `options.kernel` names; `auto` takes the fastest that is exact for these weights.

    Raises:
        ValueError: `triton` is asked for where it cannot run, with the reason.
        RuntimeError: it is asked for and fails.
    """
    chosen = options or TileOptions()
    obstacle = _obstacle(head)
    if chosen.kernel == "triton" and obstacle is not None:
        raise ValueError(f"triton cannot run here: {obstacle}; use torch or auto")
    # In float32 Triton multiplies without tensor cores, slower than the library's product of the torch kernel.
    fast = obstacle is None and head.product_dtype != torch.float32 and head.device.type == "cuda"
    if chosen.kernel == "triton" or (chosen.kernel == "auto" and fast):
        assert isinstance(head, VocabularyHead)
        try:
            return _checked(head, groups, chosen)
        except (RuntimeError, ValueError) as error:
            if chosen.kernel == "triton" or is_out_of_memory(error):
                raise
            log.warning("the fused kernel does not work here, the torch kernel is taken: %s", first_line(error))
    return TiledStatistics(head, groups, chosen)


def _checked(head: VocabularyHead, groups: frozenset[str], options: TileOptions) -> Statistics:
    """The fused kernel, once it has given what the torch kernel gives for a few rows of this head.

    Raises:
        ValueError: it has not. RuntimeError: it cannot be built or launched.
    """
    try:
        from operators.statistics.fused import FusedStatistics

        fused = FusedStatistics(head, groups, options)
        wrong = disagreement(fused, TiledStatistics(head, groups, replace(options, rows=CHECKED_ROWS, compiled=False)))
    except (RuntimeError, ValueError):
        raise
    except Exception as error:  # compilers fail in many ways
        raise RuntimeError(f"{type(error).__name__}: {first_line(error)}") from error
    if wrong is not None:
        raise ValueError(f"{wrong} differs from the torch kernel's by more than rounding")
    return fused


def disagreement(one: Statistics, other: Statistics) -> str | None:
    """The first column in which two kernels of one head differ by more than rounding on random rows, or None."""
    head = one.head
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(CHECKED_ROWS, head.width, generator=generator).to(head.product_dtype).to(head.device)
    target = torch.randint(0, head.vocab_size, (CHECKED_ROWS,), generator=generator).to(head.device)
    ours, theirs = one(hidden, target), other(hidden, target)
    for name, values in theirs.items():
        if name.endswith("_id"):
            continue  # ties and near ties may be told apart otherwise
        if name == "rank":
            apart = (ours[name] - values).abs() > 2 + values // 1000
        else:
            apart = ~torch.isclose(ours[name], values, rtol=1e-3, atol=1e-4, equal_nan=True)
        if bool(apart.any()):
            return name
    return None


def _obstacle(head: VocabularyHead | GivenLogits) -> str | None:
    """Why Triton cannot compute this head's statistics here, or None."""
    if not isinstance(head, VocabularyHead):
        return "the model's head cannot be separated from its body"
    return device_obstacle(head.device)


def device_obstacle(device: torch.device) -> str | None:
    """Why Triton cannot run on this device, or None."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if interpreted():
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, and the model is on {device}"
    if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        return f"it needs a device of capability {MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} or later"
    return None


def interpreted() -> bool:
    """Whether Triton's kernels run through its interpreter, on any device and slowly: TRITON_INTERPRET=1."""
    return os.environ.get("TRITON_INTERPRET") == "1"
