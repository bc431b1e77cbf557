"""How fast a run will be: by what earlier runs of the same model did, else by arithmetic.

    earlier runs   tokens a second and actor, of finished runs in this lake with the model's fingerprint and device
    arithmetic     operations of a token (`operators.flops`) over what the device can do: a CPU's core is timed at one
                   product, a GPU's peak is its maker's; what of it scoring achieves is a guess with a wide range

The start (Ray, workers, imports) is apart: it does not grow with the input.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from operators.lake import Lake
from pipelines.estimate.tokens import Tokens, UnknownError
from pipelines.plan import Plan

START_SECONDS = {"ray": 12.0, "inline": 4.0}  # before the first block on two cores: Ray's start, imports, a small model
LEDGERS = 50  # of earlier runs that are looked at: those whose names are most like the run's own, which nights' are

# The share of a device's operations that scoring achieves, at least, typically, at most. Of a timed product on such a
# core gpt2-small reached 0.63 and `wide` (11 million numbers) 0.47 (infra/benchmarks/2026-11-21-cpu-2-cores-2.txt), the
# tests' smallest model 0.2. Nothing has been measured on a GPU yet.
_SHARES = {"cpu": (0.1, 0.5, 0.9), "cuda": (0.1, 0.35, 0.7)}
_MARGIN, _MARGIN_OTHER = 1.3, 2.0  # of rates of earlier runs: under the same settings, under others
# The fields that decide how fast an actor is, beside the model and the kind of device.
_SETTINGS = ("context", "stride", "features", "dtype", "kernel", "deterministic", "transform", "gpus_per_actor",
             "accelerator_type")  # fmt: skip
_HOST_SECONDS = 8e-6  # of a core a token: reading, tokenizing, writing


@dataclass(frozen=True)
class Device:
    """What an actor scores on. `kind`: cpu, cuda, or empty where a cluster elsewhere will decide. `share` of a GPU;
    `name`: as its maker or Ray calls it, None where that is not known."""

    kind: str
    share: float = 1.0
    name: str | None = None


@dataclass(frozen=True)
class Rate:
    """Tokens a second of one actor: typically, at least and at most; `basis` says where it is from."""

    tokens: float
    low: float
    high: float
    basis: str


def estimate_rate(plan: Plan, tokens: Tokens, device: Device) -> Rate:
    """Of a run whose actors have this device each.

    Raises:
        UnknownError: no such run, and a device of which nothing is known here.
        Exception: no such run, and a model whose code builds none from its config alone.
    """
    earlier = list(_earlier(plan, device.kind))
    if not earlier:
        return _by_arithmetic(plan, tokens, device)
    same = [run for run in earlier if run.is_same and device.kind]
    runs = same or earlier
    rates = sorted(run.rate for run in runs)
    margin = _MARGIN if same else _MARGIN_OTHER
    # Where a cluster elsewhere decides, its devices may be others than these.
    where = "" if device.kind else f" on {', '.join(sorted({run.device for run in runs}))}"
    others = "" if same else ", under other settings"
    many = f"{len(runs)} finished run{'s' * (len(runs) != 1)}"
    basis = f"as {many} of this model in the lake{where}{others}"
    return Rate(rates[len(rates) // 2], rates[0] / margin, rates[-1] * margin, basis)


@dataclass(frozen=True)
class _Run:
    """An earlier run. `rate`: tokens a second and actor; `is_same`: its settings were those of the plan."""

    rate: float
    device: str
    is_same: bool


def _earlier(plan: Plan, device: str) -> Iterator[_Run]:
    """Of the plan's model on such a device, or on any where `device` is empty."""
    for ledger in _finished(plan.lake, plan.config.run_id):
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError, ArithmeticError):  # none of ours
            run = _run(plan, ledger)
            if run is not None and run.device.startswith(device):
                yield run


