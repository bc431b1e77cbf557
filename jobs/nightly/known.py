"""Which of a night's findings are news: changes of level that an earlier night reported are not told again.

A change is known where an earlier night has one of the same number, in the same direction, whose confidence set of
dates shares a night with this one's; a trend, where an earlier night has a trend of the same number in the same
direction. A night unlike those before it is always news.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.nightly.past import PastNight
from operators.nights.judge import Key, Verdict
from schemas.nights import HISTORY, STEP, TREND

_Kind = tuple[Key, str, bool]


@dataclass(frozen=True)
class Told:
    """A verdict, and whether no earlier night said so."""

    verdict: Verdict
    is_new: bool


def told(verdicts: Iterable[Verdict], past: Sequence[PastNight]) -> list[Told]:
    """Each verdict with whether it is news."""
    known: dict[_Kind, list[tuple[str, str]]] = {}
    for night in past:
        for kind, dates in _changes(night):
            known.setdefault(kind, []).append(dates)
    kinds = ((each, _kind(each.key, each.verdict, each.difference)) for each in verdicts)
    return [Told(each, not _is_known(each, known.get(kind, []))) for each, kind in kinds]


def _changes(night: PastNight) -> Iterator[tuple[_Kind, tuple[str, str]]]:
    for row in night.changes.to_pylist():
        if row["test"] == HISTORY:
            kind = _kind(_key(row), row["verdict"], row["difference"])
            yield kind, (row["since_low"] or "", row["since_high"] or "")


def _kind(key: Key, verdict: str, difference: float | None) -> _Kind:
    """Of what number, step or trend, and whether it went up."""
    return key, verdict, (difference or 0) > 0


def _key(row: dict[str, Any]) -> Key:
    return row["measure"], row["part"], row["subject"]


def _is_known(verdict: Verdict, before: Sequence[tuple[str, str]]) -> bool:
    if verdict.test != HISTORY:
        return False
    if verdict.verdict == TREND:
        return bool(before)
    if verdict.verdict != STEP or verdict.since_low is None or verdict.since_high is None:
        return False
    first, last = verdict.since_low.isoformat(), verdict.since_high.isoformat()
    return any(low <= last and first <= high for low, high in before)
