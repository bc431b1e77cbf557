"""Writes a summary as a page: HTML that stands alone, and Markdown; the same content, once as data, twice as text.

    Summary -> content (headline, findings, what was scored, tables, notes) -> night.html.jinja, night.md.jinja

Everything that comes from a corpus, a file or a job is escaped by the environment, not by the templates: HTML by
Jinja's autoescape, Markdown by `finalize`, so that a name that is forgotten is inert all the same. The page has a
policy that lets no script run and nothing be fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs.errors import printable
from jobs.nightly.summary_figure import figure_svg
from jobs.nightly.summary_text import number, sentence, short, span, title
from operators.nights.estimate import FEWEST_UNITS
from operators.nights.judge import FEWEST
from operators.nights.measures import REPEATED_SHARE
from schemas.nights import ALL, DOMAIN, HISTORY, TONIGHT

if TYPE_CHECKING:
    from jobs.nightly.summary import Summary

# What is markup inside a line, in CommonMark, in GitHub's tables and in what chats make links and mentions of.
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|<>&~$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_STATES = (
    ("new", "new shards"),
    ("changed", "changed shards"),
    ("removed", "shards removed since the last good night"),
    ("waiting", "shards still being written, left for the next night"),
    ("changing", "shards that changed while they were scored, left for the next night"),
    ("unchanged", "shards as they were"),
)
_EXAMPLES = 3


@dataclass(frozen=True)
class Head:
    """A column's head."""

    text: str
    is_number: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    title: str
    heads: tuple[Head, ...]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def as_html(summary: Summary) -> str:
    """The page: UTF-8, self-contained, without scripts."""
    svg = figure_svg(summary.history, summary.verdicts)
    return _environment("html").get_template("night.html.jinja").render(**_content(summary), svg=Markup(svg))


def as_markdown(summary: Summary) -> str:
    """The same as Markdown (CommonMark with tables)."""
    return _environment("md").get_template("night.md.jinja").render(**_content(summary))


@cache
def _environment(kind: str) -> Environment:
    loader = PackageLoader("jobs.nightly", ".")
    if kind == "html":
        return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_visible)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, finalize=_markdown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["block"] = _code_block
    return environment


def _visible(value: Any) -> Any:
    """Control and direction characters as escapes; markup of ours as it is."""
    return value if isinstance(value, Markup) else printable(str(value))


def _markdown(value: Any) -> str:
    """Text that Markdown takes for nothing else; what is marked as safe stays."""
    if isinstance(value, Markup):
        return str(value)
    return _SPECIAL.sub(r"\\\1", printable(str(value)).replace("\n", " "))


def _code_block(value: Any) -> Markup:
    """An indented block, in which nothing is markup."""
    lines = printable(str(value)).splitlines() or [""]
    return Markup("\n".join(f"      {line}" for line in lines))


# Content


def _content(summary: Summary) -> dict[str, Any]:
    night = summary.night
    findings = summary.findings
    return {
        "name": summary.options.name,
        "date": night.date.isoformat(),
        "run": night.run_id,
        "headline": _headline(summary),
        "lead": _lead(summary),
        "worst": findings[0].severity if findings else "good",
        "findings": findings,
        "nothing": _nothing(summary),
        "scored": _scored(summary),
        "tables": [grid for grid in (_changes(summary), _numbers(summary), _domains(summary), _benchmarks(summary),
                                     _contamination(summary)) if grid.rows],
        "notes": [*summary.notes, *_standing_notes(summary)],
    }  # fmt: skip


def _headline(summary: Summary) -> str:
    if not summary.findings:
        if not summary.night.run_id:
            return "Good: nothing new to score"
        return "Good: nothing to look at" if summary.n_compared else "Scored: too little yet to compare it with"
    n = len(summary.findings)
    first = summary.findings[0].title
    return f"{n} thing{'s' * (n != 1)} to look at: {first}" if n > 1 else f"To look at: {first}"


def _nothing(summary: Summary) -> str:
    """What it means that nothing was found."""
    if not summary.night.run_id:
        return "Nothing: no shard was scored, so there is no number to compare."
    n = len(summary.refreshed.numbers)
    if summary.n_compared == n:
        return "Nothing: no number is unlike the nights before, and nothing else was found."
    most = f"only {summary.n_compared} of {n} numbers" if summary.n_compared else "no number"
    takes = f"{FEWEST} of them on one level ({_nights_before(summary)}), {FEWEST_UNITS} documents or shards in each"
    if REPEATED_SHARE in {each.measure for each in summary.refreshed.numbers}:
        takes += f", and of texts seen before {summary.options.watch.repeats_nights} nights to look back at"
    return f"Nothing was found, but {most} could be compared with the nights before: that takes {takes}."


def _nights_before(summary: Summary) -> str:
    n = summary.n_past
    return f"{n:,} night{'s' * (n != 1)} before this one {'has' if n == 1 else 'have'} numbers"


