"""Settings of the device that change numbers: no shortened float32 products, and algorithms that repeat themselves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

_WORK_SPACE = ":4096:8"  # a size at which NVIDIA states that cuBLAS repeats its bits


def exact_products(device: torch.device) -> None:
    """Float32 products in float32 for the rest of the process: TF32 would round inputs to 10 bits."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False


def prepare_repeatable(device: torch.device) -> None:
    """Settings for bit-equal rows; best before CUDA is first used in the process, which fixes the work space."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORK_SPACE)
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False


@contextlib.contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Within, operations that have no repeatable algorithm raise; the setting is restored on leaving."""
    if not wanted:
        yield
        return
    deterministic: Any = torch.utils.deterministic  # a module with a property, which its types do not show
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False  # outputs are written whole
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = fills
