"""`assay status`: how the runs and nights of a lake stand, as a table or JSON, once or until all are done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.commands import resume_command
from jobs.errors import printable
from jobs.query import check_lake, check_run

if TYPE_CHECKING:
    from operators.lake import Lake
    from pipelines.status import RunStatus

EVERY = 5.0  # seconds between two looks: as often as the driver writes its journal
MOST_FINISHED = 20  # shown of finished runs, the newest
_NEXT = {
    "failed": "mend what the error says, then resume",
    "interrupted": "resume",
    "silent": "make sure that its driver is gone (two would do the same work), then resume",
    "broken": "see what `assay verify` finds; a run of this name starts anew with --overwrite",
}
_ADVICE = "{what}: {command}"


def run_status(
    lake: str, run_id: str | None, fmt: str, *, watch: bool = False, options: Mapping[str, Any] | None = None
) -> None:
    """Print how the runs stand. `watch`: again and again, until none is under way or Ctrl-C.

    Raises:
        ConfigError: there is no lake, or no such run. ObjectError: the storage refuses or does not answer.
    """
    from operators.lake import Lake

    check_lake(lake, options)
    if run_id is not None:
        check_run(lake, run_id, options)
    store = Lake(lake, options)
    if fmt == "json":
        _repeat(lambda: _print_json(store, run_id), watch)
        return
    if not watch or not sys.stdout.isatty():
        _repeat(lambda: _print_page(store, run_id), watch)
        return
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:

        def look() -> bool:
            page, is_open = _page(store, run_id)
            live.update(page, refresh=True)
            return is_open

        _repeat(look, watch)


def _repeat(look: Any, watch: bool) -> None:
    """Call `look` until it says that nothing is under way. Ctrl-C ends it well: nothing was begun."""
    try:
        while look() and watch:
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return


def _statuses(lake: Lake, run_id: str | None) -> list[RunStatus]:
    """The newest first; the commands that are printed name the lake as it is reached from here."""
    from pipelines.status import run_statuses, without_ledger

    found = run_statuses(lake, [run_id] if run_id else lake.run_ids(), time.time(), detailed=run_id is not None)
    found += [] if run_id else without_ledger(lake)
    found = [replace(each, config={**each.config, "lake": lake.root}) if each.config else each for each in found]
    return sorted(found, key=lambda status: (status.created_at or "", status.run_id), reverse=True)


def _print_json(lake: Lake, run_id: str | None) -> bool:
    from pipelines.status_nights import last_nights

    statuses = _statuses(lake, run_id)
    runs = [{**status.record(), "next": _next(status)} for status in statuses]
    nights = [] if run_id else last_nights(lake)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"lake": lake.root, "at": moment, "runs": runs, "nights": nights}), flush=True)
    return any(status.is_open for status in statuses)


def _print_page(lake: Lake, run_id: str | None) -> bool:
    page, is_open = _page(lake, run_id)
    width = None if sys.stdout.isatty() else 10_000  # a pipe has no edge to fold at
    Console(width=width, soft_wrap=width is not None, highlight=False).print(page)
    sys.stdout.flush()
    return is_open


def _page(lake: Lake, run_id: str | None) -> tuple[RenderableType, bool]:
    from pipelines.status_nights import last_nights

    statuses = _statuses(lake, run_id)
    is_open = any(status.is_open for status in statuses)
    if run_id is not None:
        return _one(statuses[0]), is_open
    finished = [status for status in statuses if status.state == "finished"]
    hidden = {status.run_id for status in finished[MOST_FINISHED:]}
    shown = [status for status in statuses if status.run_id not in hidden]
    lines: list[RenderableType] = [_table(shown)] if shown else [Text("no runs yet")]
    if hidden:
        lines.append(Text(f"and {len(hidden):,} older finished runs; --format json has all"))
    lines += [Text(line) for status in shown if status.state != "finished" for line in _lines(status)]
    lines += [Text(printable(_night(night))) for night in last_nights(lake)]
    return Group(*lines), is_open


def _table(statuses: Iterable[RunStatus]) -> Table:
    from pipelines.progress import duration

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("done", "documents", "tokens", "rejects", "tokens/s", "lately", "left", "last write"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in statuses:
        table.add_row(
            Text(printable(s.run_id)),
            s.state,
            "" if s.share is None else f"{100 * s.share:.0f} %",
            f"{s.documents:,}",
            f"{s.tokens:,}",
            f"{s.rejects:,}",
            _rate(s.tokens_per_second),
            _rate(s.tokens_per_second_lately) if s.is_open else "",
            "" if s.seconds_left is None or s.state != "running" else duration(s.seconds_left),
            (s.finished_at or "") if s.last_write_age is None else f"{duration(s.last_write_age)} ago",
        )
    return table


def _one(status: RunStatus) -> Group:
    """A run alone: the table's row, and everything else that is known."""
    rows: list[RenderableType] = [_table([status])]
    if status.units is not None:
        rows.append(Text(f"parts of the input: {status.units_done:,} of {status.units:,} done"))
    if status.unjournaled:
        rows.append(Text(f"{status.unjournaled:,} receipts are not in the journal yet, and in none of these counts"))
    if status.seconds_left is not None:
        rows.append(Text(f"time left from {status.left_by}"))
    rows += [Text(f"rejects: {n:,} {printable(reason)}") for reason, n in status.reasons.items()]
    return Group(*rows, *(Text(line) for line in _lines(status)))


def _lines(status: RunStatus) -> list[str]:
    """What there is to say of a run that is not finished, and what to do."""
    name = printable(status.run_id)
    said = [f"{name}: {_indented(printable(text))}" for text in (status.judged, status.error) if text]
    following = _next(status)
    return [*said, f"{name}: {printable(following)}"] if following else said


def _indented(text: str) -> str:
    """Lines of an error must not look like ours."""
    return text.replace("\n", "\n    ")


def _next(status: RunStatus) -> str | None:
    """What to do next, None where nothing is to be done."""
    what = _NEXT.get(status.state)
    command = resume_command(status.config) if what and status.config else None
    return what if command is None else _ADVICE.format(what=what, command=command)


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _night(night: Mapping[str, Any]) -> str:
    """The last night of a nightly job."""
    said = f"nightly {night['name']}: last good night {night['date']}" if night["date"] else f"nightly {night['name']}"
    if night["date"] is None:
        said += ": no good night yet"
    return said + (f", under way or broken off: {night['open']}" if night["open"] else "")
