"""A matrix as a heat map: numbers in the cells while they can be read, hatched cells where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jobs.figures.style import GREY, MOST_ROWS, canvas, cut_title, plain, put_title, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

_MAP = "viridis"  # even steps of the number look even, in grey and to most kinds of sight
_MOST_WRITTEN = 15  # rows and columns up to which numbers are written
_NAMES, _BESIDE = 4.5, 2.0  # inches beside the cells; of them, what no title goes above
_COLUMN, _ROW = 0.62, 0.3  # inches
_THIN_COLUMN, _THIN_ROW = 0.22, 0.2  # and without numbers
_LARGEST_DRAWN = 2500  # cells; as shapes, more make a file of megabytes


@dataclass(frozen=True)
class Heatmap:
    """A matrix [R, C] with the names of its rows and columns; NaN and infinities are no numbers."""

    values: npt.NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)) or not self.values.size:
            raise ValueError(f"heat map: {self.values.shape} values for {len(self.rows)} x {len(self.columns)} names")

    def head(self, most: int) -> Heatmap:
        """At most the first `most` rows and columns."""
        return Heatmap(self.values[:most, :most], self.rows[:most], self.columns[:most])


def draw_heatmap(
    path: Path,
    values: npt.NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    legend: str,
    decimals: int = 2,
) -> None:
    """Draw a matrix, its first row at the top.

    Args:
        path: a name that ends in .svg or .png.
        values: [R, C]; NaN and infinities are hatched.
        rows, columns: names. Those after the first `MOST_ROWS` are left out, and the title says so.
        legend: what the numbers are, with their unit.
        decimals: of the numbers in the cells, written while there are at most 15 x 15.

    Raises:
        ValueError: an empty matrix, or not as many names as rows and columns.
    """
    whole = Heatmap(np.asarray(values, np.float64), rows, columns)
    shown = whole.head(MOST_ROWS)
    n_rows, n_columns = shown.values.shape
    is_written = max(n_rows, n_columns) <= _MOST_WRITTEN
    across, down = (_COLUMN, _ROW) if is_written else (_THIN_COLUMN, _THIN_ROW)
    longest = max(len(short_name(name)) for name in columns)
    width = _NAMES + across * n_columns
    with canvas(path, width, 1.5 + down * n_rows + 0.06 * longest) as figure:
        axes = figure.subplots()
        mesh = _draw(axes, shown.values)
        if is_written:
            _write(axes, mesh, shown.values, decimals)
        slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(np.arange(n_columns) + 0.5, [short_name(n) for n in shown.columns], fontsize=8, **slant)
        axes.set_yticks(np.arange(n_rows) + 0.5, [short_name(n) for n in shown.rows], fontsize=8)
        axes.tick_params(length=0)
        title = cut_title(title, n_rows, len(rows), "rows")
        put_title(axes, cut_title(title, n_columns, len(columns), "columns"), width - _BESIDE)
        figure.colorbar(mesh, label=plain(legend), shrink=min(1.0, 4.0 / (down * n_rows)), aspect=15)


def _draw(axes: Axes, values: npt.NDArray[np.float64]) -> QuadMesh:
    """The cells; the hatching lies below them and shows where a cell has no number."""
    from matplotlib.patches import Rectangle

    numbers = np.ma.masked_invalid(values)
    low, high = (0.0, 1.0) if numbers.count() == 0 else (float(numbers.min()), float(numbers.max()))
    n_rows, n_columns = values.shape
    axes.set(xlim=(0, n_columns), ylim=(n_rows, 0))
    for row, column in np.argwhere(np.ma.getmaskarray(numbers)):
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor="white", edgecolor=GREY, hatch="////", linewidth=0,
                                 gid=f"none-{row}-{column}"))  # fmt: skip
    mesh = axes.pcolormesh(numbers, cmap=_MAP, vmin=low, vmax=high, edgecolors="white", linewidth=0.5, gid="cells",
                           rasterized=values.size > _LARGEST_DRAWN)  # fmt: skip
    axes.spines[:].set_visible(False)
    return mesh


def _write(axes: Axes, mesh: QuadMesh, values: npt.NDArray[np.float64], decimals: int) -> None:
    """The number in each cell, dark on light cells and light on dark ones."""
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        red, green, blue, _ = mesh.to_rgba(np.array(value))
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axes.text(column + 0.5, row + 0.5, f"{value:.{decimals}f}", ha="center", va="center", fontsize=7,
                  color="black" if is_light else "white")  # fmt: skip
