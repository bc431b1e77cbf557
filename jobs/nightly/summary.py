"""The summary of a night: what it kept, what changed since when, and whether anybody should look.

    numbers of tonight + those of the nights before -> `operators.nights.judge` -> night_measures, night_changes
                                                    -> findings -> JSON, HTML, Markdown, exit code

JSON, `schema` "assay.night", `version` 1; a changed meaning is a new version:

    nightly, date, run_id       which night
    is_good                     no finding of `fail_on`; `exit_code` 0, else 3
    findings                    id, severity (alarm, warning, note), title, detail, next, fails
    night                       what the machinery did: shards by state, missed nights covered, resumed, runs removed
    scored                      documents, rejects, tokens, reasons (by count)
    measures, changes           rows of `night_measures` and `night_changes`, but what is the same in all of them
    benchmarks                  name, overlap, n_items, n_found, max_items, examples
    contamination               one verdict a benchmark, as `assay contamination --format json`
    false_alarms                alpha: chance of any change found in a night without one; most_a_year: 365 alpha
    nights                      nights before tonight that have numbers to compare with
    notes
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.nightly.findings import Finding, find
from jobs.nightly.known import Told, told
from jobs.nightly.past import PastNight, night_id, read_past
from jobs.nightly.refreshed import Refreshed
from jobs.nightly.summary_text import title
from operators.lake import Lake
from operators.nights.estimate import CONFIDENCE, FEWEST_UNITS
from operators.nights.judge import Judged, Key, Nights, Verdict, Watch, judge
from operators.nights.read import Number
from operators.results import keep_result
from operators.storage.remote import redact
from schemas.nights import NIGHT_CHANGES, NIGHT_MEASURES, TONIGHT, TOO_SMALL
from schemas.results import NIGHTS

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from pipelines.nightly.night import Night

SCHEMA, VERSION = "assay.night", 1
GOOD, FOUND = 0, 3  # exit codes
_NIGHTS_A_YEAR = 365
_SAME = ("nightly", "date", "run_id", "confidence")  # in every row of a night


@dataclass(frozen=True)
class Summary:
    """One night, summed up. `history`: by number, its dates and values, tonight last; for the figure."""

    options: NightlyOptions
    lake: str
    night: Night
    refreshed: Refreshed
    verdicts: tuple[Told, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    n_past: int
    history: Mapping[Key, Sequence[Mapping[str, Any]]] = field(repr=False)

    @property
    def fails(self) -> tuple[Finding, ...]:
        """Findings that `fail_on` names."""
        return tuple(finding for finding in self.findings if finding.id in self.options.fail_on)

    @property
    def n_compared(self) -> int:
        """Numbers of tonight that have a verdict against the nights before."""
        return sum(each.verdict.test == TONIGHT and each.verdict.p_value is not None for each in self.verdicts)

    @property
    def exit_code(self) -> int:
        return FOUND if self.fails else GOOD

    def json(self) -> dict[str, Any]:
        """As the module's docstring says; without NaN and infinities."""
        refreshed, alpha = self.refreshed, self.options.watch.alpha
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "nightly": self.options.name,
            "date": self.night.date.isoformat(),
            "run_id": self.night.run_id,
            "is_good": not self.fails,
            "exit_code": self.exit_code,
            "findings": [{**asdict(each), "fails": each in self.fails} for each in self.findings],
            "night": self.night.record(),
            "scored": {
                "documents": refreshed.documents,
                "rejects": refreshed.rejects,
                "tokens": refreshed.tokens,
                "reasons": dict(refreshed.reasons),
            },
            "measures": [_plain(row) for row in _measure_rows(self.options, self.night, refreshed.numbers)],
            "changes": [_plain(row) for row in _change_rows(self.options, self.night, self.verdicts)],
            "benchmarks": [{**asdict(each), "examples": list(each.examples)} for each in refreshed.benchmarks],
            "contamination": [dict(each) for each in refreshed.verdicts],
            "false_alarms": {"alpha": alpha, "most_a_year": alpha * _NIGHTS_A_YEAR},
            "nights": self.n_past,
            "notes": list(self.notes),
        }

    def html(self) -> str:
        """A page that stands alone: no script, nothing fetched."""
        from jobs.nightly.summary_page import as_html

        return as_html(self)

    def markdown(self) -> str:
        """The same for a terminal, a ticket or a chat, without the figure."""
        from jobs.nightly.summary_page import as_markdown

        return as_markdown(self)


def summarise(options: NightlyOptions, lake: Lake, night: Night, refreshed: Refreshed | None) -> Summary:
    """Compare a night with those before, keep its tables, and sum it up. Done again, it keeps and says the same.

    Raises:
        OSError: the storage failed.
        ValueError: what an earlier night kept is broken.
    """
    refreshed = refreshed or Refreshed()
    watch = options.watch
    past = read_past(lake, options.name, night.date, since=night.baseline, most=watch.nights)
    rows = _measure_rows(options, night, refreshed.numbers)
    history = _history(past, rows)
    sure = {key: kept for key, values in history.items() if (kept := _sure(values))}
    judged = judge(
        {key: _nights(values) for key, values in sure.items()}, Watch(watch.alpha, _draws(options), watch.seed)
    )
    small = [_too_small(key, values[-1]) for key, values in history.items() if key not in sure]
    verdicts = tuple(told([*judged.verdicts, *small], past))
    changes = _change_rows(options, night, verdicts)
    keep_result(
        lake,
        NIGHTS,
        night_id(options.name, night.date),
        {
            NIGHT_MEASURES.name: pa.Table.from_pylist(rows, schema=NIGHT_MEASURES.arrow()),
            NIGHT_CHANGES.name: pa.Table.from_pylist(changes, schema=NIGHT_CHANGES.arrow()),
        },
        settings={"watch": watch.model_dump(mode="json"), "baseline": night.baseline},
        facts={"thresholds": dict(refreshed.thresholds)},
        # No states: retention removes runs, and what a night found stays true of what it was then.
    )
    return Summary(
        options=options,
        lake=redact(lake.root),
        night=night,
        refreshed=refreshed,
        verdicts=verdicts,
        findings=find(options, lake.root, night, refreshed, verdicts),
        notes=(*night.notes, *refreshed.notes, *_about(judged)),
        n_past=sum(each.measures.num_rows > 0 for each in past),  # a night with nothing new has no number
        history=history,
    )


