"""`assay status`: how the runs and nights of a lake stand, as a table or JSON, once or until all are done."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.commands import resume_command
from jobs.errors import printable
from jobs.query import check_lake, check_run
from operators.lake import Lake
from pipelines.logs import configure_logs
from pipelines.progress import duration
from pipelines.status.nights import JobStatus, last_nights
from pipelines.status.runs import RunStatus, run_statuses, without_ledger

EVERY = 5.0  # seconds between two looks: as often as the driver writes its journal
MOST_FINISHED = 20  # shown of finished runs, the newest
_NEXT = {
    "failed": "mend what the error says, then resume",
    "interrupted": "resume",
    "silent": "make sure that its driver is gone (two would do the same work), then resume",
    "broken": "see what `assay verify` finds",
}
_SPARED = ("lately", "last write", "tokens/s", "rejects")  # columns, by what a narrow terminal does without first


def run_status(
    lake: str, run_id: str | None, fmt: str, *, watch: bool = False, options: Mapping[str, Any] | None = None
) -> None:
    """Print how the runs stand. `watch`: again and again, until none is under way or Ctrl-C.

    Raises:
        ConfigError: there is no lake, or no such run. ObjectError: the storage refuses or does not answer.
    """
    configure_logs()
    check_lake(lake, options)
    if run_id is not None:
        check_run(lake, run_id, options)
    looks = _looks(Lake(lake, options), run_id, watch=watch)
    with contextlib.suppress(*([KeyboardInterrupt] if watch else [])):  # the way out of watching
        if fmt == "table" and watch and sys.stdout.isatty():
            _show_live(looks)
        else:
            for look in looks:
                _print_json(look) if fmt == "json" else _print(look)


@dataclass(frozen=True)
class Look:
    """How a lake stands at a moment; of one run alone where `run_id` is given. `runs`: the newest first."""

    lake: str
    run_id: str | None
    runs: Sequence[RunStatus]
    jobs: Sequence[JobStatus]

    @property
    def is_open(self) -> bool:
        return any(status.is_open for status in self.runs)

    def advice(self, status: RunStatus) -> str | None:
        """What to do next, None where nothing is to be done."""
        what = _NEXT.get(status.state)
        if what is None:
            return None
        night = next((job for job in self.jobs if job.open_run == status.run_id), None)
        if night is not None:  # only it knows which shards are the night's
            does = f"goes on with this night, and with --abandon {night.open} gives it up"
            return f"{what}: `assay nightly` with the job file of {night.name} {does}"
        if not status.config:
            return f"{what}; a run of this name starts anew with --overwrite {status.run_id}"
        # The lake as it is reached from here: its driver may have another name for it.
        command = resume_command({**status.config, "lake": self.lake})
        return f"{what} as it was begun (its job file, `assay submit`), or here: {command}"

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "lake": self.lake,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "runs": [{**status.record(), "next": self.advice(status)} for status in self.runs],
            "nights": [] if self.run_id else [job.record() for job in self.jobs],
        }

    def page(self, width: int | None) -> Group:
        """For people. `width`: of the terminal, None where there is none."""
        return Group(*(self._one() if self.run_id is not None else self._all(width)))

    def _all(self, width: int | None) -> Iterator[RenderableType]:
        finished = [status for status in self.runs if status.state == "finished"]
        hidden = {status.run_id for status in finished[MOST_FINISHED:]}
        shown = [status for status in self.runs if status.run_id not in hidden]
        yield _table(shown, width) if shown else Text("no runs yet")
        if hidden:
            yield Text(f"and {len(hidden):,} older finished runs; --format json has all")
        for status in shown:
            yield from self._lines(status)
        yield from (Text(printable(_night(job))) for job in self.jobs)

    def _one(self) -> Iterator[RenderableType]:
        """A run alone: a line for each of the table's columns, and everything else that is known."""
        if not self.runs:
            yield Text(f"run {self.run_id} has been removed")
            return
        (status,) = self.runs
        known = Table.grid(padding=(0, 2))
        for name, value in _cells(status).items():
            if value:
                known.add_row(Text(name, "bold"), Text(value))
        yield known
        if status.units is not None:
            yield Text(f"parts of the input: {status.units_done:,} of {status.units:,} done")
        if status.unjournaled:
            yield Text(f"{status.unjournaled:,} receipts are not in the journal yet, and in none of these counts")
        if status.seconds_left is not None:
            yield Text(f"time left from {status.left_by}")
        yield from (Text(f"rejects: {n:,} {printable(reason)}") for reason, n in status.reasons.items())
        yield from self._lines(status)

    def _lines(self, status: RunStatus) -> Iterator[Text]:
        """What there is to say of a run that is not finished, and what to do. Lines of an error must not look like
        ours."""
        for text in (status.judged, status.error, self.advice(status)):
            if text:
                yield Text(f"{printable(status.run_id)}: " + printable(text).replace("\n", "\n    "))


