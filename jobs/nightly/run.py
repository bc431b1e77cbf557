"""One night from the lock to the summary, whatever the night before left behind.

    lock -> a night that died is brought to its end -> tonight is begun -> run -> list of shards -> refresh -> summary
         -> retention -> the night is no longer under way

Each step leaves the lake so that the next attempt goes on there: what is written is written whole, under names that
follow from the night, and the summary comes last. Nothing is scored twice and no shard is lost, wherever it dies.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Protocol

from jobs.errors import exit_code
from jobs.nightly.options import NightlyOptions
from operators.lake import Lake
from pipelines.config import ConfigError
from pipelines.nightly.lock import LockLostError, NightLock
from pipelines.nightly.night import CHANGING, Night, NightError, date_of, night_id
from pipelines.nightly.retention import removable, remove
from pipelines.nightly.runs import Begun, NightlyJob, begin, score, take_up
from pipelines.nightly.shards import Found, Known, counts, keep_list, to_score


class Summary(Protocol):
    """What `jobs.nightly.summary.summarise` gives."""

    @property
    def exit_code(self) -> int: ...
    def json(self) -> dict[str, Any]: ...
    def html(self) -> str: ...
    def markdown(self) -> str: ...


Refresh = Callable[..., Any]
Summarise = Callable[[NightlyOptions, Lake, Night, Any], Summary]


def _refresh(*args: Any, **more: Any) -> Any:
    from jobs.nightly.refresh import refresh

    return refresh(*args, **more)


def _summarise(options: NightlyOptions, lake: Lake, night: Night, refreshed: Any) -> Summary:
    from jobs.nightly.summary import summarise

    summary: Summary = summarise(options, lake, night, refreshed)
    return summary


@dataclass(frozen=True)
class Outcome:
    """A good night: its date, its summary as stored, and how it came about ("done", "resumed" or "already")."""

    date: date
    summary: Mapping[str, Any]
    how: str

    @property
    def exit_code(self) -> int:
        return int(self.summary["exit_code"])


@dataclass
class Nightly:
    """`assay nightly` without its command line. `say`: where a line about what happens goes."""

    options: NightlyOptions
    fields: Mapping[str, Any]
    say: Callable[[str], None] = print
    refresh: Refresh = _refresh
    summarise: Summarise = _summarise
    job: NightlyJob = field(init=False)
    lock: NightLock = field(init=False)

    def __post_init__(self) -> None:
        self.job = NightlyJob(self.options, self.fields)

    def run(self, day: date | None = None) -> list[Outcome]:
        """Bring a night that died to its end, then this one; each is good afterwards. `day`: default today.

        Raises:
            LockHeldError: another night is under way.
            NightError, RunError, OSError: it failed; the next attempt goes on from there.
            ConfigError, InputError, ModelError: it cannot be run as asked.
        """
        day, book = self.night_of(day), self.job.book
        if day in book.good() and day not in book.under_way():  # whoever holds the lock
            return [Outcome(day, book.summary(day), "already")]
        with self._locked():
            return list(self._nights(day))

    def abandon(self, day: date) -> None:
        """Give up a night that died: drop what its run holds; the next night finds its shards as if new.

        Raises:
            ConfigError: no such night is under way. LockHeldError: it is not dead.
        """
        from jobs.nightly.refresh_benchmarks import forget_benchmarks

        book = self.job.book
        with self._locked():
            unfinished = sorted(set(book.under_way()) - set(book.good()))
            if day not in unfinished:
                there = ", ".join(map(str, unfinished)) or "none"
                raise ConfigError(f"--abandon {day}: nights of {book.name!r} that are unfinished: {there}")
            forget_benchmarks(self.options, book.lake, day)
            book.give_up(day)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock. A SIGTERM, from outside or because the lock is lost, ends what is done meanwhile."""
        from pipelines.score import terminable

        options = self.options
        self.lock = NightLock(self.job.book.lake, options.name, options.lease_seconds, interrupt=signal.SIGTERM)
        try:
            with terminable(), self.lock:
                yield
        except KeyboardInterrupt:
            if self.lock.is_lost:
                raise LockLostError(self.lock.loss) from None
            raise

    def night_of(self, day: date | None) -> date:
        """The date of this night.

        Raises:
            ConfigError: it is still to come.
        """
        today = date_of(datetime.now(UTC), self.options.zone)
        if day is not None and day > today:
            raise ConfigError(f"--night {day}: it is {today} in {self.options.timezone}; nights to come are not scored")
        return day or today

    def check_order(self, day: date, nights: Sequence[date]) -> None:
        """See that a night does not come before any of `nights`.

        Raises:
            ConfigError: it does.
        """
        if day < (latest := max(nights, default=day)):
            raise ConfigError(
                f"--night {day}: {self.options.name!r} has night {latest}, and nights go forward: what the input held "
                "before is not known any more"
            )

    def _nights(self, day: date) -> Iterator[Outcome]:
        job, book = self.job, self.job.book
        good, unfinished = set(book.good()), book.under_way()
        if day in good:
            if day in unfinished:
                self._tidy(book.night(day))
            yield Outcome(day, book.summary(day), "already")
            return
        self.check_order(day, [*good, *unfinished])
        for each in unfinished:
            if each in good:
                self._tidy(book.night(each))
                continue
            self.say(f"night {night_id(book.name, each)} had not come to its end: going on with it")
            book.sweep(each)
            with _step(each, "going on", refuses=True):
                begun = take_up(job, each)
            yield self._finish(begun, "resumed")
            if each == day:
                return
        begun = begin(job, day, datetime.now(UTC))
        self.lock.check()
        book.sweep(day)
        book.begin(begun.night, begun.found)
        yield self._finish(begun, "done")

    def _finish(self, begun: Begun, how: str) -> Outcome:
        """From a night that is begun to a good one."""
        job, book, night = self.job, self.job.book, begun.night
        self.say(announced(night))
        with _step(night.date, "scoring"):
            shards = score(begun, job)
        with _step(night.date, "its summary"):
            self.lock.check()
            if begun.shards is None:
                keep_list(book.lake, book.name, night.date, shards)
            night = self._closed(night, shards)
            summary, content = self._summed_up(night, begun.found, shards)
            self.lock.check()
            book.finish(night, summary.html(), summary.markdown(), content)
        with _step(night.date, "retention", is_good=True):
            self._tidy(night)
        return Outcome(night.date, content, how)

    def _closed(self, night: Night, shards: Mapping[str, Known]) -> Night:
        going = removable(self.options.retention, self.job.book, night.date, shards.values())
        found = counts(each.state for each in shards.values())
        return replace(night, state="finished", shards=found, removed_runs=going, finished=datetime.now(UTC))

    def _summed_up(
        self, night: Night, found: Sequence[Found], shards: Mapping[str, Known]
    ) -> tuple[Summary, dict[str, Any]]:
        lake = self.job.book.lake
        config = self.job.config(night.date)
        refreshed = self.refresh(
            self.options,
            lake,
            night,
            engine={"engine": config.engine, "address": config.address},
            text=dict(self.fields),
            shards=[shard for shard in to_score(found) if shards[shard.uri].state != CHANGING],
            torn=[uri for uri, known in shards.items() if known.state == CHANGING],
        )
        summary = self.summarise(self.options, lake, night, refreshed)
        content = {**summary.json(), "night": night.record(), "exit_code": summary.exit_code}
        return summary, json.loads(json.dumps(content, allow_nan=False))

    def _tidy(self, night: Night) -> None:
        """What follows a good night: runs that it lets go, and the record that it was under way. Again is no harm."""
        book = self.job.book
        self.lock.check()
        for run in remove(book.lake, night.removed_runs):
            self.say(f"retention: run {run} is removed")
        book.clear(night.date)


