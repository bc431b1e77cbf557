"""What `assay contamination` prints: a table for a reader, JSON for dashboards.

The JSON is one object, strict (no NaN, no infinity: what is not defined is null). Fields may be added under one
`version`; a field that changes its meaning, or goes, makes a new one:

    schema      "assay.contamination"
    version     1
    lake, settings      what was asked for: alpha, max_overlap, overlap_rule, min_answer_tokens, require, overlaps,
                        clean, clean_where, fail_on, splits, seed, draws
    level       0.95, of every interval
    adjustment, tests   "holm", and how many p-values it corrects for each other
    failed      whether an outcome is one of those of fail_on: the exit code is then 3
    benchmarks  a list: benchmark (run), documents, items, clean_items, outcome ("contaminated", "incomplete",
                "no evidence found"), why, evidence
      evidence  a list: evidence (kind), test, n, estimate, unit, low, high, method, p_value, p_adjusted, resolution,
                verdict ("contaminated", "no evidence", "inconclusive", "not judged", "missing"), doubt, detail,
                examples (keys of items), matches (of each, what a corpus holds of it; "" where that is not kept;
                of overlap alone), shows, cannot_show, command
    notes       texts that start with "warning" or "note"
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.contamination.run import Report
from jobs.errors import printable
from jobs.output import choose_format, show_json, show_page
from operators.contamination.evidence import (
    CANNOT_SHOW,
    CONTAMINATED,
    INCONCLUSIVE,
    INFERENCE,
    KINDS,
    MISSING,
    NOT_JUDGED,
    SHOWS,
    Evidence,
)
from operators.contamination.verdict import NO_EVIDENCE_FOUND, Verdict
from operators.evaluation.classes import CONFIDENCE
from operators.storage.remote import redact
from pipelines.config import ConfigError

SCHEMA, VERSION = "assay.contamination", 1
_KEY, _MATCH = 40, 160  # characters of an item's key that are shown, and of what a corpus holds of it
_STYLES = {CONTAMINATED: "bold red", INCONCLUSIVE: "yellow", MISSING: "dim", NOT_JUDGED: "dim"}


def choose(asked: str | None, output: Path | None) -> str:
    """`table` or `json`, as `jobs.evaluate.output.choose_format`.

    Raises:
        ConfigError: format and file contradict each other, or it is CSV.
    """
    chosen = choose_format(asked, output)
    if chosen == "csv":
        raise ConfigError("--format: choose table or json; a verdict has more parts than rows of CSV hold")
    return chosen


def show(report: Report, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, report), output)
    else:
        show_json(as_json(report), output)


# JSON


def as_json(report: Report) -> dict[str, Any]:
    """Everything that was found, as the module's docstring says."""
    options = report.options
    settings = {
        "alpha": options.alpha,
        "max_overlap": options.max_overlap,
        "overlap_rule": options.overlap_rule,
        "min_answer_tokens": options.min_answer_tokens,
        "require": list(options.require),
        "overlaps": list(options.overlaps),
        "clean": options.clean,
        "clean_where": options.clean_where,
        "fail_on": options.fail_on,
        "splits": options.splits,
        "seed": options.seed,
        "draws": options.draws,
    }
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "lake": redact(options.lake),
        "settings": settings,
        "level": CONFIDENCE,
        "adjustment": "holm",
        "tests": report.tests,
        "failed": report.has_failed,
        "benchmarks": [
            {
                "benchmark": sets.benchmark,
                "documents": sets.n_documents,
                "items": int(sets.items.ids.size),
                "clean_items": None if sets.clean is None else int(sets.clean.ids.size),
                "outcome": verdict.outcome,
                "why": verdict.why,
                "evidence": [_row(each) for each in verdict.evidence],
            }
            for sets, verdict in zip(report.sets, report.verdicts, strict=True)
        ],
        "notes": list(report.notes),
    }


