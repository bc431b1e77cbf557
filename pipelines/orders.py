"""Makes the orders of a benchmark and scores them: a run with the transform `orders`, its base run the benchmark's.

    documents of the base run --> items --> <lake>/orders/<run id>.parquet --> the pipeline of every run
                                               ^-- what they were made of: a command that asks for others stops

The file is written once, whole, before anything is scored, so that a run resumes on what it began with. Scoring costs
(M + 1) times the benchmark: every order is computed in full.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from operators.lake import Lake, orders_path
from operators.orders import Items, OrderOptions, OrdersInputError, cut_shards, read_facts, read_items, write_orders
from operators.transform import parse_transform
from pipelines.base_run import inherited, read_base, state_faults
from pipelines.config import ConfigError, ScoreConfig
from schemas import check_run_id

# What a command may leave out when it goes on with orders that are there: they are taken from those.
_SETTINGS = ("shards", "permutations", "seed", "separator", "items")


@dataclass(frozen=True)
class OrdersJob:
    """Which benchmark, which orders, and how they are scored.

    `asked`: fields of `OrderOptions`, those that were given. `scoring`: fields of `ScoreConfig` that are not to be as
    in the base run, such as the engine. `overwrite`: what is there under this run id is dropped.
    """

    lake: str
    base_run: str
    run_id: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class OrdersPlan:
    """A validated job; nothing is written yet. `facts`: what the file of the orders is made of."""

    job: OrdersJob
    lake: Lake
    options: OrderOptions
    items: Items
    facts: Mapping[str, Any]
    is_written: bool

    @property
    def path(self) -> str:
        return orders_path(self.job.run_id)

    @property
    def tokens(self) -> int:
        """About how many tokens are scored: those of the items, once in every order."""
        return self.items.n_tokens * (self.options.permutations + 1)

    @cached_property
    def config(self) -> ScoreConfig:
        """The run over the orders. Only sums are needed of it, so no texts are kept beside them."""
        fields = {
            "lake": self.job.lake,
            "run_id": self.job.run_id,
            "base_run": self.job.base_run,
            "transform": transform_of(self.options),
            "input": (self.lake.storage.uri(self.path),),
            "id_column": "id",
            "domain_column": "shard",
            "keep_columns": ("shard", "permutation", "n_items"),
            "drop_text": True,
            "storage_options": self.job.storage_options,
        }
        if self.job.overwrite:
            fields["overwrite"] = self.job.run_id
        return ScoreConfig.parse(**inherited({**fields, **self.job.scoring}))


def transform_of(options: OrderOptions) -> str:
    """The transform of a run over these orders, in its canonical spelling."""
    given = f"shards={options.shards},permutations={options.permutations},seed={options.seed}"
    return parse_transform(f"orders:{given}").canonical


def plan_orders(job: OrdersJob) -> OrdersPlan:
    """Read the items and compare with what is there under the run id.

    Raises:
        ConfigError: no such base run, one that cannot be ordered as asked, or a run id that holds something else.
    """
    try:
        check_run_id(job.run_id)
    except ValueError as error:
        raise ConfigError(f"--run-id: {error}") from None
    lake = Lake(job.lake, job.storage_options)
    ledger = read_base(lake, job.base_run)
    faults = [*state_faults(ledger, job.base_run)]
    if job.run_id == job.base_run:
        faults.append(f"--run-id: the orders need a run of their own, not {job.base_run} itself")
    if faults:
        raise ConfigError("\n".join(faults))
    # Orders of a run that never began, say for want of its model, bind nobody: they are written anew.
    stored = read_facts(lake, orders_path(job.run_id)) if job.run_id in lake.run_ids() and not job.overwrite else None
    known = {name: stored[name] for name in _SETTINGS if name in stored} if stored else {}
    options = replace(OrderOptions(), **{**known, **job.asked})
    try:
        transform = transform_of(options)
        items = read_items(lake, job.base_run, options.items)
        cut_shards(len(items), options.shards)
    except OrdersInputError as error:
        raise ConfigError(str(error)) from None
    except ValueError as error:
        raise ConfigError(f"--shards, --permutations or --seed: {error}") from None
    facts = {
        **asdict(options), "base_run": job.base_run, "base_digest": ledger.get("config_digest"), "n_items": len(items),
    }  # fmt: skip
    if not job.overwrite:
        faults = [*_other_run(lake, job, transform)] or [*_other_orders(job, stored, facts)]
    if faults:
        raise ConfigError("\n".join(faults))
    return OrdersPlan(job, lake, options, items, facts, is_written=stored is not None)


def _other_run(lake: Lake, job: OrdersJob, transform: str) -> Iterator[str]:
    """Whether the run id belongs to a run of another kind, or to one of other orders."""
    if job.run_id not in lake.run_ids():
        return
    config = lake.read_run(job.run_id).get("config") or {}
    found = config.get("base_run"), config.get("transform")
    if found != (job.base_run, transform):
        what = f"{found[1]} of run {found[0]}" if found[1] else "no orders of a benchmark"
        yield (
            f"--run-id: run {job.run_id} is there and holds {what}, asked for is {transform} of run {job.base_run}; "
            f"choose another --run-id, or drop what the run holds with --overwrite {job.run_id}"
        )


def _other_orders(job: OrdersJob, stored: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> Iterator[str]:
    """Whether the orders that are there were made of something else."""
    was = facts if stored is None else stored
    names = sorted(was.keys() | facts.keys())
    changes = [f"{n} was {was.get(n)!r}, is {facts.get(n)!r}" for n in names if was.get(n) != facts.get(n)]
    if changes:
        yield (
            f"--run-id: the orders of run {job.run_id} were made of something else: {'; '.join(changes)}; leave out "
            f"what is not to change, choose another --run-id, or make them anew with --overwrite {job.run_id}"
        )


def score_orders(plan: OrdersPlan) -> dict[str, Any]:
    """Write the orders unless they are there, score them or go on with that, and return the run's ledger.

    Raises:
        ConfigError, InputError, ModelError, ResumeError, RunError: as every scoring run.
    """
    from pipelines.plan import make_plan
    from pipelines.score import score_corpus

    config = plan.config  # its faults come first
    if not plan.is_written:
        _write(plan)
    scoring = make_plan(config)
    return scoring.previous if scoring.finished and scoring.previous else score_corpus(scoring)


def _write(plan: OrdersPlan) -> None:
    """By way of a file beside, so that not even the compressed orders are held in memory."""
    with tempfile.TemporaryDirectory(prefix="assay-orders-") as folder:
        path = Path(folder) / "orders.parquet"
        write_orders(path, plan.items.texts, plan.options, plan.facts)
        plan.lake.storage.write_file(plan.path, path)
