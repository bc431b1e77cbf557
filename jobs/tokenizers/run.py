"""`assay tokenizers`: flags -> job -> plan -> profile, what is printed of it, and its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.errors import printable
from jobs.figures import check_figure
from jobs.frequencies import say_rejects
from jobs.output import choose_format
from jobs.score import unescaped
from jobs.tokenizers.figure import draw
from jobs.tokenizers.report import show
from pipelines.logs import configure_logs
from pipelines.tokenizers.job import TokenizersJob, TokenizersPlan, plan_tokenizers
from pipelines.tokenizers.run import profile_tokenizers
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS

_SHOWN = 10  # files of a plan


def run_tokenizers(
    flags: dict[str, Any], *, figure: Path | None, fmt: str | None, output: Path | None, dry_run: bool = False
) -> None:
    """Run the verb; see `assay tokenizers --help` for the flags."""
    configure_logs()
    fmt = choose_format(fmt, output)
    check_figure(figure)
    if "text_template" in flags:
        flags = {**flags, "text_template": unescaped(flags["text_template"])}
    plan = plan_tokenizers(TokenizersJob.parse(**flags))
    if dry_run:
        print_plan(plan)
        return
    profile = profile_tokenizers(plan)
    say_rejects(profile.rejected)
    if figure is not None:
        draw(figure, plan, profile)
    show(plan, profile, fmt, output)


def print_plan(plan: TokenizersPlan) -> None:
    """What a profile would be of: tokenizers, files and tables."""
    job, shards = plan.job, plan.listing.shards
    table = Table("step", "what", box=None, pad_edge=False, header_style="bold")
    n_bytes = sum(shard.n_bytes for shard in shards)
    text = repr(job.reading.text_template or job.reading.text_column)
    files = f"{len(shards):,} file{'s' * (len(shards) != 1)}, {n_bytes:,} bytes stored, text {text}"
    table.add_row("read", escape(printable(files)))
    for each in job.tokenizers:
        table.add_row("tokenize", escape(printable(f"{each.name}: {each.path}")))
    table.add_row("write", escape(printable(f"{TOKENIZER_STATISTICS.name} {job.name} -> {plan.lake.root}")))
    console = Console(soft_wrap=True)
    console.print(escape(f"profile {job.name} on engine {job.reading.engine}"), style="bold")
    console.print(table)
    for shard in shards[:_SHOWN]:
        console.print(escape(f"  {shard.format:8} {shard.n_bytes:>14,}  {printable(shard.uri)}"))
    if len(shards) > _SHOWN:
        console.print(f"  ... and {len(shards) - _SHOWN:,} more files")
