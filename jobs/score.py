"""`assay score`: job file and flags -> config -> plan -> run, and what is printed on the way."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.config import ScoreConfig, read_job

if TYPE_CHECKING:
    from pipelines.plan import Plan


def run_score(job: Path | None, flags: dict[str, Any], *, dry_run: bool) -> None:
    """Run the verb; see `assay score --help` for the fields."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    config = ScoreConfig.parse(**{**(read_job(job) if job else {}), **flags})
    from pipelines.plan import make_plan
    from pipelines.score import score_corpus

    plan = make_plan(config)
    if dry_run:
        print_plan(plan)
        return
    console = Console(stderr=True, soft_wrap=True)
    if plan.finished:
        console.print(f"run {config.run_id} is finished already; nothing to do")
    elif plan.previous:
        console.print(f"resuming run {config.run_id}")
    print_summary(score_corpus(plan), plan.lake.root)


def print_plan(plan: Plan) -> None:
    """What a run would do: steps, tables, resources and shards."""
    from pipelines.engines import inline_resources, local_resources

    config = plan.config
    resources = local_resources(plan) if config.engine == "ray" else inline_resources(plan)
    where = f"{resources.actors} x {'GPU' if resources.gpus else 'CPU core'}"
    table = Table("step", "what", "where", box=None, pad_edge=False, header_style="bold")
    stored = f"{len(plan.sources):,} shards, {plan.n_bytes:,} bytes stored"
    table.add_row("read", escape(f"{stored}, text from {config.text_column!r}"), "CPU tasks")
    bos = "a prefix token is fed" if plan.tokenizer_facts["bos_prepended"] else "nothing is fed before the text"
    table.add_row("tokenize", f"special tokens {config.special_tokens}, {bos}", "CPU tasks")
    windows = f"context {plan.windows.context}, stride {plan.windows.stride}, dtype {config.dtype}"
    table.add_row("score", escape(f"{plan.model_facts['type']}, {windows}"), where)
    groups = ", ".join(("core", *config.features))
    table.add_row("write", escape(f"{config.precision}: {groups} -> {plan.lake.root}"), "CPU tasks")
    console = Console(soft_wrap=True)
    console.print(f"run {config.run_id} on engine {config.engine} ({_standing(plan)})", style="bold")
    console.print(table)
    for source in plan.sources[:10]:
        stop = "" if source.stop is None else f" (rows before {source.stop})"
        console.print(escape(f"  {source.shard.format:8} {source.shard.n_bytes:>14,}  {source.shard.uri}{stop}"))
    if len(plan.sources) > 10:
        console.print(f"  ... and {len(plan.sources) - 10:,} more shards")


def _standing(plan: Plan) -> str:
    if plan.finished:
        return "finished already: nothing to do"
    return "resumes: what has a receipt is skipped" if plan.previous else "new"


def print_summary(ledger: dict[str, Any], root: str) -> None:
    """Totals of a finished run, and what to try next."""
    totals, seconds = ledger["totals"], ledger["seconds"]
    rejects = f", {totals['rejects']:,} rejected" if totals["rejects"] else ""
    rate = totals["tokens"] / seconds if seconds else 0.0
    print(
        f"run {ledger['run_id']}: {totals['documents']:,} documents{rejects}, {totals['tokens']:,} tokens "
        f"in {seconds:.1f} s ({rate:,.0f} tokens/s)"
    )
    if not totals["documents"]:
        print("warning: no document was scored; is --text-column right?", file=sys.stderr)
    if totals["rejects"]:
        print(f'rejects: assay sql {shlex.quote(root)} "select reason, count(*) from rejects group by all"')
    print(f"next:    assay sql {shlex.quote(root)} \"from loss('{ledger['run_id']}') order by score desc limit 5\"")