def _run(plan: Plan, ledger: Mapping[str, Any]) -> _Run | None:
    """What a ledger says of the rate; None of another model, and of a run that took hardly longer than its start."""
    model, config = ledger["model"], ledger["config"]
    actors = (ledger.get("attempt") or {}).get("workers") or config["actors"]
    # Of a pool that grows, as if it had been at its largest all the time.
    actors = 1 if config["engine"] == "inline" else max(actors, config.get("max_actors") or 0)
    work = ledger["seconds"] - START_SECONDS[config["engine"]]
    rate = ledger["totals"]["tokens"] / work / actors
    if model["fingerprint"] != plan.model_facts["fingerprint"] or work <= 1.0 or rate <= 0:
        return None
    now = plan.config.model_dump(mode="json") | {"context": plan.windows.context, "stride": plan.windows.stride}
    is_same = all(config.get(name) == now.get(name) for name in _SETTINGS)
    return _Run(rate, model["device"].partition(":")[0], is_same)


def _finished(lake: Lake, like: str) -> Iterator[Mapping[str, Any]]:
    """The ledgers of finished runs, `LEDGERS` of them at most."""

    def alike(run_id: str) -> tuple[int, str]:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(run_id, like, strict=False))
        return sum(1 for _ in same), run_id

    for run_id in sorted(lake.run_ids(), key=alike)[-LEDGERS:]:
        with contextlib.suppress(OSError, ValueError):
            ledger = lake.read_run(run_id)
            if isinstance(ledger, Mapping) and ledger.get("state") == "finished" and ledger.get("totals"):
                yield ledger


def _by_arithmetic(plan: Plan, tokens: Tokens, device: Device) -> Rate:
    if not device.kind:
        raise UnknownError(
            "the cluster's devices are not known here; --accelerator-type NAME or --device cpu says more"
        )
    operations = token_operations(plan, tokens)
    speed, what = _gpu_speed(plan, device) if device.kind == "cuda" else _core_speed()
    low, typical, high = (share * speed * device.share for share in _SHARES[device.kind])
    # On a CPU the core that scores shares the machine with what reads and writes.
    host = _HOST_SECONDS if device.kind == "cpu" else 0.0
    basis = f"a guess: {operations / 1e6:,.3g} million operations a token, {what}"
    rates = {
        name: 1.0 / (operations / each + host) for name, each in (("tokens", typical), ("low", low), ("high", high))
    }
    return Rate(basis=basis, **rates)


def token_operations(plan: Plan, tokens: Tokens) -> float:
    """Floating-point operations a token of the corpus, windows that overlap included.

    Raises:
        UnknownError: the architecture does not say how much of it a token goes through.
        Exception: whatever the architecture's own code raises where there are no weights.
    """
    from transformers import AutoModelForCausalLM

    from operators.flops import ForwardCost
    from operators.model_files import read_config

    config = read_config(plan.folder, trust_remote_code=plan.config.trust_remote_code)
    with torch.device("meta"):  # shapes alone: no weight is read
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=plan.config.trust_remote_code)
    cost = ForwardCost.of(model)
    if cost is None:
        raise UnknownError("the model's config does not say how many experts a token goes through")
    context = plan.document_windows.most_fed
    return cost.flops([context], context) / context * (tokens.fed / tokens.total if tokens.total else 1.0)


def _gpu_speed(plan: Plan, device: Device) -> tuple[float, str]:
    from operators.flops import peak_flops

    if device.name is None:
        raise UnknownError("which GPU the cluster has is not known here; --accelerator-type NAME says it")
    dtype = torch.bfloat16 if plan.config.dtype == "auto" else getattr(torch, plan.config.dtype)
    peak = peak_flops(device.name, dtype)
    if peak is None:
        raise UnknownError(f"what a {device.name} can do at most is not known")
    return peak, f"{peak / 1e12:,.0f}e12 a second at most on a {device.name}"


def _core_speed() -> tuple[float, str]:
    """Operations a second of one core in a float32 product as scoring computes it; takes a tenth of a second."""
    from operators.products import fastest

    x_RK, weight_NK = torch.ones(512, 768), torch.ones(768, 768)
    product = fastest(x_RK.device, x_RK.dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            product(x_RK, weight_NK)
            seconds = min(_timed(lambda: product(x_RK, weight_NK)) for _ in range(8))
    finally:
        torch.set_num_threads(threads)
    speed = 2 * 512 * 768 * 768 / seconds
    return speed, f"{speed / 1e9:,.0f}e9 a second on a core here"


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
