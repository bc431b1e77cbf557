"""A night up to its list of shards: what there is to do is found and written down, then scored as a run of its own.

    last good night's list + listing -> begin -> <date>.open.parquet -> run <name>-<date> -> listing -> night_shards

A night that died is taken up from what it wrote down: the same shards, by exact name, whatever the input holds by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from operators.lake import Lake
from operators.shards import MTIME, Shard, list_shards
from pipelines.config import ConfigError, ScoreConfig
from pipelines.nightly.book import Book
from pipelines.nightly.night import Night, night_id
from pipelines.nightly.options import WEEKDAYS, NightOptions
from pipelines.nightly.shards import Found, Known, compare, counts, has_list, read_list, settle, to_score

if TYPE_CHECKING:
    from pipelines.plan import Plan

_OF_ONE_RUN = ("limit", "overwrite", "transform", "base_run", "copies", "dry_run")
_SHOWN = 20
_NEW_BASELINE = (
    "mend the job file, or give `nightly` a new `baseline: LABEL` (and `rescore: true` to score every shard again): "
    "nights before it are then left out of comparisons"
)


@dataclass(frozen=True)
class Begun:
    """A night that knows what it is to do. `plan`: of its run, None where none is left to do.

    `shards`: its list, where an earlier attempt has come that far.
    """

    night: Night
    found: list[Found]
    plan: Plan | None
    shards: dict[str, Known] | None = None


@dataclass(frozen=True)
class NightlyJob:
    """A nightly job and its lake. `fields`: of `ScoreConfig`, the same every night.

    Raises:
        ConfigError: the fields are not sound, or belong to a single run.
    """

    asked: NightOptions
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        faults = [f"{name}: has no place in a nightly job" for name in _OF_ONE_RUN if self.fields.get(name) is not None]
        if faults:
            raise ConfigError("\n".join(faults))
        self.config(date.min)

    def config(self, day: date) -> ScoreConfig:
        """The scoring job of a night."""
        return ScoreConfig.parse(**{**self.fields, "run_id": night_id(self.asked.name, day)})

    @property
    def book(self) -> Book:
        config = self.config(date.min)
        return Book(Lake(config.lake, config.storage_options), self.asked.name)

    def listing(self) -> list[Shard]:
        """What the input names now.

        Raises:
            InputError: it names nothing, or cannot be listed: an input that is gone is no corpus of which all is gone.
            ConfigError: it names what the lake holds, so that every night would score what the one before has written.
        """
        config = self.config(date.min)
        shards = list_shards(config.input, format=config.format, storage_options=config.storage_options)
        lake = f"{self.book.lake.root.rstrip('/')}/"
        if inside := next((shard.uri for shard in shards if shard.uri.startswith(lake)), None):
            raise ConfigError(f"input: it names {inside}, which is in the lake; keep the lake outside of the input")
        return [_told_by_time(shard) for shard in shards]


def begin(job: NightlyJob, day: date, moment: datetime) -> Begun:
    """Find out what a night is to do; nothing is written.

    Raises:
        ConfigError: the settings are not those of the nights before, or a run of this name is somebody else's.
        InputError, ModelError, NightError: as listing, planning and the book.
    """
    book = job.book
    run_id = _free_run_id(book, day)
    good = book.good()
    last = book.night(good[-1]) if good else None
    known = read_list(book.lake, book.name, last.date) if last else {}
    before = last if last and last.label == job.asked.baseline else None  # a night that this one is to be like
    lost, dropped, noted = _missing_runs(book, known)
    found = compare(
        job.listing(),
        known,
        moment=moment.timestamp(),
        settle_seconds=job.asked.settle_seconds,
        lost_runs=lost,
        dropped_runs=dropped,
        rescore=job.asked.rescore and before is None,
    )
    night = Night(
        name=book.name,
        date=day,
        run_id=None,
        shards=counts(each.state for each in found),
        covers=missed(last.date, day, job.asked.weekdays) if last else (),
        baseline=before.baseline if before else day.isoformat(),
        label=job.asked.baseline,
        identity=before.identity if before else {},
        lost_runs=tuple(sorted(lost - noted)),
        notes=tuple(_notes(lost - noted, found)),
        started=moment,
    )
    if not to_score(found):
        return Begun(night, found, None)
    plan = _plan(job, day, found)
    identity = comparable(plan.identity)
    _check_same(night, identity, f"cannot be compared with {last.date if last else 'others'}", _NEW_BASELINE)
    return Begun(replace(night, run_id=run_id, identity=identity), found, plan)


def take_up(job: NightlyJob, day: date) -> Begun:
    """A night that an earlier attempt has begun, as it was begun.

    Raises:
        ConfigError, ResumeError, InputError, ModelError, NightError: it cannot be gone on with under this job file.
    """
    book = job.book
    night, found = book.begun(day)
    night = replace(night, resumed=True)
    if has_list(book.lake, book.name, day):
        return Begun(night, found, None, read_list(book.lake, book.name, day))
    if night.run_id is None:
        return Begun(night, found, None)
    plan = _plan(job, day, found)
    _check_same(night, comparable(plan.identity), "was begun with other settings", "put the job file back as it was")
    return Begun(night, found, plan)


def score(begun: Begun, job: NightlyJob) -> dict[str, Known]:
    """Score what a night is to score, or the rest of it, and say what has become of each shard.

    Raises:
        RunError: as `score_corpus`.
    """
    if begun.shards is not None:
        return begun.shards
    if begun.plan is None:
        return settle(begun.found, {}, None, begun.night.date)
    from pipelines.score import score_corpus

    score_corpus(begun.plan)
    again = {shard.uri: shard for shard in job.listing()}
    return settle(begun.found, again, begun.night.run_id, begun.night.date)


def _free_run_id(book: Book, day: date) -> str:
    run_id = night_id(book.name, day)
    if run_id in book.lake.run_ids():
        raise ConfigError(
            f"run {run_id!r} exists in {book.lake.root}, and is of no night of {book.name!r}: give the nightly job "
            "another name"
        )
    return run_id


def _told_by_time(shard: Shard) -> Shard:
    """A shard of a storage without content tags (SFTP, HDFS) has the time it was last written for one, as on a disk."""
    if shard.tag or shard.modified is None:
        return shard
    return replace(shard, tag=f"{MTIME}{round(shard.modified * 1e9)}")


def _notes(newly_lost: Iterable[str], found: Iterable[Found]) -> Iterator[str]:
    for run in sorted(newly_lost):
        yield f"run {run} is gone: what it held and is still there is scored again"
    if n := sum(1 for each in found if each.listed is not None and not each.listed.tag):
        yield f"{n:,} shards lie where neither content tags nor times are told: a change at the same size is not seen"


def missed(last: date, day: date, weekdays: Sequence[str]) -> tuple[date, ...]:
    """The dates between two nights on which one was due."""
    between = (last + timedelta(days=n) for n in range(1, (day - last).days))
    return tuple(each for each in between if WEEKDAYS[each.weekday()] in weekdays)


def comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's identity must be the same for its numbers to be compared with another's: all but the input."""
    return {name: value for name, value in identity.items() if name != "input_listing"}


