"""`assay exchangeability`: does the model prefer a benchmark's own order of items to others?

    run of the benchmark --> orders of its items, scored as a run (`pipelines.orders`) --> `examine` --> `report`

The run of the orders is made once; `--only-test` tests one that is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.exchangeability.examine import examine
from jobs.exchangeability.report import show
from jobs.exchangeability.request import ExchangeabilityOptions
from jobs.output import choose_format
from jobs.query import check_lake
from pipelines.config import ConfigError
from pipelines.logs import configure_logs

if TYPE_CHECKING:
    from pipelines.orders import OrdersPlan


def run_exchangeability(
    options: ExchangeabilityOptions, fmt: str | None, output: Path | None, *, only_test: bool, dry_run: bool
) -> None:
    """Make the orders and their run unless they are there, test, and print or write what was found.

    Raises:
        ConfigError, InputError, ModelError, ResumeError: the job cannot be run as asked.
        RunError, ObjectError: it ran and failed.
    """
    chosen = choose_format(fmt, output)
    if only_test and (options.is_specific or dry_run):
        raise ConfigError("--only-test: the run is tested as it was made; leave out the flags that say how to make it")
    check_lake(options.lake, options.storage_options)
    if not only_test:
        plan = _planned(options)
        if dry_run:
            print("\n".join(plan_lines(plan)))
            return
        _score(plan)
    found = examine(options.lake, options.orders_run, options.storage_options)
    if found.benchmark_run != options.benchmark_run:
        raise ConfigError(
            f"--run-id: run {found.run_id} holds orders of run {found.benchmark_run}, not of {options.benchmark_run}"
        )
    show(found, chosen, output)


def _planned(options: ExchangeabilityOptions) -> OrdersPlan:
    from pipelines.orders import OrdersJob, plan_orders

    if options.overwrite not in (None, options.orders_run):
        raise ConfigError(
            f"--overwrite: it names {options.overwrite!r}, the run is {options.orders_run!r}: repeat the run id there "
            "to drop what the run holds"
        )
    job = OrdersJob(
        options.lake, options.benchmark_run, options.orders_run, options.orders, options.scoring,
        options.overwrite is not None, options.storage_options,
    )  # fmt: skip
    try:
        return plan_orders(job)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--base-run", "--benchmark-run")) from None


def _score(plan: OrdersPlan) -> None:
    from pipelines.orders import score_orders

    configure_logs()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for line in plan_lines(plan):
        console.print(line, markup=False)
    ledger = score_orders(plan)
    totals = ledger["totals"]
    console.print(f"run {plan.job.run_id}: {totals['documents']:,} orders, {totals['tokens']:,} tokens", markup=False)


def plan_lines(plan: OrdersPlan) -> list[str]:
    """What will be scored, and what it costs."""
    options, items = plan.options, plan.items
    first = f"the first {len(items):,} of {items.available:,}" if len(items) < items.available else f"{len(items):,}"
    window = f"context {plan.config.context or 'of the model'}, stride {plan.config.stride or 'half of it'}"
    return [
        f"run {plan.job.run_id}: {first} items of run {plan.job.base_run} in {options.shards:,} shards, as they stand "
        f"and in {options.permutations:,} other orders; {window}",
        f"cost: {options.permutations + 1:,} times the benchmark, about {plan.tokens:,} tokens and "
        f"{plan.tokens * 7 / 1e6:,.0f} MB in the lake; longer shards than the context are computed context / stride "
        "times",
    ]
