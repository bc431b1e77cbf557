"""What `assay mixture tokenizer` shows: shares with intervals, what they rest on, what they cannot say; bars; the plan.

Two ranges stand beside a share. The interval is of the sample: other documents of the same corpora would have moved it
so far. `possible` is of the question: other mixtures explain the merges about as well. A wide one means that candidates
can stand in for each other, however large the samples are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.commands import joined
from jobs.errors import printable
from jobs.mixture.tokenizer_rows import facts, has_intervals, shares
from jobs.output import WIDTH, show_json, show_page, warn, write
from operators.merges import GROUPS
from pipelines.mixture.plan import TokenizerMixturePlan
from pipelines.mixture.run import Inferred
from pipelines.tally import Rejected

_SHOWN = 3  # files of a corpus in a plan
_LITTLE = 100_000  # bytes of a sample
_OF_HEADER = "merges are in no candidate."  # ends a note that the second line of the page says, too


def show(found: Inferred, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`, as `table`, `csv` or `json`."""
    if fmt == "table":
        show_page(partial(print_report, found), output, WIDTH)
    elif fmt == "csv":
        warn(notes(found))
        write(_csv(found), output)
    else:
        job = found.plan.job
        result = {"mixture": job.name, **job.public(), **facts(found), "shares": shares(found), "notes": notes(found)}
        show_json(result, output)


def _csv(found: Inferred) -> bytes:
    import pyarrow.csv as pa_csv

    written = pa.BufferOutputStream()
    pa_csv.write_csv(pa.Table.from_pylist(shares(found)), written)
    return bytes(written.getvalue())


def warn_of_rejects(corpus: str, rejected: Rejected) -> None:
    """What of a corpus was not counted, by reason, on standard error."""
    if not rejected.n:
        return
    records = "1 record was" if rejected.n == 1 else f"{rejected.n:,} records were"
    files = f", {rejected.n_unreadable:,} of them files or pieces of files" if rejected.n_unreadable else ""
    print(f"warning: of {printable(corpus)} {records} rejected and not counted{files}:", file=sys.stderr)
    for reason, (n, first) in sorted(rejected.reasons.items()):
        shown = printable(first.replace("\n", "\\n"))
        print(f"  {n:>9,}  {reason}; the first: {shown}", file=sys.stderr)


# For readers


def print_report(found: Inferred, console: Console) -> None:
    """Shares, what they were made from, notes, and how to ask for them."""
    job, inference, bpe = found.plan.job, found.inference, found.plan.bpe
    rounds = f"{len(inference.rounds):,} round{'' if len(inference.rounds) == 1 else 's'}"
    console.print(Text(f"mixture {job.name}: {printable(str(job.tokenizer))}, {bpe.n_merges:,} merges"), style="bold")
    console.print(
        f"used: the first {inference.steps:,}; {inference.merges_unseen:,} of them occur in no sample; "
        f"{inference.constraints:,} constraints in {rounds}"
    )
    console.print(_shares(found))
    console.print(_samples(found))
    for note in notes(found):
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")
    ask = joined(["assay", "sql", job.lake])
    console.print(Text(f"next:    {ask} \"from mixtures where mixture = '{job.name}'\""), soft_wrap=True)


def _shares(found: Inferred) -> Table:
    level = f"{100 * found.sampled.confidence:g} %"
    table = Table("corpus", box=None, pad_edge=False, header_style="bold")
    for name in ("share of bytes", f"interval, {level}", "possible", "share of pairs", f"interval, {level}"):
        table.add_column(name, justify="right")
    for row in sorted(shares(found), key=lambda row: -(row["share"] or 0)):
        table.add_row(
            Text(printable(row["corpus"])),
            _percent(row["share"]),
            _range(row["share_low"], row["share_high"]),
            _range(row["possible_low"], row["possible_high"]),
            _percent(row["pair_share"]),
            _range(row["pair_low"], row["pair_high"]),
        )
    return table