def _lead(summary: Summary) -> str:
    night, found = summary.night, summary.refreshed
    said = []
    if night.run_id:
        said.append(f"{found.documents:,} documents and {found.tokens:,} tokens were scored")
        said.append(f"{found.rejects:,} records were rejected")
    else:
        said.append("No shard was new or changed")
    if night.covers:
        said.append(f"it covers {len(night.covers)} missed night{'s' * (len(night.covers) != 1)} before it")
    if night.resumed:
        said.append("it had been stopped, and went on where it was")
    said.append(f"exit code {summary.exit_code}")
    spared = ", since `fail_on` names nothing of what was found" if summary.findings and not summary.fails else ""
    return f"{'; '.join(said)}{spared}."


def _scored(summary: Summary) -> list[tuple[str, str]]:
    night, found = summary.night, summary.refreshed
    rows = [("documents", f"{found.documents:,}"), ("tokens", f"{found.tokens:,}"), ("rejects", f"{found.rejects:,}")]
    rows += [(f"rejected: {reason}", f"{n:,}") for reason, n in found.reasons.items()]
    rows += [(what, f"{night.shards[state]:,}") for state, what in _STATES if night.shards.get(state)]
    if night.covers:
        rows.append(("missed nights covered", ", ".join(day.isoformat() for day in night.covers)))
    if night.removed_runs:
        rows.append(("runs that retention removes", ", ".join(night.removed_runs)))
    if night.started and night.finished:
        rows.append(("took", f"{(night.finished - night.started).total_seconds():,.0f} s"))
    return rows


def _changes(summary: Summary) -> Grid:
    heads = (Head("number"), Head("what changed"), Head("news"))
    found = [each for each in summary.verdicts if each.verdict.test == HISTORY]
    told = sorted(found, key=lambda each: (not each.is_new, each.verdict.key[1] != ALL))
    rows = [[title(each.verdict.key), sentence(each), "new" if each.is_new else "known"] for each in told]
    return Grid("Changes of level", heads, rows)


def _numbers(summary: Summary) -> Grid:
    return _grid(summary, "Tonight's numbers", lambda part: part != DOMAIN)


def _domains(summary: Summary) -> Grid:
    return _grid(summary, "By domain", lambda part: part == DOMAIN)


def _grid(summary: Summary, name: str, is_of: Any) -> Grid:
    told = {each.verdict.key: each.verdict for each in summary.verdicts if each.verdict.test == TONIGHT}
    heads = (Head("number"), Head("tonight", True), Head("95 % interval", True), Head("expected", True),
             Head("verdict"), Head("from", True))  # fmt: skip
    rows = []
    for each in summary.refreshed.numbers:
        key = (each.measure, each.part, each.subject)
        if is_of(each.part):
            verdict, found = told[key], each.estimate
            expected = span(*verdict.expected, each.unit) if verdict.expected else ""
            unit = "" if each.unit in ("share", title(key)) else f" ({each.unit})"
            rows.append([
                f"{title(key)}{unit if each.part == ALL else ''}", number(found.value, each.unit),
                span(found.low, found.high, each.unit), expected, verdict.verdict, f"{found.n_units:,} {found.method}",
            ])  # fmt: skip
    caption = (
        "expected: where 95 of 100 nights like those before would lie, so of 20 numbers one is outside by luck; unlike "
        "the nights before: further off than luck takes any of tonight's numbers; from: the independent units of the "
        "95 % interval"
    )
    return Grid(name, heads, rows, caption)


def _benchmarks(summary: Summary) -> Grid:
    heads = (Head("benchmark"), Head("items found", True), Head("of", True), Head("allowed", True), Head("such as"))
    rows = [
        [each.name, f"{each.n_found:,}", f"{each.n_items:,}", f"{each.max_items:,}",
         ", ".join(short(key) for key in each.examples[:_EXAMPLES])]
        for each in summary.refreshed.benchmarks
    ]  # fmt: skip
    return Grid("Benchmarks in tonight's shards", heads, rows)


def _contamination(summary: Summary) -> Grid:
    heads = (Head("benchmark"), Head("verdict"), Head("why"), Head("evidence"))
    rows = [
        [short(str(each["benchmark"])), str(each["outcome"]), short(str(each["why"])), _evidence(each["evidence"])]
        for each in summary.refreshed.verdicts
    ]
    caption = '"no evidence found" is not "clean": it says what was looked for, and not found'
    return Grid("Contamination", heads, rows, caption)


def _evidence(rows: Sequence[Mapping[str, Any]]) -> str:
    said = []
    for row in rows:
        p = "" if row["p_adjusted"] is None else f", p = {row['p_adjusted']:.2g}"
        said.append(f"{str(row['evidence']).replace('_', ' ')}: {row['verdict']}{p}")
    return "; ".join(said)


def _standing_notes(summary: Summary) -> list[str]:
    alpha = summary.options.watch.alpha
    return [
        f"{_nights_before(summary)}. A number has a verdict from {FEWEST} nights of one level on.",
        f"Where nights are independent and scatter normally, the chance of any finding of change in a night in which "
        f"nothing changed is at most {alpha:.2g}, over all numbers together: at most {365 * alpha:.1f} nights of a "
        "year. Long tails from night to night raise it up to two and a half times. Nights that are a little like the "
        "one before raise it far more: with a correlation of 0.3, and 0.01 asked for, 8 % of simulated nights with 59 "
        "before them had a false finding among 20 numbers, and 10 % of those with 119.",
        "Intervals take shards as the independent units where they are many, else documents; how far nights scatter "
        "beyond that is estimated from the nights.",
    ]