def _plan(job: NightlyJob, day: date, found: Sequence[Found]) -> Plan:
    from pipelines.plan import make_plan
    from pipelines.previous import Listing

    return make_plan(job.config(day), Listing(to_score(found)))


def _check_same(night: Night, identity: Mapping[str, Any], fault: str, advice: str) -> None:
    before = night.identity
    names = sorted({*before, *identity}) if before else []
    changes = [
        f"  {n}: was {before.get(n)!r}, now {identity.get(n)!r}" for n in names if before.get(n) != identity.get(n)
    ]
    if not changes:
        return
    more = [f"  and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
    raise ConfigError(
        "\n".join(
            [
                f"night {night_id(night.name, night.date)} {fault}:",
                *changes[:_SHOWN],
                *more,
                advice,
            ]
        )
    )


def _missing_runs(book: Book, known: Mapping[str, Known]) -> tuple[set[str], set[str], set[str]]:
    """Of the runs of nights before, those that have vanished and those that retention took away; and which of the
    vanished an earlier night has found gone."""
    nights = book.nights()
    held = {night.run_id for night in nights} | {each.run_id for each in known.values()}
    missing = {run for run in held if run is not None} - set(book.lake.run_ids())
    taken = {run for night in nights for run in night.removed_runs}
    return missing - taken, missing & taken, {run for night in nights for run in night.lost_runs}
