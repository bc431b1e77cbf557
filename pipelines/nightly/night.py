"""What one night was: its date, its run, what became of each kind of shard, which missed dates it covers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import check_run_id

# What a night found of a shard. The first two are scored; the last two are left for the next night.
NEW = "new"
CHANGED = "changed"
UNCHANGED = "unchanged"
REMOVED = "removed"  # gone since the last good night
GONE = "gone"  # and gone before that; kept while the run that holds its documents is
WAITING = "waiting"  # younger than `settle_seconds`: perhaps still being written
CHANGING = "changing"  # changed while it was scored: what the run holds of it counts for nothing
STATES = (NEW, CHANGED, UNCHANGED, REMOVED, GONE, WAITING, CHANGING)


class NightError(RuntimeError):
    """A night did not come to its end; what it has done is kept, and the next one goes on from there."""


@dataclass(frozen=True)
class Night:
    """One night of a nightly job.

    `run_id`: None where nothing was scored. `state`: "open" while it is under way, "finished" in its summary.
    `shards`: how many were in each of `STATES`. `covers`: dates on which a night was due and none came, oldest first.
    `resumed`: whether an earlier attempt at this night had died. `removed_runs`: what retention takes away after it.
    `lost_runs`: those of nights before that it first found gone, though no retention took them.
    `baseline`: the first date, ISO, of the nights that this one can be compared with; `label`: what the job calls them.
    `identity`: what decided the numbers (fingerprints, settings); empty where no night before it had a run, nor it.
    """

    name: str
    date: dt.date
    run_id: str | None
    state: str = "open"
    shards: Mapping[str, int] = field(default_factory=dict)
    covers: tuple[dt.date, ...] = ()
    resumed: bool = False
    removed_runs: tuple[str, ...] = ()
    lost_runs: tuple[str, ...] = ()
    baseline: str | None = None
    label: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    started: dt.datetime | None = None
    finished: dt.datetime | None = None

    def record(self) -> dict[str, Any]:
        """As JSON holds it; `of` reads it again."""
        moments = {name: getattr(self, name) for name in ("started", "finished")}
        return {
            **{name: getattr(self, name) for name in ("name", "run_id", "state", "resumed", "baseline", "label")},
            "date": self.date.isoformat(),
            "shards": dict(self.shards),
            "covers": [day.isoformat() for day in self.covers],
            "removed_runs": list(self.removed_runs),
            "lost_runs": list(self.lost_runs),
            "identity": dict(self.identity),
            "notes": list(self.notes),
            **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Night:
        """The night that `record` made.

        Raises:
            ValueError: it is none; the message says what is wrong.
        """
        try:
            started, finished = (_moment(record[name]) for name in ("started", "finished"))
            night = cls(
                name=check_run_id(record["name"], "nightly"),
                date=dt.date.fromisoformat(record["date"]),
                **{name: record[name] for name in ("run_id", "state", "resumed", "baseline", "label")},
                shards={state: int(n) for state, n in record["shards"].items()},
                covers=tuple(map(dt.date.fromisoformat, record["covers"])),
                removed_runs=tuple(check_run_id(run) for run in record["removed_runs"]),
                lost_runs=tuple(check_run_id(run) for run in record.get("lost_runs", ())),
                identity=dict(record["identity"]),
                notes=tuple(map(str, record["notes"])),
                started=started,
                finished=finished,
            )
            if night.run_id is not None:
                check_run_id(night.run_id)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the record of a night: {type(error).__name__}: {error}") from None
        if unknown := sorted(set(night.shards) - set(STATES)):
            raise ValueError(f"not the record of a night: shards that are {', '.join(unknown)}")
        return night

    @property
    def scored(self) -> int:
        """Shards that the night's run scored and that count."""
        return self.shards.get(NEW, 0) + self.shards.get(CHANGED, 0)


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def night_id(name: str, day: dt.date) -> str:
    """What a night is called in the lake, and its run if it has one."""
    return f"{name}-{day.isoformat()}"


def date_of(moment: dt.datetime, zone: dt.tzinfo) -> dt.date:
    """The night that a moment belongs to: the date in the job's own time zone."""
    return moment.astimezone(zone).date()
