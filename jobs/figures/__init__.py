"""Figures: bars with intervals, heat maps and curves, as SVG or PNG, the same bytes every time.

    draw_bars      shares or scores by name, whiskers, series side by side
    draw_heatmap   a matrix with its numbers
    draw_curves    lines over an axis
    check_figure   before any work: can a file of this name be drawn?

Names come from corpora, so they are written as plain text: no formulas, no control characters, long ones shortened.
matplotlib is loaded when the first figure is drawn.
"""

from __future__ import annotations

from jobs.figures.bars import Bar, draw_bars
from jobs.figures.curves import draw_curves
from jobs.figures.heatmap import Heatmap, draw_heatmap
from jobs.figures.style import check_figure

__all__ = ["Bar", "Heatmap", "check_figure", "draw_bars", "draw_curves", "draw_heatmap"]
