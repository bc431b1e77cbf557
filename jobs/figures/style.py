"""What every figure shares: colours, how a name is written, and a canvas whose file is the same every time."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.errors import printable
from pipelines.config import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by most kinds of sight; then the same again, dashed and dotted, or hatched.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx")
GREY, PALE = "#999999", "#dddddd"
DPI = 150
SUFFIXES = (".svg", ".png")
LONGEST_NAME = 40  # characters; a longer one pushes the figure off the page
MOST_ROWS = 100  # names along one side of a figure: more cannot be read, and make a page of metres
_FONT = "DejaVu Sans"
_CHARACTER = 0.083  # inches of a letter of a title


def check_figure(path: Path | None) -> None:
    """Refuse a file that could not be drawn; None asks for no figure. Call before any work.

    Raises:
        ConfigError: another ending than .svg or .png, or a folder that is not there.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--figure {path}: expected a name that ends in .svg or .png")
    if not path.parent.is_dir():
        raise ConfigError(f"--figure: there is no folder {str(path.parent)!r}")


@contextmanager
def canvas(path: Path, width: float, height: float, *, math: bool = False) -> Iterator[Figure]:
    """An empty figure of `width` x `height` inches, written to `path` when the block ends without an error.

    math: whether text may hold formulas; logarithmic axes need them, names from a corpus must not have them.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    fixed: dict[Any, Any] = {
        "svg.hashsalt": "assay",
        "svg.fonttype": "none",
        "font.family": _FONT,
        "text.parse_math": math,
    }
    with matplotlib.rc_context(fixed):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        is_svg = path.suffix.lower() == ".svg"
        surface = FigureCanvasSVG(figure) if is_svg else FigureCanvasAgg(figure)
        surface.print_figure(path, dpi=DPI, metadata={"Date": None} if is_svg else {"Software": None})


def colour(place: int) -> str:
    """The colour of the series at this place."""
    return COLOURS[place % len(COLOURS)]


def line_style(place: int) -> str:
    """How the line at this place is stroked: solid as long as there are colours."""
    return STYLES[place // len(COLOURS) % len(STYLES)]


def hatch(place: int) -> str:
    """How the bars at this place are hatched: not at all as long as there are colours."""
    return HATCHES[place // len(COLOURS) % len(HATCHES)]


def grid(axes: Axes, *, along: Literal["both", "x", "y"] = "both") -> None:
    """A pale grid behind the data, no box around it."""
    axes.grid(axis=along, color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def ascii_name(name: str) -> str:
    """A name with everything but printable ASCII escaped."""
    return printable(name).encode("ascii", "backslashreplace").decode()


def plain(text: str) -> str:
    """A text on one line: letters that the font has as they are, control and all other characters escaped."""
    return "".join(c if " " <= c <= "~" or _is_drawn(c) else c.encode("unicode_escape").decode() for c in text)


def short_name(name: str) -> str:
    """`plain`, its middle left out where it is longer than `LONGEST_NAME`: names often differ at the end."""
    name = plain(name)
    if len(name) <= LONGEST_NAME:
        return name
    tail = LONGEST_NAME // 3
    return f"{name[: LONGEST_NAME - tail - 1]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"


def cut_title(title: str, shown: int, total: int, what: str) -> str:
    """The title, with how many are drawn where not all are."""
    return title if shown == total else f"{title} (the first {shown} of {total} {what})"


def put_title(axes: Axes, title: str, width: float) -> None:
    """Write a title above the axes, in as many lines of `width` inches as it takes: a longer one would be cut."""
    axes.set_title("\n".join(textwrap.wrap(plain(title), int(width / _CHARACTER))), fontsize=10)


def _is_drawn(char: str) -> bool:
    """Whether a letter outside ASCII can be drawn: in the font, from left to right, standing by itself."""
    return char.isalnum() and unicodedata.bidirectional(char) == "L" and ord(char) in _letters()


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_FONT)).get_charmap())