def _row(row: Evidence) -> dict[str, Any]:
    return {
        "evidence": row.kind,
        "test": row.test,
        "n": row.n,
        "estimate": _number(row.estimate),
        "unit": row.unit or None,
        "low": _number(row.interval.low if row.interval else None),
        "high": _number(row.interval.high if row.interval else None),
        "method": row.method or None,
        "p_value": _number(row.p_value),
        "p_adjusted": _number(row.p_adjusted),
        "resolution": _number(row.resolution),
        "verdict": row.verdict,
        "doubt": row.doubt or None,
        "detail": row.detail,
        "examples": list(row.examples),
        "matches": list(row.matches),
        "shows": row.shows,
        "cannot_show": row.cannot_show,
        "command": row.command or None,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# Table


def print_report(report: Report, console: Console) -> None:
    """Each benchmark's verdict and evidence, then what evidence of each kind is worth, the settings and the notes."""
    for sets, verdict in zip(report.sets, report.verdicts, strict=True):
        clean = "no clean set" if sets.clean is None else f"{sets.clean.ids.size:,} clean from run {sets.clean.run_id}"
        style = "bold red" if verdict.outcome == CONTAMINATED else "bold"
        console.print(Text(f"{verdict.benchmark}: {verdict.outcome.upper()}"), style=style)
        console.print(Text(f"{sets.items.ids.size:,} items, {clean}; {printable(verdict.why)}\n"))
        console.print(_table(verdict))
        console.print()
        for row in verdict.evidence:
            _print_detail(row, console)
        console.print()
    kinds = {row.kind for verdict in report.verdicts for row in verdict.evidence if row.verdict != MISSING}
    for kind in KINDS:
        if kind in kinds:
            console.print(Text(f"{_title(kind)}: {SHOWS[kind]} {CANNOT_SHOW[kind]}"), style="dim")
    console.print(Text(_settings(report)))
    if any(verdict.outcome == NO_EVIDENCE_FOUND for verdict in report.verdicts):
        console.print(Text(f'"{NO_EVIDENCE_FOUND}" is not "clean": it says what was looked for, and not found.'))
    for note in report.notes:
        console.print(Text(printable(note)), style="bold yellow" if note.startswith("warning") else "")


def _table(verdict: Verdict) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("evidence", overflow="fold", max_width=32)
    for name in ("items", "estimate", "95 % interval", "p", "adjusted"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in verdict.evidence:
        test = f" ({printable(row.test)})" if row.test else ""
        span = "" if row.interval is None else f"{row.interval.low:.3g} .. {row.interval.high:.3g}"
        numbers = (_cell(row.estimate), span, _cell(row.p_value, 2), _cell(row.p_adjusted, 2))
        items = f"{row.n:,}" if row.verdict != MISSING else ""
        word = Text(row.verdict, style=_STYLES.get(row.verdict, ""))
        table.add_row(Text(f"{_title(row.kind)}{test}"), items, *numbers, word)
    return table


def _print_detail(row: Evidence, console: Console) -> None:
    """What was found, in words: with keys of items, why it decides nothing, and the command that makes it."""
    said = f"{_title(row.kind)}{f' ({row.test})' if row.test else ''}: {row.detail}"
    said += f" [{row.unit}]" if row.estimate is not None else ""
    is_beside = row.verdict == NOT_JUDGED and bool(row.matches)  # another rule of the same overlap: much the same items
    if row.examples and not is_beside:
        said += f"; such as {', '.join(_short(key) for key in row.examples)}"
    console.print(Text(f"- {_line(said)}"))
    if not is_beside:
        for key, match in zip(row.examples, row.matches, strict=bool(row.matches)):
            if match:
                console.print(Text(_line(f"  {_short(key)}: {_short(match, _MATCH)}")), style="dim")
    if row.doubt:
        console.print(Text(f"  {row.verdict}: {_line(row.doubt)}"), style="yellow")
    if row.command:  # in one line, so that it can be pasted
        console.print(Text(f"  {_line(row.command)}"), style="dim", soft_wrap=True)


def _settings(report: Report) -> str:
    options = report.options
    said = [f"adjusted p of at most {options.alpha:g} (Holm, over {report.tests} tests)"]
    said.append(f"overlap of more than {options.max_overlap:.3g} of the items ({options.rule.said})")
    splits = f" Dataset inference: {options.splits} splits, seed {options.seed}." if _has_inference(report) else ""
    return "\n" + "contaminated: " + ", or ".join(said) + f".{splits}"


def _has_inference(report: Report) -> bool:
    rows = (row for verdict in report.verdicts for row in verdict.evidence)
    return any(row.kind == INFERENCE and row.verdict != MISSING for row in rows)


def _title(kind: str) -> str:
    return kind.replace("_", " ")


def _cell(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _short(text: str, most: int = _KEY) -> str:
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def _line(text: str) -> str:
    """One line, whatever names and keys hold."""
    return printable(text.replace("\n", "\\n"))