def _samples(found: Inferred) -> Table:
    table = Table("sampled of", box=None, pad_edge=False, header_style="bold")
    for name in ("documents", "text, bytes", "sample, bytes", "distinct words"):
        table.add_column(name, justify="right")
    for name, sample in found.samples.items():
        numbers = (sample.documents, sample.n_bytes, sample.sampled_bytes, sample.words)
        table.add_row(Text(printable(name)), *(f"{number:,}" for number in numbers))
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _range(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def notes(found: Inferred) -> list[str]:
    """What the numbers must be read with: each starts with `warning` or `note`."""
    return [*_warnings(found), *_remarks(found)]


def _warnings(found: Inferred) -> Iterator[str]:
    for sentence in (*found.plan.warnings, *found.sampled.notes):
        if not sentence.endswith(_OF_HEADER):
            yield f"warning: {sentence}"
    if 2 * found.inference.merges_unseen > found.inference.steps:
        yield "warning: most merges occur in no sample: these candidates say little of this tokenizer"
    for name in found.inference.empty:
        yield f"warning: the sample of {name} holds no pair that could be merged: its share is 0 by default"


def _remarks(found: Inferred) -> Iterator[str]:
    for name, sample in found.samples.items():
        if 0 < sample.sampled_bytes < _LITTLE:
            yield f"note: of {name} only {sample.sampled_bytes:,} bytes were sampled: its share is guesswork"
        if sample.left_out:
            yield f"note: of {name} the commonest {sample.words:,} words are used, {sample.left_out:,} rare ones not"
        if 0 < sample.sampled_pieces < GROUPS and has_intervals(found):
            yield f"note: of {name} {sample.sampled_pieces:,} documents were sampled: its interval rests on so few"
    yield (
        "note: shares are of the candidates given: a training corpus that is no candidate is credited to those like it"
    )
    job, sampled = found.plan.job, sum(sample.sampled_bytes for sample in found.samples.values())
    told = f"{job.training_bytes:,} bytes" if job.training_bytes else f"{sampled:,} bytes, as all samples have"
    yield (
        "note: intervals are of the samples and of the training text, by drawing documents anew; that a candidate "
        "differs in kind from what was trained on is in none of them"
    )
    yield (
        f"note: the training text is taken to have had {told} (--training-size): if it had more, intervals are too "
        "wide and a misfit may be overlooked; if less, intervals are too narrow and a misfit may be none"
    )


def show_figure(found: Inferred, path: Path) -> None:
    """The shares as bars, with their intervals."""
    from jobs.figures import Bar, draw_bars

    bars = [Bar(row["corpus"], row["share"], row["share_low"], row["share_high"]) for row in shares(found)]
    title = f"What {found.plan.job.name} was trained on"
    draw_bars(path, bars, title=title, axis=f"share of bytes, {100 * found.sampled.confidence:g} % interval")


# Before the work


def show_plan(plan: TokenizerMixturePlan, output: Path | None) -> None:
    """What the command would do: corpora, merges, tables."""
    show_page(partial(print_plan, plan), output, WIDTH)


def print_plan(plan: TokenizerMixturePlan, console: Console) -> None:
    """Steps, then the files of every corpus."""
    job = plan.job
    table = Table("step", "what", box=None, pad_edge=False, header_style="bold")
    used = min(job.max_merges, plan.bpe.n_merges)
    for step, what in _steps(plan, used):
        table.add_row(step, Text(printable(what)))
    console.print(Text(f"mixture {job.name} on engine {job.reading.engine}"), style="bold")
    console.print(table)
    for name, listing in plan.listings.items():
        for shard in listing.shards[:_SHOWN]:
            line = f"  {printable(name):12} {shard.format:8} {shard.n_bytes:>14,}  {printable(shard.uri)}"
            console.print(Text(line), soft_wrap=True)
        if len(listing.shards) > _SHOWN:
            console.print(Text(f"  ... and {len(listing.shards) - _SHOWN:,} more files of {printable(name)}"))
    for sentence in plan.warnings:
        console.print(Text(f"warning: {printable(sentence)}"), soft_wrap=True, style="bold yellow")


def _steps(plan: TokenizerMixturePlan, used: int) -> Iterator[tuple[str, Any]]:
    job = plan.job
    files = sum(len(listing.shards) for listing in plan.listings.values())
    n_bytes = sum(shard.n_bytes for listing in plan.listings.values() for shard in listing.shards)
    yield "sample", f"{job.sample_bytes:,} bytes of each of {len(plan.listings):,} corpora"
    yield "read", f"{files:,} file{'s' * (files != 1)}, {n_bytes:,} bytes stored, twice"
    yield "merge", f"the first {used:,} of {plan.bpe.n_merges:,} merges of {job.tokenizer}"
    yield "infer", f"shares; {job.resamples:,} draws for intervals of {100 * job.confidence:g} %"
    yield "write", f"mixtures, mixture_curves -> {plan.lake.root}"