def announced(night: Night) -> str:
    """A night that begins, in a line."""
    found = [f"{n:,} {state}" for state, n in night.shards.items() if n]
    covers = f"; covers {len(night.covers)} missed nights since {night.covers[0]}" if night.covers else ""
    what = f"run {night.run_id}" if night.run_id else "nothing to score"
    return f"night {night_id(night.name, night.date)}: shards: {', '.join(found) or 'none'}{covers}; {what}"


@contextmanager
def _step(day: date, what: str, *, refuses: bool = False, is_good: bool = False) -> Iterator[None]:
    """Name the step in an error that a user can mend: the night failed, and is not done wrong. Defects pass through.

    `refuses`: nothing is done yet, so that what is wrong with the job stays that. `is_good`: the summary is there.
    """
    try:
        yield
    except Exception as error:
        code = exit_code(error)
        if code is None or isinstance(error, LockLostError):
            raise
        give_up = "" if is_good else f"; `--abandon {day}` gives it up"
        failed = ConfigError if refuses and code == 2 else NightError
        raise failed(
            f"night {day} failed ({what}): {error}\nwhat is done is kept: the next night, or the same command, goes on "
            f"with it{give_up}"
        ) from error


def worst(outcomes: Sequence[Outcome]) -> int:
    """The exit code of several nights."""
    return max(outcome.exit_code for outcome in outcomes)
