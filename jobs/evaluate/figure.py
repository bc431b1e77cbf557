"""ROC curves as a figure, once over all false-positive rates and once over small ones: SVG or PNG, the same every time.

The left panel is what AUROC sums up; the right one, on logarithmic axes, is where an attack is judged: how many members
are found at a false-positive rate that somebody could live with (Carlini et al. 2022, arXiv 2112.03570).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.figures.style import GREY, PALE, ascii_name, canvas, colour, line_style
from operators.evaluation import Evaluation
from operators.evaluation.classes import Floats, split
from operators.evaluation.roc import roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 2000  # of a curve: more are not seen, and make a file of megabytes


def draw_roc(path: Path, values: Mapping[str, Floats], labels: Floats, evaluations: Sequence[Evaluation]) -> None:
    """Draw every score that has both classes, highest AUROC first.

    Args:
        path: a name that ends in .svg or .png.
        values: name -> [N] scores.
        labels: [N] 1 or 0.
        evaluations: the scores to draw, with the AUROC for the legend.
    """
    drawn = sorted((each for each in evaluations if not np.isnan(each.auroc)), key=lambda each: -each.auroc)
    with canvas(path, 11, 4.4 + 0.14 * max(0, len(drawn) - 18), math=True) as figure:
        linear, low = figure.subplots(1, 2)
        floor = 0.5 / max(2, int((labels == 0).sum()))
        for place, each in enumerate(drawn):
            fpr, tpr, _ = roc_curve(split(values[each.name], labels))
            fpr, tpr = _thinned(np.r_[0.0, fpr], np.r_[0.0, tpr])
            style: dict[str, Any] = {
                "color": colour(place),
                "linestyle": line_style(place),
                "linewidth": 1.3,
                "drawstyle": "steps-post",
            }
            linear.plot(fpr, tpr, label=f"line {place}", **style)
            low.plot(np.maximum(fpr, floor), np.maximum(tpr, floor), **style)
        _dress(linear, low, floor)
        names = [f"{ascii_name(each.name)}  {each.auroc:.3f}" for each in drawn]
        legend = figure.legend(linear.get_lines()[: len(drawn)], names, loc="outside right upper", title="score, AUROC",
                               frameon=False, fontsize=8)  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)


def _dress(linear: Axes, low: Axes, floor: float) -> None:
    """Axes, chance lines and grids."""
    linear.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    along = np.geomspace(floor, 1, 50)
    low.plot(along, along, color=GREY, linewidth=0.8, linestyle=":")
    linear.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    low.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1), aspect="equal")
    for axes in (linear, low):
        axes.set_xlabel("false-positive rate")
        axes.grid(color=PALE, linewidth=0.5)
    linear.set_ylabel("true-positive rate")


def _thinned(fpr: Floats, tpr: Floats) -> tuple[Floats, Floats]:
    """At most `_MOST_POINTS` of a curve, half evenly along it and half evenly along the logarithm, ends included."""
    if fpr.size <= _MOST_POINTS:
        return fpr, tpr
    evenly = np.linspace(0, fpr.size - 1, _MOST_POINTS // 2)
    early = np.geomspace(1, fpr.size, _MOST_POINTS // 2) - 1
    kept = np.unique(np.concatenate([evenly, early]).astype(np.intp))
    return fpr[kept], tpr[kept]
