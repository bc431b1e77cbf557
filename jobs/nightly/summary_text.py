"""How a summary says things: numbers with their unit, intervals, and one sentence for each verdict.

Names come from corpora: they are made printable here, and escaped where a page is written (`summary_page`).
"""

from __future__ import annotations

from math import floor, isfinite, log10

from jobs.errors import printable
from jobs.nightly.known import Told
from operators.nights.judge import Key, Verdict
from operators.nights.measures import TITLES
from schemas.nights import ALL, HISTORY, STEP, TREND

_LONGEST = 80  # characters of a name
_SHARE = "share"


def short(name: str) -> str:
    """A name on one line, its end left out where it is long."""
    name = printable(name).replace("\n", "\\n")
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def title(key: Key) -> str:
    """What a number is called."""
    measure, part, subject = key
    said = TITLES.get(measure, measure)
    return said if part == ALL else f'{said}, {part} "{short(subject)}"'


def number(value: float | None, unit: str, *, sign: bool = False) -> str:
    """Four digits that count, shares in per cent; `sign`: of a difference, in percentage points."""
    if value is None or not isfinite(value):
        return "unknown"
    plus = "+" if sign else ""
    if unit == _SHARE:
        return f"{_digits(100 * value, plus)}{' points' if sign else ' %'}"
    return _digits(value, plus)


def span(low: float | None, high: float | None, unit: str, *, sign: bool = False) -> str:
    """An interval; empty where there is none."""
    if low is None or high is None:
        return ""
    return f"{number(low, unit, sign=sign)} .. {number(high, unit, sign=sign)}"


def _digits(value: float, plus: str) -> str:
    if value == 0:
        return "0"
    after = max(0, 3 - floor(log10(abs(value))))
    return f"{value:{plus}.{min(after, 8)}f}" if after <= 8 else f"{value:{plus}.2e}"


def news(verdict: Verdict) -> str:
    """What was found of one number in a few words, without how much: of a verdict that is a finding."""
    said, is_up = title(verdict.key), (verdict.difference or 0) > 0
    if verdict.verdict == STEP:
        return f"{said}: {'higher' if is_up else 'lower'} since {verdict.since}"
    if verdict.verdict == TREND:
        return f"{said}: drifting {'up' if is_up else 'down'}"
    return f"{said}: {'higher' if is_up else 'lower'} than expected tonight"


def sentence(told: Told) -> str:
    """What was found of one number: of a verdict that is a finding."""
    verdict = told.verdict
    unit = verdict.unit
    apart = number(verdict.difference, unit, sign=True)
    if verdict.interval is not None:
        apart += f" ({span(*verdict.interval, unit, sign=True)})"
    p = f"p {_p(verdict.p_adjusted)} over all numbers of the night"
    if verdict.test == HISTORY and verdict.verdict == STEP:
        when = f"since {verdict.since}"
        if (verdict.since_low, verdict.since_high) != (verdict.since, verdict.since):
            when += f" (first night between {verdict.since_low} and {verdict.since_high})"
        change = f"{number(verdict.before, unit)} to {number(verdict.after, unit)}"
        return f"level changed {when}: {change}, {apart}; {verdict.n_nights} nights, {p}"
    if verdict.test == HISTORY and verdict.verdict == TREND:
        change = f"{number(verdict.before, unit)} to {number(verdict.after, unit)}"
        return f"drifts steadily over the {verdict.n_nights} nights from {verdict.since} on: {change}, {apart}; {p}"
    value = number(verdict.after, unit)
    low, high = verdict.expected or (None, None)
    expected = span(low, high, unit)
    return f"{value}, unlike the {verdict.n_nights - 1} nights before, which led to expect {expected}: {apart}; {p}"


def _p(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"
