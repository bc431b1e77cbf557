"""The rows that a night keeps: of `night_measures` and `night_changes`, and as the summary's JSON has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from math import isfinite
from typing import TYPE_CHECKING, Any

from jobs.nightly.known import Told
from operators.nights.estimate import CONFIDENCE
from operators.nights.read import Number

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from pipelines.nightly.night import Night

Rows = Sequence[Mapping[str, Any]]

_SAME = ("nightly", "date", "run_id", "confidence")  # in every row of a night


def measure_rows(options: NightlyOptions, night: Night, numbers: Sequence[Number]) -> list[dict[str, Any]]:
    """Rows of `night_measures`."""
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


def change_rows(options: NightlyOptions, night: Night, verdicts: Sequence[Told]) -> list[dict[str, Any]]:
    """Rows of `night_changes`."""
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
            "is_new": verdict.is_finding and each.is_new,
            "unit": verdict.unit,
        }
        for each in verdicts
        for verdict in (each.verdict,)
    ]


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON: without what is the same in all of them, and without NaN and infinities."""
    kept = {name: value for name, value in row.items() if name not in _SAME}
    return {name: None if isinstance(v, float) and not isfinite(v) else v for name, v in kept.items()}
