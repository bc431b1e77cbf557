"""ROC curves as a figure, once over all false-positive rates and once over small ones: SVG or PNG, the same every time.

The left panel is what AUROC sums up; the right one, on logarithmic axes, is where an attack is judged: how many members
are found at a false-positive rate that somebody could live with (Carlini et al. 2022, arXiv 2112.03570).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.errors import printable
from operators.evaluation import Evaluation
from operators.evaluation.classes import Floats, split
from operators.evaluation.roc import roc_curve

# Okabe and Ito's colours, told apart by most kinds of sight; then the same again, dashed and dotted.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STYLES = ("-", "--", ":", "-.")
_MOST_POINTS = 2000  # of a curve: more are not seen, and make a file of megabytes
_DPI = 150


def draw_roc(path: Path, values: Mapping[str, Floats], labels: Floats, evaluations: Sequence[Evaluation]) -> None:
    """Draw every score that has both classes, highest AUROC first.

    Args:
        path: a name that ends in .svg or .png.
        values: name -> [N] scores.
        labels: [N] 1 or 0.
        evaluations: the scores to draw, with the AUROC for the legend.
    """
    drawn = sorted((each for each in evaluations if not np.isnan(each.auroc)), key=lambda each: -each.auroc)
    with matplotlib.rc_context({"svg.hashsalt": "assay", "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11, 4.4 + 0.14 * max(0, len(drawn) - 18)), layout="constrained")
        linear, low = figure.subplots(1, 2)
        floor = 0.5 / max(2, int((labels == 0).sum()))
        for place, each in enumerate(drawn):
            fpr, tpr, _ = roc_curve(split(values[each.name], labels))
            fpr, tpr = _thinned(np.r_[0.0, fpr], np.r_[0.0, tpr])
            style = {
                "color": _COLOURS[place % len(_COLOURS)],
                "linestyle": _STYLES[place // len(_COLOURS) % len(_STYLES)],
                "linewidth": 1.3,
                "drawstyle": "steps-post",
            }
            linear.plot(fpr, tpr, label=f"line {place}", **style)
            low.plot(np.maximum(fpr, floor), np.maximum(tpr, floor), **style)
        _dress(linear, low, floor)
        names = [f"{_plain(each.name)}  {each.auroc:.3f}" for each in drawn]
        legend = figure.legend(linear.get_lines()[: len(drawn)], names, loc="outside right upper", title="score, AUROC",
                               frameon=False, fontsize=8)  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
        is_svg = path.suffix.lower() == ".svg"
        canvas = FigureCanvasSVG(figure) if is_svg else FigureCanvasAgg(figure)
        canvas.print_figure(path, dpi=_DPI, metadata={"Date": None} if is_svg else {"Software": None})


def _dress(linear: Axes, low: Axes, floor: float) -> None:
    """Axes, chance lines and grids."""
    linear.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    along = np.geomspace(floor, 1, 50)
    low.plot(along, along, color="#999999", linewidth=0.8, linestyle=":")
    linear.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    low.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1), aspect="equal")
    for axes in (linear, low):
        axes.set_xlabel("false-positive rate")
        axes.grid(color="#dddddd", linewidth=0.5)
    linear.set_ylabel("true-positive rate")


def _thinned(fpr: Floats, tpr: Floats) -> tuple[Floats, Floats]:
    """At most `_MOST_POINTS` of a curve, half evenly along it and half evenly along the logarithm, ends included."""
    if fpr.size <= _MOST_POINTS:
        return fpr, tpr
    evenly = np.linspace(0, fpr.size - 1, _MOST_POINTS // 2)
    early = np.geomspace(1, fpr.size, _MOST_POINTS // 2) - 1
    kept = np.unique(np.concatenate([evenly, early]).astype(np.intp))
    return fpr[kept], tpr[kept]


def _plain(name: str) -> str:
    """A name in ASCII, for the figure's font has not every letter; underscores at its start would hide it."""
    return printable(name).encode("ascii", "backslashreplace").decode()
