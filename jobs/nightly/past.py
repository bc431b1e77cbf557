"""The nights before: what `night_measures` and `night_changes` hold of one nightly job, oldest first.

Three small objects a night are read: of a year of nights in an object store some 3,000 requests, 16 at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from operators.lake import Lake
from operators.results import result_job_path, result_path
from pipelines.nightly.night import night_id
from schemas.nights import NIGHT_CHANGES, NIGHT_MEASURES
from schemas.results import NIGHTS

_READERS = 16


@dataclass(frozen=True)
class PastNight:
    """One night before: its rows, and the thresholds that were set on it."""

    date: date
    measures: pa.Table
    changes: pa.Table
    thresholds: Mapping[str, float] = field(default_factory=dict)


def read_past(lake: Lake, name: str, before: date, *, since: str | None, most: int) -> list[PastNight]:
    """At most the last `most` nights of a nightly job before a date, oldest first. `since`: an ISO date; None: all.

    Raises:
        OSError, ValueError: the storage failed, or what a night kept is broken.
    """
    days = [day for day in _days(lake, name) if day < before and (since is None or day.isoformat() >= since)]
    with ThreadPoolExecutor(_READERS) as pool:
        nights = pool.map(lambda day: _read(lake, name, day), days[-most:])
        return [night for night in nights if night is not None]


def _days(lake: Lake, name: str) -> list[date]:
    days = []
    for entry in lake.storage.list(NIGHT_MEASURES.name):
        stem = entry.removesuffix("/").removeprefix(f"{NIGHTS.name}=")
        try:
            day = date.fromisoformat(stem.removeprefix(f"{name}-"))
        except ValueError:
            continue
        if stem == night_id(name, day):
            days.append(day)
    return sorted(days)


def _read(lake: Lake, name: str, day: date) -> PastNight | None:
    """None for a night whose tables were never finished: it counts as not there until it is done again."""
    night = night_id(name, day)
    try:
        job: Any = json.loads(lake.storage.read(result_job_path(NIGHTS, night)))
    except FileNotFoundError:
        return None
    tables = {}
    for table in (NIGHT_MEASURES, NIGHT_CHANGES):
        with lake.storage.parquet(result_path(NIGHTS, table, night)) as file:
            tables[table.name] = file.read()
    facts = job.get("facts") if isinstance(job, dict) else None
    thresholds = facts.get("thresholds") if isinstance(facts, dict) else None
    kept = thresholds if isinstance(thresholds, dict) else {}
    return PastNight(day, tables[NIGHT_MEASURES.name], tables[NIGHT_CHANGES.name], kept)
