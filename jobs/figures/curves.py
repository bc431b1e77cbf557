"""Lines over an axis, a colour and a stroke each, with a legend."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.figures.style import (
    COLOURS,
    STYLES,
    canvas,
    colour,
    cut_title,
    grid,
    line_style,
    plain,
    put_title,
    short_name,
)

Floats = npt.NDArray[np.float64]

_WIDTH, _BESIDE = 8.0, 3.0  # inches: of the page, and of it for the axis and a legend
_MOST_CURVES = len(COLOURS) * len(STYLES)  # after which the same stroke would come again
_MOST_POINTS = 2000  # of a curve: more are not seen, and make a file of megabytes


def draw_curves(
    path: Path, curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], *, title: str, x_axis: str, y_axis: str
) -> None:
    """Draw each curve through its points, in the order they are given.

    Args:
        path: a name that ends in .svg or .png.
        curves: name -> ([N] x, [N] y); NaN leaves a gap. Those after the 28th are left out, and the title says so;
            of a long curve 2000 points are drawn, evenly among them, the last included.
        x_axis, y_axis: what is along the axes, with its unit.

    Raises:
        ValueError: no curves, or x and y of unequal length.
    """
    if not curves:
        raise ValueError("curves: expected at least one")
    shown = dict(islice(curves.items(), _MOST_CURVES))
    with canvas(path, _WIDTH, 4.5 + 0.14 * max(0, len(shown) - 18)) as figure:
        axes = figure.subplots()
        lines = []
        for place, (x, y) in enumerate(shown.values()):
            along, up = _thinned(np.asarray(x, np.float64), np.asarray(y, np.float64))
            mark = "o" if along.size == 1 else ""
            lines += axes.plot(along, up, color=colour(place), linestyle=line_style(place), linewidth=1.3, marker=mark,
                               gid=f"curve-{place}")  # fmt: skip
        put_title(axes, cut_title(title, len(shown), len(curves), "curves"), _WIDTH - _BESIDE)
        axes.set_xlabel(plain(x_axis))
        axes.set_ylabel(plain(y_axis))
        axes.ticklabel_format(useOffset=False)
        grid(axes)
        if len(shown) > 1:
            figure.legend(lines, [short_name(name) for name in shown], loc="outside right upper", frameon=False,
                          fontsize=8)  # fmt: skip


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a curve: {x.shape} places for {y.shape} values")
    if x.size <= _MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, x.size - 1, _MOST_POINTS).astype(np.intp))
    return x[kept], y[kept]
