"""The figure of a summary: the main numbers over the nights, with their intervals and changes of level, as SVG text.

A panel a number, at most MOST_PANELS: those with news first, then the usual ones, then those whose changes are known.
Grey bands are the confidence sets of dates of changes; dashed lines the first nights of new levels. Names of measures
are ours; names of domains and scores are drawn as `jobs.figures.style` does, and matplotlib escapes what it writes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.figures.style import COLOURS, GREY, PALE, canvas, grid, plain
from jobs.nightly.known import Told
from jobs.nightly.summary_rows import Rows
from jobs.nightly.summary_text import title
from operators.nights.judge import Key
from operators.nights.measures import BITS_PER_BYTE, ONE_BYTE_SHARE, REJECTS_SHARE, REPEATED_SHARE, TOKENS_PER_BYTE
from schemas.nights import ALL, STEP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 6
_USUAL = (BITS_PER_BYTE, TOKENS_PER_BYTE, REJECTS_SHARE, ONE_BYTE_SHARE, REPEATED_SHARE, "log_document_bytes")
_WIDTH, _PANEL = 7.2, 1.7  # inches
_LONGEST_TITLE = 80
_RED = "#b00020"
_DAY = timedelta(days=1)


def figure_svg(history: Mapping[Key, Rows], verdicts: Sequence[Told]) -> str:
    """The figure as `<svg ...>...</svg>`, to stand in a page; empty where there is nothing to draw."""
    chosen = _chosen(history, verdicts)
    if not chosen:
        return ""
    with tempfile.TemporaryDirectory(prefix="assay-night-") as folder:
        path = Path(folder) / "night.svg"
        with canvas(path, _WIDTH, _PANEL * len(chosen) + 0.3) as figure:
            panels = figure.subplots(len(chosen), squeeze=False, sharex=True)[:, 0]
            for axes, key in zip(panels, chosen, strict=True):
                _draw(axes, key, history[key], [told for told in verdicts if told.verdict.key == key])
            figure.autofmt_xdate()
        text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)


def _chosen(history: Mapping[Key, Rows], verdicts: Sequence[Told]) -> list[Key]:
    found = [told for told in verdicts if told.verdict.is_finding]
    news, known = ([told.verdict.key for told in found if told.is_new is is_new] for is_new in (True, False))
    usual = [(name, ALL, "") for name in _USUAL]
    return [key for key in dict.fromkeys([*news, *usual, *known]) if key in history][:MOST_PANELS]


def _noon(day: date) -> Any:
    """Half a day after the place of a night: matplotlib takes moments, its types know numbers alone."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _draw(axes: Axes, key: Key, rows: Rows, told: Sequence[Told]) -> None:
    days: list[Any] = [date.fromisoformat(row["date"]) for row in rows]
    values = [row["value"] for row in rows]
    for verdict in (each.verdict for each in told if each.verdict.verdict == STEP):
        if verdict.since and verdict.since_low and verdict.since_high:
            axes.axvspan(_noon(verdict.since_low) - _DAY, _noon(verdict.since_high), color=PALE, zorder=0)
            axes.axvline(_noon(verdict.since) - _DAY / 2, color=_RED, linestyle="--", linewidth=1)
    spans = [(day, row["value_low"], row["value_high"]) for day, row in zip(days, rows, strict=True)]
    if known := [span for span in spans if None not in span]:
        axes.vlines(*zip(*known, strict=True), color=GREY, linewidth=1)
    axes.plot(days, values, color=COLOURS[0], linewidth=1, marker="o", markersize=3)
    axes.plot(days[-1:], values[-1:], color=_RED, marker="o", markersize=6, markerfacecolor="none")
    said = plain(title(key))
    axes.set_title(said if len(said) <= _LONGEST_TITLE else f"{said[:_LONGEST_TITLE]}...", fontsize=9, loc="left")
    axes.set_ylabel(plain(rows[-1]["unit"]), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.ticklabel_format(axis="y", useOffset=False)
    grid(axes)
