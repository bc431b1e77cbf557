"""What a nightly job is asked for of its machinery: dates, shards, lock, baseline and which runs stay."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas import check_run_id

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)  # as `date.weekday` counts them
LONGEST_NAME = 128 - len("-2026-01-01")  # a run's id holds the name and a date


def _name(value: str) -> str:
    if len(value) > LONGEST_NAME:
        raise ValueError(f"use at most {LONGEST_NAME} characters: runs are called <name>-<date>")
    return check_run_id(value, "name")


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # no such zone, no such file, a folder of zones
        what = f"no time zone {value!r} on this machine"
        raise ValueError(f"{what}: use UTC or a name such as Europe/Berlin (from tzdata)") from None
    return value


class Retention(BaseModel):
    """Which runs of earlier nights leave the lake, whole. Summaries, measures and shard lists stay.

    `nights`: runs of the last so many good nights stay, whatever they hold. Older ones go when newer nights have scored
    all that they held. `gone`: also when what is left of them is of shards that are no longer in the input.
    `current`: even when they hold what is current, which then is in no run, and is not scored again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nights: int = Field(ge=1)
    gone: bool = False
    current: bool = False


class NightOptions(BaseModel):
    """How nights are found, told apart and kept.

    `timezone`: in whose dates nights are counted. `weekdays`: on which a night is due, so that others are not missed.
    `settle_seconds`: a shard younger than that may still be being written and is left for the next night.
    `lease_seconds`: how long after a night is last heard of another machine may take its place.
    `baseline`: a label; nights under another one are not compared with those before, and may have other settings.
    `rescore`: on a new baseline, score every shard again instead of those new and changed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_name)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)] = WEEKDAYS
    settle_seconds: float = Field(60.0, ge=0, le=7 * 86400)
    lease_seconds: float = Field(600.0, ge=30, le=86400)
    baseline: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    rescore: bool = False
    retention: Retention | None = None

    @model_validator(mode="after")
    def _rescore_is_of_a_baseline(self) -> Self:
        if self.rescore and self.baseline is None:
            raise ValueError("rescore: give a new `baseline: LABEL` too, on whose first night all is scored again")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)
