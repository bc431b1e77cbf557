"""`assay bench products`: float32 products on this CPU, by torch's own library and by the one that scoring uses.

    torch     torch.nn.functional.linear: MKL on x86
    one run   oneDNN, every sum in one run
    scoring   what a body's layers do: oneDNN, sums longer than `LONGEST_SUM` in pieces

Speed in GFLOP/s on one thread; error is the root mean square against float64 over the products' own standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jobs.bench.measure import record, show, take_turns

ROWS = 1024
SIZES = ((768, 768), (768, 3072), (3072, 768), (2048, 2048), (256, 688))
"""(width summed over, columns of the result) of layers of the shapes measured elsewhere."""


def bench_products(rounds: int) -> None:
    """Run the verb."""
    import torch

    torch.set_num_threads(1)
    rows, results = [], []
    for width, columns in SIZES:
        for name, speed, noise, error in _measure(width, columns, rounds):
            results.append({"width": width, "columns": columns, "product": name, "gflops": speed, "error": error})
            rows.append([f"{ROWS} x {width} x {columns}", name, f"{speed:.0f}", f"{noise:.0%}", f"{error:.1e}"])
    show(
        f"Float32 products, one thread, median of {rounds} rounds",
        ["rows x width x columns", "product", "GFLOP/s", "noise", "rms error"],
        rows,
    )
    record("products", results, rounds=rounds, rows=ROWS, threads=1)


def _measure(width: int, columns: int, rounds: int) -> list[tuple[str, float, float, float]]:
    """(product, GFLOP/s, noise, error) of every product that this machine has."""
    import torch
    from torch import Tensor, nn

    from operators.products import available, linear, use_fast_products

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, width, generator=generator)
    layer = nn.Linear(width, columns)
    nn.init.normal_(layer.weight, std=0.02, generator=generator)
    scoring = nn.Sequential(nn.Linear(width, columns))
    scoring.load_state_dict({f"0.{name}": value for name, value in layer.state_dict().items()})
    use_fast_products(scoring)
    ways: dict[str, Callable[[], Tensor]] = {"torch": lambda: layer(x), "scoring": lambda: scoring(x)}
    if available(x.device, x.dtype):
        ways["one run"] = lambda: linear(x, layer.weight, layer.bias)
    with torch.inference_mode():
        exact = x.double() @ layer.weight.double().T + layer.bias.double()
        timings = take_turns(ways, rounds)
        errors = {name: _error(way(), exact) for name, way in ways.items()}
    work = 2 * ROWS * width * columns / 1e9
    return [(name, work / t.median, t.spread, errors[name]) for name, t in timings.items()]


def _error(got: Any, exact: Any) -> float:
    return math.sqrt(float((got.double() - exact).square().mean())) / float(exact.std())
