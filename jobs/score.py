"""`assay score`: job file and flags -> config -> plan -> run, and what is printed on the way.

A job with a base run takes what it does not say from that run; with copies it is several runs, one after the other.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.errors import printable
from operators.storage.remote import redact
from operators.transform import TransformError, parse_transform
from pipelines.config import ConfigError, ScoreConfig
from pipelines.logs import configure_logs

if TYPE_CHECKING:
    from pipelines.plan import Plan


def run_score(job: Path | None, flags: dict[str, Any], *, dry_run: bool, copies: int | None = None) -> None:
    """Run the verb; see `assay score --help` for the fields."""
    configure_logs()
    if "text_template" in flags:
        flags = {**flags, "text_template": unescaped(flags["text_template"])}
    fields = {**(_fields(job) if job else {}), **flags}
    said = fields.pop("copies", None)
    runs = configs(fields, said if copies is None else copies)
    if dry_run:
        from pipelines.plan import make_plan

        print_plans(map(make_plan, runs))
        return
    for config in runs:
        _run(config)


def _fields(job: Path) -> dict[str, Any]:
    from jobs.job_file import read_fields

    return read_fields(job, ("score",))


def configs(fields: dict[str, Any], copies: int | None = None) -> list[ScoreConfig]:
    """What the fields of a job ask for, with what they take from its base run: one run, or one a copy.

    Raises:
        ConfigError: they cannot be run; there is no such base run.
    """
    if fields.get("base_run") is not None or fields.get("transform") is not None:
        from pipelines.base_run import inherited

        fields = inherited(fields)
    return [ScoreConfig.parse(**each) for each in copied(fields, copies)]


def copied(fields: dict[str, Any], copies: int | None) -> list[dict[str, Any]]:
    """The fields of every run of a job: of copy 1 to N of its transform, as runs `<run id>-1` to `<run id>-N`.

    Raises:
        ConfigError: there is no transform whose copies differ, or it names a copy of its own.
    """
    if copies is None:
        return [fields]
    if fields.get("transform") is None or fields.get("run_id") is None:
        raise ConfigError("--copies: it needs --run-id and --transform, such as perturb:kind=swap_words")
    try:
        transform = parse_transform(fields["transform"])
        draws = [(n, transform.copy(n).canonical) for n in range(1, copies + 1)]
    except TransformError as error:
        raise ConfigError(f"--transform: {error}") from None
    if transform.get("copy") != 1:
        raise ConfigError(f"--copies: --transform {transform.canonical} names one copy already; leave copy= out")
    run_id, again = fields["run_id"], fields.get("overwrite")
    runs = [fields | {"run_id": f"{run_id}-{n}", "transform": spec} for n, spec in draws]
    return runs if again is None or again != run_id else [run | {"overwrite": run["run_id"]} for run in runs]


def _run(config: ScoreConfig) -> None:
    from pipelines.plan import make_plan
    from pipelines.score import score_corpus

    plan = make_plan(config)
    console = Console(stderr=True, soft_wrap=True)
    if config.overwrite:
        console.print(f"dropping what run {config.run_id} holds; to resume after a stop, leave --overwrite out")
    if plan.finished:
        console.print(f"run {config.run_id} is finished already; nothing to do")
    elif plan.previous:
        console.print(f"resuming run {config.run_id}: {_standing(plan)}")
    print_summary(score_corpus(plan), plan.lake.root)


def unescaped(template: str) -> str:
    r"""A template as typed on a command line, where `\n` and `\t` are two characters each: what they stand for."""
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], template)


def print_plans(plans: Iterable[Plan]) -> None:
    """What the runs of a job would do. Copies are much alike: tokens and time are said of the first that is left."""
    estimated = False
    for plan in plans:
        print_plan(plan, estimated=not estimated)
        estimated = estimated or not plan.finished


def print_plan(plan: Plan, *, estimated: bool = True) -> None:
    """What a run would do: steps, tables, resources and shards, and what tokens and time come to."""
    from pipelines.estimate.left import Left
    from pipelines.estimate.work import crew_of, estimate

    config = plan.config
    crew = crew_of(plan)
    table = Table("step", "what", "where", box=None, pad_edge=False, header_style="bold")
    stored = f"{len(plan.listing.shards):,} shards, {plan.n_bytes:,} bytes stored"
    text = repr(config.text_template or config.text_column)
    prompt = f" after a prompt from {config.prompt_column!r}" if config.prompt_column else ""
    table.add_row("read", escape(f"{stored}, text from {text}{prompt}"), "CPU tasks")
    if config.transform:
        table.add_row(
            "transform", escape(f"{config.transform}, of run {config.base_run}{_prefixed(plan)}"), "CPU tasks"
        )
    if config.id_column:
        table.add_row("survey", escape(f"ids from {config.id_column!r}: the first record of each has it"), "CPU tasks")
    bos = "a prefix token is fed" if plan.tokenizer_facts["bos_prepended"] else "nothing is fed before the text"
    table.add_row("tokenize", f"special tokens {config.special_tokens}, {bos}", "CPU tasks")
    windows = f"context {plan.document_windows.context}, stride {plan.document_windows.stride}"
    if _has_strict_windows(plan):
        windows = f"windows of {plan.windows.context} tokens, the last {plan.windows.stride} predicted"
    table.add_row("score", escape(f"{plan.model_facts['type']}, {windows}, dtype {config.dtype}"), crew.where)
    groups = ", ".join(("core", *config.features))
    table.add_row("write", escape(f"{config.precision}: {groups} -> {plan.lake.root}"), "CPU tasks")
    console = Console(soft_wrap=True)
    console.print(f"run {config.run_id} on engine {config.engine} ({_standing(plan)})", style="bold")
    console.print(table)
    left = Left.of_plan(plan)
    for shard in left.shards[:10]:
        last = plan.listing.stop is not None and shard == plan.listing.shards[-1]
        stop = f" (rows before {plan.listing.stop})" if last else ""
        console.print(escape(f"  {shard.format:8} {shard.n_bytes:>14,}  {printable(shard.uri)}{stop}"))
    if len(left.shards) > 10:
        console.print(f"  ... and {len(left.shards) - 10:,} more shards")
    if left.shards and estimated:
        for what, said in estimate(plan, left.of, crew, share=left.share).lines():
            console.print(escape(printable(redact(f"{what:8}  {said}"))))


def _prefixed(plan: Plan) -> str:
    if plan.prefix is None:
        return ""
    shots = f" of {len(plan.prefix.keys)} shots" if plan.prefix.keys else ""
    n = len(plan.prefix.token_ids)
    return f": {n:,} token{'' if n == 1 else 's'}{shots} before every window"


def _has_strict_windows(plan: Plan) -> bool:
    transform = plan.config.parsed_transform
    return transform is not None and transform.name == "windows"


def _standing(plan: Plan) -> str:
    if plan.finished:
        return "finished already: nothing to do"
    if plan.config.overwrite:
        return "new: what the run id holds is dropped first"
    if not plan.previous:
        return "new"
    from pipelines.estimate.left import Left

    done = plan.done
    left = f"{len(Left.of_plan(plan).shards):,} of {len(plan.listing.shards):,} shards left"
    return f"{left}, {done.counts['documents']:,} documents done"


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
        print("warning: no document was scored; is --text-column (or --text-template) right?", file=sys.stderr)
    if totals["rejects"]:
        print(f'rejects: assay sql {shlex.quote(root)} "select reason, count(*) from rejects group by all"')
    print(f"next:    assay sql {shlex.quote(root)} \"from loss('{ledger['run_id']}') order by score desc limit 5\"")
