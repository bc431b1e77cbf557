"""`assay nightly`: job file -> one night -> its summary printed; or, with `--dry-run`, what it would do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jobs.errors import printable
from jobs.nightly.options import NightlyOptions
from jobs.nightly.run import Nightly, Outcome, announced, worst
from jobs.output import show_json
from pipelines.config import ConfigError
from pipelines.logs import configure_logs
from pipelines.nightly.lock import LockHeldError
from pipelines.nightly.retention import removable
from pipelines.nightly.runs import Begun, begin
from pipelines.nightly.shards import settle

HELD = 4  # exit code: another night holds the lock
_SHOWN = 20


def run_nightly(
    path: Path, *, night: str | None, dry_run: bool, fmt: str, address: str | None, abandon: str | None
) -> int:
    """Run the verb; returns its exit code, as `assay nightly --help` lists them."""
    configure_logs()
    options, fields = read_nightly(path, dry_run=dry_run)
    if address is not None:
        fields |= {"address": address, "engine": "ray"}
    nightly = Nightly(options, fields, say=_say)
    day, lost = _day("--night", night), _day("--abandon", abandon)
    if lost is not None and (dry_run or day is not None):
        raise ConfigError("--abandon: it names its night itself, and is done at once; leave --night and --dry-run out")
    try:
        if lost is not None:
            nightly.abandon(lost)
            _say(f"night {lost} is given up: what its run held is dropped, and the next night scores its shards")
            return 0
        if dry_run:
            _preview(nightly, nightly.night_of(day), fmt)
            return 0
        outcomes = nightly.run(day)
    except LockHeldError as held:
        print(printable(f"error: {held}"), file=sys.stderr)
        return HELD
    _show(nightly, outcomes, fmt)
    return worst(outcomes)


def read_nightly(path: Path, *, dry_run: bool = False) -> tuple[NightlyOptions, dict[str, Any]]:
    """The `nightly` block of a job file, and the fields by which every night is scored. Its secrets are taken, as
    `assay run` takes them; those of a job for a cluster need not be here for a look.

    Raises:
        ConfigError: every fault of the file; a secret that it names is not there.
    """
    from jobs.job_file import read_job_file
    from pipelines.secrets import take

    job = read_job_file(path)
    fields = job.of_a_night()
    if job.nightly is None:
        raise ConfigError(f"{path}: nightly: is needed: at least `nightly: {{name: ...}}`")
    try:
        take(job.submit.secrets)
    except ConfigError:
        if not dry_run or job.submit.address is None:
            raise
    return job.nightly, fields


def _day(flag: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag}: {text!r} is no date; give it as 2026-11-20") from None


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _show(nightly: Nightly, outcomes: Sequence[Outcome], fmt: str) -> None:
    """The summaries, oldest night first; as JSON a list."""
    if fmt == "json":
        show_json([dict(outcome.summary) for outcome in outcomes], None)
        return
    book = nightly.job.book
    for outcome in outcomes:
        if outcome.how == "already":
            _say(f"night {outcome.date} is done already; its summary:")
        _show_markdown(printable(book.lake.storage.read(book.path(outcome.date, "md")).decode()))
        _say(f"summary: {book.lake.storage.uri(book.path(outcome.date, 'html'))}")


def _show_markdown(text: str) -> None:
    """Laid out on a terminal; elsewhere as it is, for what takes Markdown."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text, hyperlinks=False))


def _preview(nightly: Nightly, day: date, fmt: str) -> None:
    """What a night would do; nothing is written and no lock is taken."""
    job, book = nightly.job, nightly.job.book
    good = set(book.good())
    unfinished = [] if day in good else sorted(set(book.under_way()) - good)
    if day not in good:
        nightly.check_order(day, [*good, *unfinished])
    if day in good or unfinished:
        _preview_of_no_night(day, unfinished, fmt)
        return
    begun = begin(job, day, datetime.now(UTC))
    listed = {each.uri: each.listed for each in begun.found if each.listed is not None}
    after = settle(begun.found, listed, begun.night.run_id, day)
    going = removable(nightly.options.retention, book, day, after.values())
    if fmt == "json":
        show_json(replace(begun.night, removed_runs=going).record() | {"dry_run": True}, None)
        return
    _print_preview(begun, going)


def _preview_of_no_night(day: date, unfinished: Sequence[date], fmt: str) -> None:
    if fmt == "json":
        show_json({"dry_run": True, "date": str(day), "unfinished": [str(each) for each in unfinished]}, None)
    elif unfinished:
        print(f"night {unfinished[0]} is under way, or had not come to its end: it is gone on with first")
    else:
        print(f"night {day} is done already: nothing to do")


def _print_preview(begun: Begun, going: Sequence[str]) -> None:
    print(printable(announced(begun.night)))
    for each in begun.found[:_SHOWN]:
        print(f"  {each.state:9} {printable(each.uri)}")
    if len(begun.found) > _SHOWN:
        print(f"  ... and {len(begun.found) - _SHOWN:,} more shards")
    for run in going:
        print(f"retention: run {run} would be removed")
    if begun.plan is not None:
        from jobs.score import print_plan

        print_plan(begun.plan)
