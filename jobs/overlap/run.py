"""`assay overlap`: flags -> job -> plan -> comparison, and what is printed on the way."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.errors import printable
from jobs.score import unescaped
from pipelines.logs import configure_logs
from pipelines.overlap.job import BENCHMARK, CORPUS, OverlapJob
from pipelines.overlap.plan import OverlapPlan

# Fields of the readings and of the n-grams, by the flag that gives them.
_CORPUS = {
    "input": "corpus",
    "format": "corpus_format",
    "text_column": "corpus_text_column",
    "text_template": "corpus_text_template",
    "id_column": "corpus_id_column",
    "limit": "limit",
    "max_document_bytes": "max_document_bytes",
}
_BENCHMARK = {
    "input": "benchmark",
    "format": "benchmark_format",
    "text_column": "input_column",
    "text_template": "input_template",
    "id_column": "id_column",
}
_OPTIONS = {
    "n": "ngram",
    "normalisation": "normalization",
    "drop": "drop",
    "margin": "margin",
    "most_items": "most_items",
}
_SHOWN = 10  # files of a plan


def run_overlap(flags: dict[str, Any], *, dry_run: bool = False) -> None:
    """Run the verb; see `assay overlap --help` for the flags."""
    from jobs.overlap.report import print_report, warn_of_rejects
    from pipelines.overlap.plan import plan_overlap
    from pipelines.overlap.run import compare

    configure_logs()
    plan = plan_overlap(overlap_job(flags))
    if dry_run:
        print_plan(plan)
        return
    note = _standing(plan)
    if note != "new":
        Console(stderr=True, soft_wrap=True).print(escape(f"overlap {plan.job.name}: {note}"))
    said = compare(plan)
    warn_of_rejects(said)
    print_report(plan.lake, said, Console(width=None if sys.stdout.isatty() else 120, highlight=False))


def overlap_job(flags: dict[str, Any]) -> OverlapJob:
    """The job that flags of the command line ask for.

    Raises:
        ConfigError: one line a fault.
    """
    for name in ("input_template", "corpus_text_template"):
        if name in flags:
            flags = {**flags, name: unescaped(flags[name])}
    taken = {flag for fields in (_CORPUS, _BENCHMARK, _OPTIONS) for flag in fields.values()}
    return OverlapJob.parse(
        corpus=_fields(_CORPUS, flags),
        benchmark=_fields(_BENCHMARK, flags),
        options=_fields(_OPTIONS, flags),
        **{name: value for name, value in flags.items() if name not in taken},
    )


def _fields(names: dict[str, str], flags: dict[str, Any]) -> dict[str, Any]:
    return {field: flags[flag] for field, flag in names.items() if flag in flags}


def print_plan(plan: OverlapPlan) -> None:
    """What a comparison would do: steps, tables and files."""
    job, options = plan.job, plan.job.options
    table = Table("step", "what", box=None, pad_edge=False, header_style="bold")
    for side, listing, reading in (("index", plan.benchmark, job.benchmark), ("match", plan.corpus, job.corpus)):
        n_bytes = sum(shard.n_bytes for shard in listing.shards)
        text = reading.text_template or reading.text_column
        what = (
            f"{len(listing.shards):,} file{'s' * (len(listing.shards) != 1)}, {n_bytes:,} bytes stored, text {text!r}"
        )
        answer = f", answer {job.answer_column!r}" if side == "index" and job.answer_column else ""
        table.add_row(side, escape(printable(what + answer)))
    grams = f"{options.n}-grams of {options.normalisation}, margin {options.margin}, drop {options.rule.canonical}"
    table.add_row("n-grams", escape(grams))
    table.add_row("write", escape(f"overlap_items, overlap_spans, decontamination -> {plan.lake.root}"))
    console = Console(soft_wrap=True)
    console.print(escape(f"overlap {job.name} on engine {job.corpus.engine} ({_standing(plan)})"), style="bold")
    console.print(table)
    for side, listing in ((BENCHMARK, plan.benchmark), (CORPUS, plan.corpus)):
        for shard in listing.shards[:_SHOWN]:
            console.print(escape(f"  {side:10} {shard.format:8} {shard.n_bytes:>14,}  {printable(shard.uri)}"))
        if len(listing.shards) > _SHOWN:
            console.print(f"  ... and {len(listing.shards) - _SHOWN:,} more files of the {side}")


def _standing(plan: OverlapPlan) -> str:
    from pipelines.overlap.receipts import finished_units

    if plan.finished is not None:
        return "finished already: nothing to do"
    if plan.job.overwrite:
        return "what the lake has under this name is dropped first; to resume after a stop, leave --overwrite out"
    if plan.record is None:
        return "new"
    n = (plan.record.survey or {}).get("units")
    return f"resuming: {len(finished_units(plan.scratch)):,} of {n or 'all'} units are done"
