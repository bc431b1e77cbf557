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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.nightly.findings import Finding, find
from jobs.nightly.known import Told, told
from jobs.nightly.past import PastNight, read_past
from jobs.nightly.refreshed import Refreshed
from jobs.nightly.summary_rows import Rows, change_rows, measure_rows, plain_row
from jobs.nightly.summary_text import title
from operators.lake import Lake
from operators.nights.estimate import FEWEST_UNITS
from operators.nights.judge import Judged, Key, Nights, Verdict, Watch, judge
from operators.nights.measures import REPEATED_SHARE
from operators.results import keep_result
from operators.storage.remote import redact
from pipelines.nightly.night import night_id
from schemas.nights import NIGHT_CHANGES, NIGHT_MEASURES, TONIGHT, TOO_FEW, TOO_SMALL
from schemas.results import NIGHTS

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from jobs.nightly.watch import WatchOptions
    from pipelines.nightly.night import Night

SCHEMA, VERSION = "assay.night", 1
GOOD, FOUND = 0, 3  # exit codes
_NIGHTS_A_YEAR = 365


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
    history: Mapping[Key, Rows] = field(repr=False)

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
            "measures": [plain_row(row) for row in measure_rows(self.options, self.night, refreshed.numbers)],
            "changes": [plain_row(row) for row in change_rows(self.options, self.night, self.verdicts)],
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
    rows = measure_rows(options, night, refreshed.numbers)
    history = _history(past, rows)
    sure = {key: kept for key, values in history.items() if (kept := _sure(_comparable(key, values, watch)))}
    judged = judge(
        {key: _nights(values) for key, values in sure.items()}, Watch(watch.alpha, _draws(options), watch.seed)
    )
    others = [_not_judged(key, values, watch) for key, values in history.items() if key not in sure]
    verdicts = tuple(told([*judged.verdicts, *others], past))
    changes = change_rows(options, night, verdicts)
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


def _comparable(key: Key, rows: Rows, watch: WatchOptions) -> Rows:
    """The nights of a number that mean the same: of texts seen before, those that looked back at as many nights as are
    asked for. Before, the share rises with every night that there is to look back at."""
    return rows[max(0, watch.repeats_nights - 1) :] if key[0] == REPEATED_SHARE else rows


def _sure(rows: Rows) -> list[Mapping[str, Any]]:
    """The nights of a number whose error can be relied on; none where tonight's cannot."""
    sure = [row for row in rows if row["level_error"] is not None and row["n_units"] >= FEWEST_UNITS]
    return sure if sure and sure[-1] is rows[-1] else []


def _not_judged(key: Key, rows: Rows, watch: WatchOptions) -> Verdict:
    why = TOO_SMALL if _comparable(key, rows, watch) else TOO_FEW
    return Verdict(key, TONIGHT, why, rows[-1]["unit"], 1, after=rows[-1]["value"])


def _nights(rows: Rows) -> Nights:
    return Nights(
        [date.fromisoformat(row["date"]) for row in rows],
        np.array([row["level"] for row in rows], np.float64),
        np.array([row["level_error"] for row in rows], np.float64),
        rows[-1]["scale"],
        rows[-1]["unit"],
        rows[-1]["n_units"] - 1,
        rows[-1]["value"],
    )


def _about(judged: Judged) -> list[str]:
    """What limits the verdicts."""
    notes = []
    if judged.reach is not None:
        notes.append(
            f"tonight a number is unlike the nights before where it is some {judged.reach:.1f} times as far off as its "
            "expected interval reaches: fewer nights before, more numbers and strange nights before make that more"
        )
    if judged.weekly:
        notes.append(f"a weekly cycle was taken out of {', '.join(map(title, judged.weekly))}")
    if judged.dependent:
        names = ", ".join(f"{title(key)} ({lag:.2f})" for key, lag in judged.dependent)
        notes.append(
            f"nights go with the night before in {names} (correlation): changes of level are found too often there"
        )
    return notes
