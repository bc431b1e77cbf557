"""What a night found that somebody should know, the gravest first, each with what to do next.

Ids are those of `jobs.nightly.watch.FINDINGS`, which `fail_on` names. Severity: alarm, warning or note.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.nightly.known import Told
from jobs.nightly.refreshed import BenchmarkFound, Refreshed
from jobs.nightly.summary_text import news, sentence, short
from jobs.nightly.watch import FindingId
from operators.contamination.evidence import CONTAMINATED
from operators.contamination.verdict import INCOMPLETE
from operators.storage.remote import redact
from schemas.nights import ALL

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from pipelines.nightly.night import Night

ALARM, WARNING, NOTE = "alarm", "warning", "note"
_ORDER = (ALARM, WARNING, NOTE)
_PLAIN = re.compile(r"[\w.:/ (),=+-]{1,80}", re.ASCII)  # names that mean nothing else in SQL or to a shell


@dataclass(frozen=True)
class Finding:
    """`id`: as `fail_on` names it; `next`: a command or a sentence that says what to do."""

    id: FindingId
    severity: str
    title: str
    detail: str
    next: str

    @property
    def is_command(self) -> bool:
        """Whether `next` can be pasted into a shell."""
        return self.next.startswith("assay ")


def find(
    options: NightlyOptions, lake: str, night: Night, refreshed: Refreshed, verdicts: Sequence[Told]
) -> tuple[Finding, ...]:
    """Every finding of a night, the gravest first."""
    found = [
        *_contaminated(lake, refreshed),
        *_changed(options, lake, verdicts),
        *_rejects(options, lake, night, refreshed),
        *_incomplete(refreshed),
        *_missed(night),
    ]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _contaminated(lake: str, refreshed: Refreshed) -> Iterator[Finding]:
    for each in refreshed.benchmarks:
        if each.exceeds:
            yield _in_shards(lake, each)
    for verdict in refreshed.verdicts:
        if verdict["outcome"] == CONTAMINATED:
            name = str(verdict["benchmark"])
            yield Finding(
                "contaminated", ALARM, f"benchmark {short(name)}: contaminated", short(str(verdict["why"])),
                _command("contamination", lake, "--benchmark", name),
            )  # fmt: skip


def _in_shards(lake: str, found: BenchmarkFound) -> Finding:
    examples = ", ".join(f'"{short(key)}"' for key in found.examples)
    return Finding(
        "contaminated",
        ALARM,
        f"benchmark {found.name}: {found.n_found:,} of {found.n_items:,} items are in tonight's shards",
        f"at most {found.max_items:,} are allowed; such as {examples}",
        _sql(lake, f"select key, source, row, text from overlap_spans where overlap = '{found.overlap}'"),
    )


def _changed(options: NightlyOptions, lake: str, verdicts: Sequence[Told]) -> Iterator[Finding]:
    """Numbers of the whole night first: what changed there changed in its domains, too."""
    found = [told for told in verdicts if told.verdict.is_finding and told.is_new]
    for told in sorted(found, key=lambda told: told.verdict.key[1] != ALL):
        measure, part, subject = told.verdict.key
        where = f"nightly = '{options.name}' and measure = '{measure}' and part = '{part}'"
        if _PLAIN.fullmatch(subject):
            where += f" and subject = '{subject}'"
        what = "date, subject, value, value_low, value_high, n"
        following = _sql(lake, f"select {what} from night_measures where {where} order by all desc")
        yield Finding("changed", WARNING, news(told.verdict), sentence(told), following)


def _rejects(options: NightlyOptions, lake: str, night: Night, refreshed: Refreshed) -> Iterator[Finding]:
    records = refreshed.documents + refreshed.rejects
    if not records or refreshed.rejects <= options.watch.max_rejects * records:
        return
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in refreshed.reasons.items())
    sql = f"select reason, source, row, detail from rejects where run_id = '{night.run_id}' limit 100"
    yield Finding(
        "rejects",
        WARNING,
        f"{refreshed.rejects:,} of {records:,} records were rejected",
        f"{refreshed.rejects / records:.1%}, more than {options.watch.max_rejects:.1%}: {reasons}",
        _sql(lake, sql),
    )


def _incomplete(refreshed: Refreshed) -> Iterator[Finding]:
    for lack in refreshed.lacking:
        what = f"{lack.what} could not be refreshed"
        yield Finding("incomplete", WARNING, what, redact(lack.why), "mend what it says; the next night has it again")
    for verdict in refreshed.verdicts:
        if verdict["outcome"] == INCOMPLETE:
            yield Finding(
                "incomplete", WARNING, f"benchmark {short(str(verdict['benchmark']))}: the verdict is incomplete",
                short(str(verdict["why"])), "make what is missing: `assay contamination` prints the commands",
            )  # fmt: skip


def _missed(night: Night) -> Iterator[Finding]:
    if night.covers:
        days = ", ".join(day.isoformat() for day in night.covers)
        n = len(night.covers)
        yield Finding(
            "missed", NOTE, f"{n} night{'s' * (n != 1)} before this one did not take place",
            f"{days}: their shards are in this night", "look at the schedule and its log of those days",
        )  # fmt: skip


def _sql(lake: str, sql: str) -> str:
    """A query of ours: it holds no more of a stranger than plain names, so a pair of quotes is enough."""
    return f'{_command("sql", lake)} "{sql}"'


def _command(verb: str, lake: str, *words: str) -> str:
    return redact(shlex.join(["assay", verb, lake, *words]))