def _looks(lake: Lake, run_id: str | None, *, watch: bool) -> Iterator[Look]:
    """One look, or one every `EVERY` seconds until no run is under way."""
    while True:
        look = Look(lake.root, run_id, _statuses(lake, run_id), last_nights(lake))
        yield look
        if not (watch and look.is_open):
            return
        time.sleep(EVERY)


def _statuses(lake: Lake, run_id: str | None) -> list[RunStatus]:
    """The newest first."""
    found = run_statuses(lake, [run_id] if run_id else lake.run_ids(), time.time(), detailed=run_id is not None)
    found += [] if run_id else without_ledger(lake)
    return sorted(found, key=lambda status: (status.created_at or "", status.run_id), reverse=True)


def _show_live(looks: Iterator[Look]) -> None:
    """The same place again and again; what was seen last stays."""
    console, seen = Console(highlight=False), None
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, transient=True) as live:
        for seen in looks:
            live.update(seen.page(console.width), refresh=True)
    if seen is not None:
        _print(seen)


def _print_json(look: Look) -> None:
    print(json.dumps(look.record()), flush=True)


def _print(look: Look) -> None:
    """Lines are not folded: a command that is pasted must be one."""
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else 10_000, soft_wrap=True, highlight=False)
    console.print(look.page(console.width if is_terminal else None))
    sys.stdout.flush()


def _table(statuses: Sequence[RunStatus], width: int | None) -> Table:
    """A row a run; columns that are empty are left out, and what does not fit into `width`."""
    rows = [_cells(status) for status in statuses]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    for n in range(len(_SPARED) + 1):
        table = _of_columns([name for name in names if name not in _SPARED[:n]], rows)
        if width is None or Console(width=10_000).measure(table).maximum <= width:
            break
    return table


def _of_columns(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        is_text = name in ("run", "state")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=name != "run", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    return table


def _cells(s: RunStatus) -> dict[str, str]:
    """By column what it says of a run."""
    return {
        "run": printable(s.run_id),
        "state": s.state,
        "done": "" if s.share is None else f"{100 * s.share:.0f} %",
        "documents": _number(s.documents),
        "tokens": _number(s.tokens),
        "rejects": _number(s.rejects),
        "tokens/s": _number(s.tokens_per_second),
        "lately": _number(s.tokens_per_second_lately) if s.is_open else "",
        "left": "" if s.seconds_left is None or s.state != "running" else duration(s.seconds_left),
        "last write": _moment(s.finished_at) if s.last_write_age is None else f"{duration(s.last_write_age)} ago",
    }


def _moment(text: str | None) -> str:
    """A moment in UTC to the minute."""
    return "" if text is None else f"{text[:16].replace('T', ' ')} UTC"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _night(job: JobStatus) -> str:
    """Where a nightly job stands."""
    said = f"nightly {job.name}: " + ("no good night yet" if job.date is None else f"last good night {job.date}")
    if job.open is None:
        return said
    return f"{said}, under way or broken off: {job.open}; its command goes on with it, or says who is at it"
