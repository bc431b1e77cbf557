"""Checks the nights of nightly jobs: names, summaries, lists of shards, and the runs that these name.

nights/<name>/<date>.json -> .html, .md beside it -> its run -> its list in night_shards -> runs that the list names

A run that is gone is sound where a summary says that retention took it, or that a later night found it gone. A night
under way, or one that died, is none: the next attempt goes on with it. What tables of nights hold is checked with the
other results.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from operators.lake import NIGHTS_FOLDER, Lake, is_run_id
from operators.results import result_job_path, result_path
from operators.storage import is_temporary
from operators.verify.faults import BROKEN, Fault, Finding, Kind, placed_at
from schemas import NIGHT_SHARDS
from schemas.results import NIGHT_LISTS

_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.(json|html|md|open\.parquet)")
_CLAIM = re.compile(r"[0-9a-f]{32}\.json")
_LEFT = "left by a write that did not finish"
_FOREIGN = "not part of a lake's layout"
_SCORED = ("new", "changed")
_GONE = ("removed_runs", "lost_runs")


@dataclass
class _Nights:
    """What lies in the folder of one nightly job: of each date the kinds of files, and the sound summaries."""

    name: str
    files: dict[str, set[str]] = field(default_factory=dict)
    summaries: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def taken(self) -> set[str]:
        """The runs that retention took, and those that a night has found gone."""
        return {run for night in self.summaries.values() for name in _GONE for run in night.get(name, ())}


def night_faults(lake: Lake) -> Iterator[Fault]:
    """Faults of every nightly job of a lake."""
    runs = set(lake.run_ids())
    known: set[str] = set()
    for entry in lake.storage.list(NIGHTS_FOLDER):
        name = entry.removesuffix("/")
        if not entry.endswith("/") or not is_run_id(name):
            yield Fault(Kind.FOREIGN, "", f"{NIGHTS_FOLDER}/{name}", _FOREIGN)
            continue
        nights = _Nights(name)
        yield from _layout_faults(lake, nights)
        yield from _summary_faults(lake, nights)
        for date, night in nights.summaries.items():
            yield from _run_faults(lake, nights, date, night, runs)
        known |= {f"{name}-{date}" for date, kinds in nights.files.items() if kinds & {"json", "open.parquet"}}
    yield from _lost_lists(lake, known)


def _layout_faults(lake: Lake, nights: _Nights) -> Iterator[Fault]:
    folder = f"{NIGHTS_FOLDER}/{nights.name}"
    for entry in lake.storage.list(folder):
        match = _FILE.fullmatch(entry)
        if match is not None:
            nights.files.setdefault(match[1], set()).add(match[2])
        elif is_temporary(entry):
            yield Fault(Kind.TEMPORARY, "", f"{folder}/{entry}", _LEFT)
        elif entry != "lock/":
            yield Fault(Kind.FOREIGN, "", f"{folder}/{entry}", _FOREIGN)
    yield from _lock_faults(lake, f"{folder}/lock")
    for date, kinds in nights.files.items():
        yield from _twin_faults(nights.name, f"{folder}/{date}", kinds)


def _lock_faults(lake: Lake, folder: str) -> Iterator[Fault]:
    for entry in lake.storage.list(folder):
        if is_temporary(entry):
            yield Fault(Kind.TEMPORARY, "", f"{folder}/{entry}", _LEFT)
        elif not _CLAIM.fullmatch(entry):
            yield Fault(Kind.FOREIGN, "", f"{folder}/{entry}", _FOREIGN)


def _twin_faults(name: str, where: str, kinds: set[str]) -> Iterator[Fault]:
    """Faults of the files of one night, of which `kinds` are there."""
    if not kinds & {"json", "open.parquet"}:
        yield Fault(Kind.LEDGER, "", f"{where}.json", "is missing: beside it lies what readers are shown of it")
    if {"json", "open.parquet"} <= kinds:
        message = f"left by a night that ended right after its summary: the next `assay nightly` of {name!r} clears it"
        yield Fault(Kind.TEMPORARY, "", f"{where}.open.parquet", message)
    if "json" in kinds:
        for kind in sorted({"html", "md"} - kinds):
            yield Fault(Kind.TWIN, "", f"{where}.{kind}", "is missing, though its night has ended")


def _summary_faults(lake: Lake, nights: _Nights) -> Iterator[Fault]:
    """Faults of the summaries; sound ones are noted."""
    for date in sorted(date for date, kinds in nights.files.items() if "json" in kinds):
        where = f"{NIGHTS_FOLDER}/{nights.name}/{date}.json"
        try:
            night = _night(json.loads(lake.storage.read(where)))
        except BROKEN as error:
            yield Fault(Kind.LEDGER, "", where, f"is no summary of a night: {type(error).__name__}: {error}")
            continue
        if (night.get("name"), night.get("date")) != (nights.name, date):
            yield Fault(Kind.LEDGER, "", where, f"is of night {night.get('date')!r} of {night.get('name')!r}")
            continue
        nights.summaries[date] = night


def _night(summary: Any) -> Mapping[str, Any]:
    night = summary.get("night") if isinstance(summary, dict) else None
    if not isinstance(night, dict):
        raise ValueError("it has no object `night`")
    shards, run = night.get("shards"), night.get("run_id")
    if not isinstance(shards, dict) or not all(isinstance(n, int) for n in shards.values()):
        raise ValueError("shards are not counted by state")
    for key in _GONE:
        gone = night.get(key, [])
        if not isinstance(gone, list) or not all(isinstance(name, str) for name in gone):
            raise ValueError(f"{key} is no list of runs")
    if run is not None and not isinstance(run, str):
        raise ValueError("run_id is no name")
    return night


def _run_faults(lake: Lake, nights: _Nights, date: str, night: Mapping[str, Any], runs: set[str]) -> Iterator[Fault]:
    """Faults of the run and of the list of one night."""
    where, run, taken = f"{NIGHTS_FOLDER}/{nights.name}/{date}.json", night["run_id"], nights.taken
    if run is not None and run not in runs and run not in taken:
        yield Fault(Kind.TWIN, run, where, f"its run {run!r} is gone, and no night took it away")
    if run in runs and run not in taken:
        yield from placed_at(lake, where, _state_findings(lake, run))
    path = result_path(NIGHT_LISTS, NIGHT_SHARDS, f"{nights.name}-{date}")
    missing = "is missing, though its night has ended: what is scored is not known without"
    is_last = date == max(nights.summaries)
    there = runs | taken if is_last else None  # of older lists nothing is read any more
    yield from placed_at(lake, path, _list_findings(lake, path, night, there), missing=missing)


def _state_findings(lake: Lake, run: str) -> Iterator[Finding]:
    if (state := lake.read_run(run).get("state")) != "finished":
        yield Kind.STALE, f"its run {run!r} is {state}, though the night has ended"


def _list_findings(lake: Lake, path: str, night: Mapping[str, Any], runs: set[str] | None) -> Iterator[Finding]:
    """`runs`: those that a list may name; None: any."""
    with lake.storage.parquet(path, verify_checksums=True) as file:
        rows = file.read(columns=["state", "run_id", "scored", "nightly", "date"])
    found = Counter(rows["state"].to_pylist())
    said = {state: n for state, n in night["shards"].items() if n}
    if found != said:
        yield Kind.COUNT, f"shards are {dict(sorted(found.items()))}, the summary says {dict(sorted(said.items()))}"
    if any(set(rows[of].unique().to_pylist()) - {night[key]} for of, key in (("nightly", "name"), ("date", "date"))):
        yield Kind.VALUE, f"rows of other nights than {night['date']} of {night['name']!r}"
    yield from _scored_findings(rows, night)
    if runs is not None and (lost := sorted(set(rows["run_id"].drop_null().unique().to_pylist()) - runs)):
        yield Kind.TWIN, f"shards are in runs that are gone: {', '.join(lost)}; the next night scores them again"


def _scored_findings(rows: pa.Table, night: Mapping[str, Any]) -> Iterator[Finding]:
    pairs = zip(*(rows[name].to_pylist() for name in ("state", "run_id", "scored")), strict=True)
    wrong = sum(1 for state, *scored in pairs if state in _SCORED and scored != [night["run_id"], night["date"]])
    if wrong:
        yield Kind.VALUE, f"{wrong} shards are new or changed, but not in the night's run"


def _lost_lists(lake: Lake, known: set[str]) -> Iterator[Fault]:
    """Lists of nights that are neither good nor under way."""
    for entry in lake.storage.list(NIGHT_SHARDS.name):
        night = entry.removesuffix("/").removeprefix("night=")
        if entry == f"night={night}/" and is_run_id(night) and night not in known:
            yield Fault(Kind.LEDGER, "", result_job_path(NIGHT_LISTS, night), "is of no night that the lake knows")