def read_summary(text: bytes) -> dict[str, Any]:
    """A summary that was kept as JSON.

    Raises:
        ValueError: it is none, or of another version.
    """
    summary = json.loads(text)
    if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
        raise ValueError(f"not the summary of a night: its schema is not {SCHEMA}")
    if summary.get("version") != VERSION:
        raise ValueError(f"a summary of version {summary.get('version')!r}: this Assay reads version {VERSION}")
    return summary


def _draws(options: NightlyOptions) -> int:
    """As many orders as were asked for, and no fewer than the false-alarm rate needs."""
    return max(options.watch.draws, int(np.ceil(4 / options.watch.alpha)))


# Rows


def _measure_rows(options: NightlyOptions, night: Night, numbers: Sequence[Number]) -> list[dict[str, Any]]:
    return [
        {
            "nightly": options.name,
            "date": night.date.isoformat(),
            "run_id": night.run_id,
            "measure": each.measure,
            "part": each.part,
            "subject": each.subject,
            "value": each.estimate.value,
            "value_low": each.estimate.low,
            "value_high": each.estimate.high,
            "confidence": CONFIDENCE,
            "unit": each.unit,
            "n": each.estimate.n,
            "n_units": each.estimate.n_units,
            "method": each.estimate.method,
            "scale": each.estimate.scale,
            "level": each.estimate.level,
            "level_error": each.estimate.level_error,
        }
        for each in numbers
    ]


def _change_rows(options: NightlyOptions, night: Night, verdicts: Sequence[Told]) -> list[dict[str, Any]]:
    return [
        {
            "nightly": options.name,
            "date": night.date.isoformat(),
            **dict(zip(("measure", "part", "subject"), verdict.key, strict=True)),
            "test": verdict.test,
            "verdict": verdict.verdict,
            "since": _iso(verdict.since),
            "since_low": _iso(verdict.since_low),
            "since_high": _iso(verdict.since_high),
            "before": verdict.before,
            "after": verdict.after,
            "expected_low": verdict.expected[0] if verdict.expected else None,
            "expected_high": verdict.expected[1] if verdict.expected else None,
            "difference": verdict.difference,
            "difference_low": verdict.interval[0] if verdict.interval else None,
            "difference_high": verdict.interval[1] if verdict.interval else None,
            "confidence": CONFIDENCE,
            "p_value": verdict.p_value,
            "p_adjusted": verdict.p_adjusted,
            "n_nights": verdict.n_nights,
            "is_new": each.is_new,
            "unit": verdict.unit,
        }
        for each in verdicts
        for verdict in (each.verdict,)
    ]


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in _SAME}
    return {name: None if isinstance(v, float) and not isfinite(v) else v for name, v in kept.items()}


# The nights before


def _history(past: Sequence[PastNight], rows: Sequence[Mapping[str, Any]]) -> dict[Key, list[Mapping[str, Any]]]:
    """The rows of each of tonight's numbers, oldest first, tonight last; on the scale that tonight has."""
    scales = {_key(row): row["scale"] for row in rows}
    found: dict[Key, list[Mapping[str, Any]]] = {key: [] for key in scales}
    for night in past:
        for row in night.measures.to_pylist():
            if scales.get(_key(row)) == row["scale"]:
                found[_key(row)].append(row)
    for row in rows:
        found[_key(row)].append(row)
    return found


def _key(row: Mapping[str, Any]) -> Key:
    return row["measure"], row["part"], row["subject"]


def _sure(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The nights of a number whose error can be relied on; none where tonight's cannot."""
    sure = [row for row in rows if row["level_error"] is not None and row["n_units"] >= FEWEST_UNITS]
    return sure if sure and sure[-1] is rows[-1] else []


def _too_small(key: Key, row: Mapping[str, Any]) -> Verdict:
    return Verdict(key, TONIGHT, TOO_SMALL, row["unit"], 1, after=row["value"])


def _nights(rows: Sequence[Mapping[str, Any]]) -> Nights:
    return Nights(
        [date.fromisoformat(row["date"]) for row in rows],
        np.array([row["level"] for row in rows], np.float64),
        np.array([row["level_error"] for row in rows], np.float64),
        rows[-1]["scale"],
        rows[-1]["unit"],
        rows[-1]["n_units"] - 1,
    )


def _about(judged: Judged) -> list[str]:
    """What limits the verdicts."""
    notes = []
    if judged.weekly:
        notes.append(f"a weekly cycle was taken out of {', '.join(map(title, judged.weekly))}")
    if judged.dependent:
        names = ", ".join(f"{title(key)} ({lag:.2f})" for key, lag in judged.dependent)
        notes.append(
            f"nights go with the night before in {names} (correlation): changes of level are found too often there"
        )
    return notes
