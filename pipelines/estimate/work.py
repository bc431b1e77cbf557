"""The estimate of a run that is planned: tokens, time and what each rests on, for a reader.

plan -> tokens of what is left -> rate of an actor -> seconds = start + tokens / (actors * rate)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from operators.shards import Shard
from pipelines.cluster import named_address
from pipelines.engines import inline_resources, local_resources
from pipelines.estimate.rate import START_SECONDS, Device, Rate, estimate_rate
from pipelines.estimate.tokens import LEVEL, Budget, Tokens, estimate_tokens
from pipelines.placement import wants_gpu
from pipelines.plan import Plan
from pipelines.progress import duration


@dataclass(frozen=True)
class Estimate:
    """Of a run, or what is left of one: the `share` of its `tokens`. `seconds`: typically, at least and at most.

    What is not known is None, and the reason stands in `tokens_unknown` or `time_unknown`.
    """

    tokens: Tokens | None
    rate: Rate | None
    actors: int
    start: float
    tokens_unknown: str = ""
    time_unknown: str = ""
    share: float = 1.0

    @property
    def seconds(self) -> tuple[float, float, float] | None:
        if self.tokens is None or self.rate is None:
            return None
        pairs = (
            (self.tokens.total, self.rate.tokens), (self.tokens.low, self.rate.high), (self.tokens.high, self.rate.low)
        )  # fmt: skip
        typical, low, high = (self.start + self.share * n / (self.actors * rate) for n, rate in pairs)
        return typical, low, high

    def lines(self) -> list[tuple[str, str]]:
        """(what, in words): of tokens and of time."""
        return [("tokens", self._tokens()), ("time", self._time())]

    def _tokens(self) -> str:
        found = self.tokens
        if found is None:
            return f"not estimated: {self.tokens_unknown}"
        span = "" if found.is_counted else f" ({count(found.low)} to {count(found.high)}, {LEVEL:.0%} interval)"
        said = f"; {found.rejects:,} of {found.records:,} records were rejected" if found.rejects else ""
        fed = f"; {count(found.fed)} with the overlap of windows" if found.fed > 1.05 * found.total else ""
        left = f"; about {self.share:.0%} of it is left, {count(self.share * found.total)}" if self.share < 1 else ""
        return f"{count(found.total)}{span}, {found.basis}{fed}{said}{left}"

    def _time(self) -> str:
        if self.seconds is None or self.rate is None:
            return f"not estimated: {self.time_unknown or self.tokens_unknown}"
        typical, low, high = map(duration, self.seconds)
        actors = f"{self.actors:,} actor{'s' * (self.actors != 1)}"
        return (
            f"{typical} ({low} to {high}) on {actors} of {count(self.rate.tokens)} tokens/s each, "
            f"{self.rate.basis}; {duration(self.start)} of it to start"
        )


@dataclass(frozen=True)
class Crew:
    """The actors of a run. `where`: in words, also where a cluster elsewhere decides how many there are."""

    actors: int
    device: Device
    where: str


def crew_of(plan: Plan) -> Crew:
    """The actors that a run would have: of this machine, or of a cluster that is not asked."""
    config = plan.config
    if config.engine == "ray" and named_address(config.address):
        kind = "cuda" if wants_gpu(config) else "cpu" if config.device.startswith("cpu") else ""
        each = {"cuda": "GPU", "cpu": "CPU core"}.get(kind, "GPU (or core)")
        many = f"{config.actors:,} x {each}" if config.actors else f"one a {each}"
        device = Device(kind, config.gpus_per_actor or 1.0, config.accelerator_type)
        return Crew(config.actors or 1, device, f"{many} of the cluster")
    resources = local_resources(plan) if config.engine == "ray" else inline_resources(plan)
    on_gpu = resources.gpus > 0
    device = Device("cuda", resources.gpus, _gpu_name()) if on_gpu else Device("cpu")
    return Crew(resources.actors, device, resources.where)


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def estimate(
    plan: Plan, shards: Sequence[Shard], crew: Crew, budget: Budget | None = None, share: float = 1.0
) -> Estimate:
    """What scoring these shards of a plan takes, or the `share` of them that is left. It never fails: what cannot be
    told is said instead."""
    start = START_SECONDS[plan.config.engine]
    actors = max(1, crew.actors)
    tokens = None
    try:
        tokens = estimate_tokens(plan, shards, budget)
        return Estimate(tokens, estimate_rate(plan, tokens, crew.device), actors, start, share=share)
    except (ValueError, LookupError, ArithmeticError, TypeError, RuntimeError, OSError) as error:
        # A file, a ledger or a library that nobody foresaw costs the estimate, and not the plan that it stands in.
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        why = kind + " ".join(str(error).split())
    return Estimate(tokens, None, actors, start, "" if tokens else why, why, share)


def count(n: float) -> str:
    """`812`, `12,300`, `1.24 million`, `3.1 trillion`: three digits that mean something."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if n >= size:
            return f"{n / size:.3g} {name}" if n < 1000 * size else f"{n / size:,.0f} {name}"
    if n < 1000:
        return f"{n:,.0f}"
    digits = 10 ** max(0, len(str(int(n))) - 3)
    return f"{round(n / digits) * digits:,}"
