"""Horizontal bars with intervals: one name a row, one colour a series, the scale from zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from jobs.figures.style import GREY, MOST_ROWS, canvas, colour, cut_title, grid, hatch, plain, put_title, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _BESIDE = 8.0, 3.0  # inches: of the page, and of it for names and a legend
_GAP = 0.12  # inches between rows
_BAR, _THIN, _SERIES = 0.2, 0.07, 0.6  # inches of a bar: of few series, of many, and of all of a row in between
_MOST_BARS = 600  # on a page that is not metres long
_ALPHA = 0.75
_FILL = 0.8  # of a row's height that its bars take


@dataclass(frozen=True)
class Bar:
    """A number and its interval. None, NaN and infinities are no number: an empty place, marked, or no whisker."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    series: str = ""


def draw_bars(path: Path, bars: Sequence[Bar], *, title: str, axis: str, reference: float | None = None) -> None:
    """Draw bars in the order given, the first at the top; bars of one label share a row, series by series.

    Args:
        path: a name that ends in .svg or .png.
        bars: at most one a label and series. Labels after the first `MOST_ROWS`, or 600 bars, are left out, and the
            title says so. Series after the seventh are hatched.
        axis: what the numbers are, with their unit.
        reference: where a dashed line is drawn, for what the numbers are compared with.

    Raises:
        ValueError: no bars, or two of one label and series.
    """
    labels = list(dict.fromkeys(bar.label for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    if not bars or len({(bar.label, bar.series) for bar in bars}) < len(bars):
        raise ValueError("bars: expected one a label and series, and at least one")
    from matplotlib.patches import Patch

    shown = labels[: max(1, min(MOST_ROWS, _MOST_BARS // len(series)))]
    thick = min(_BAR, max(_THIN, _SERIES / len(series)))
    height = 1.3 + len(shown) * (_GAP + thick * len(series))
    with canvas(path, _WIDTH, height) as figure:
        axes = figure.subplots()
        for bar in bars:
            if bar.label in shown:
                _draw(axes, bar, shown.index(bar.label), series.index(bar.series), len(series))
        axes.set_yticks(range(len(shown)), [short_name(label) for label in shown], fontsize=8)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        put_title(axes, cut_title(title, len(shown), len(labels), "names"), _WIDTH - _BESIDE)
        axes.set_xlabel(plain(axis))
        grid(axes, along="x")
        axes.axvline(0, color=GREY, linewidth=0.8)
        if reference is not None:
            axes.axvline(reference, color="black", linewidth=0.9, linestyle="--", gid="reference")
        if len(series) > 1:
            handles = [Patch(**_look(place)) for place in range(len(series))]
            figure.legend(handles, [short_name(name) for name in series], loc="outside right upper", frameon=False,
                          fontsize=8)  # fmt: skip


def _draw(axes: Axes, bar: Bar, row: int, series: int, n_series: int) -> None:
    """One bar, its whisker, or the mark of an empty place."""
    thick = _FILL / n_series
    at = row + thick * (series - (n_series - 1) / 2)
    if not _is_number(bar.value):
        axes.text(0, at, " no value", va="center", fontsize=7, color=GREY, style="italic", gid=f"empty-{row}-{series}")
        return
    axes.barh(at, bar.value, 0.92 * thick, gid=f"bar-{row}-{series}", **_look(series))
    if _is_number(bar.low) and _is_number(bar.high):
        axes.plot([bar.low, bar.high], [at, at], color="black", linewidth=1, marker="|", markersize=5,
                  gid=f"whisker-{row}-{series}")  # fmt: skip


def _look(series: int) -> dict[str, Any]:
    """How the bars of a series are filled."""
    marks = hatch(series)
    edge = {"hatch": marks, "edgecolor": "white", "linewidth": 0} if marks else {}
    return {"facecolor": colour(series), "alpha": _ALPHA, **edge}


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)
