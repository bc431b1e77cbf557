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
class Crew:
    """The actors of a run: `actors` at most, `fewest` where a pool grows from so many. `where`: in words, also where a
    cluster elsewhere decides how many there are."""

    actors: int
    device: Device
    where: str
    fewest: int | None = None


@dataclass(frozen=True)
class Estimate:
    """Of a run, or what is left of one: the `share` of its `tokens`. `seconds`: typically, at least and at most; of a
    pool that grows, as if it were at its largest all the time, and at most as if it never grew.

    What is not known is None, and the reason stands in `tokens_unknown` or `time_unknown`.
    """

    tokens: Tokens | None
    rate: Rate | None
    crew: Crew
    start: float
    tokens_unknown: str = ""
    time_unknown: str = ""
    share: float = 1.0

    @property
    def seconds(self) -> tuple[float, float, float] | None:
        tokens, rate, most = self.tokens, self.rate, self.crew.actors
        if tokens is None or rate is None:
            return None
        all_at_once = (
            (tokens.total, most * rate.tokens), (tokens.low, most * rate.high),
            (tokens.high, (self.crew.fewest or most) * rate.low),
        )  # fmt: skip
        typical, low, high = (self.start + self.share * n / speed for n, speed in all_at_once)
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
        most, fewest = self.crew.actors, self.crew.fewest or self.crew.actors
        actors = f"{f'{fewest:,} to ' * (fewest < most)}{most:,} actor{'s' * (most != 1)}"
        return (
            f"{typical} ({low} to {high}) on {actors} of {count(self.rate.tokens)} tokens/s each, "
            f"{self.rate.basis}; {duration(self.start)} of it to start"
        )


def crew_of(plan: Plan) -> Crew:
    """The actors that a run would have: of this machine, or of a cluster that is not asked."""
    config = plan.config
    if config.engine == "ray" and named_address(config.address):
        kind = "cuda" if wants_gpu(config) else "cpu" if config.device.startswith("cpu") else ""
        each = {"cuda": "GPU", "cpu": "CPU core"}.get(kind, "GPU (or core)")
        fewest = config.actors or 1
        most = max(fewest, config.max_actors or 0)
        many = f"{fewest:,} to {most:,} x {each}" if most > fewest else f"{most:,} x {each}"
        many = many if config.actors or config.max_actors else f"one a {each}"
        device = Device(kind, config.gpus_per_actor or 1.0, config.accelerator_type)
        return Crew(most, device, f"{many} of the cluster", fewest)
    resources = local_resources(plan) if config.engine == "ray" else inline_resources(plan)
    on_gpu = resources.gpus > 0
    device = Device("cuda", resources.gpus, _gpu_name()) if on_gpu else Device("cpu")
    return Crew(resources.most_actors, device, resources.where, resources.actors)


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def estimate(
    plan: Plan, shards: Sequence[Shard], crew: Crew, budget: Budget | None = None, share: float = 1.0
) -> Estimate:
    """What scoring these shards of a plan takes, or the `share` of them that is left. It never fails: what cannot be
    told is said instead."""
    start = START_SECONDS[plan.config.engine]
    tokens = None
    try:
        tokens = estimate_tokens(plan, shards, budget)
        return Estimate(tokens, estimate_rate(plan, tokens, crew.device), crew, start, share=share)
    except Exception as error:
        # Files and ledgers of strangers, tokenizers that raise bare Exceptions, models of any architecture built here
        # without weights: what none of them foresaw costs the estimate, and not the plan that it stands in.
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        why = kind + " ".join(str(error).split())
    return Estimate(tokens, None, crew, start, "" if tokens else why, why, share)


def count(n: float) -> str:
    """`812`, `12,300`, `1.24 million`, `3.1 trillion`: three digits that mean something."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if n >= size:
            return f"{n / size:.3g} {name}" if n < 1000 * size else f"{n / size:,.0f} {name}"
    if n < 1000:
        return f"{n:,.0f}"
    digits = 10 ** max(0, len(str(int(n))) - 3)
    return f"{round(n / digits) * digits:,}"
