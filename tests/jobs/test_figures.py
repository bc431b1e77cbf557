"""Figures: data lie where they belong, names from a corpus stay text, and the same data give the same bytes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from jobs.figures import Bar, Heatmap, check_figure, draw_bars, draw_curves, draw_heatmap
from jobs.figures.style import LONGEST_NAME, MOST_ROWS, plain, short_name
from pipelines.config import ConfigError

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "$\\frac{ </text><script>alert(1)</script>&\x00\x1b[31m\n"
LONG = "www." + "x" * 200 + ".example"
NAN = math.nan


def groups(path: Path) -> dict[str, ElementTree.Element]:
    """The elements of a figure by id."""
    return {each.get("id", ""): each for each in ElementTree.parse(path).iter() if each.get("id")}


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ElementTree.parse(path).iter(f"{SVG}text")]


def xs(element: ElementTree.Element) -> list[float]:
    """Where the first path of an element goes, from left to right."""
    path = next(element.iter(f"{SVG}path"))
    return sorted(float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", path.get("d", "")))


def ys(element: ElementTree.Element) -> list[float]:
    path = next(element.iter(f"{SVG}path"))
    return sorted(float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d", "")))


# Bars


def bars(n: int) -> list[Bar]:
    rng = np.random.default_rng(n)
    return [Bar(f"domain {i}", *rng.uniform([0.5, 0.1, 1.1], [1, 0.4, 1.5])) for i in range(n)]


@pytest.mark.parametrize("n", [1, 3, 60])
def test_bars_and_whiskers_lie_at_the_datas_places(tmp_path: Path, n: int) -> None:
    path, data = tmp_path / "bars.svg", bars(n)
    draw_bars(path, data, title="fit", axis="bits per byte", reference=0.75)
    found = groups(path)
    origin, end = xs(found["bar-0-0"])[0], xs(found["bar-0-0"])[-1]
    assert data[0].value is not None
    scale = (end - origin) / data[0].value
    heights = []
    for row, bar in enumerate(data):
        assert xs(found[f"bar-{row}-0"])[-1] == pytest.approx(origin + scale * (bar.value or 0), abs=1e-3)
        ends = [origin + scale * (each or 0) for each in (bar.low, bar.high)]
        assert xs(found[f"whisker-{row}-0"]) == pytest.approx(ends, abs=1e-3)
        heights.append(ys(found[f"bar-{row}-0"]))
    assert xs(found["reference"]) == pytest.approx([origin + 0.75 * scale] * 2, abs=1e-3)
    assert all(above[-1] < below[0] for above, below in pairwise(heights))  # the first on top
    assert all(bottom - top > 8 for top, bottom in ((each[0], each[-1]) for each in heights))  # points: legible
    assert [name for name in texts(path) if name.startswith("domain")] == [bar.label for bar in data]


def test_series_stand_side_by_side_with_a_legend(tmp_path: Path) -> None:
    path = tmp_path / "bars.svg"
    data = [
        Bar(label, value, None, None, series) for label, value in (("a", 1.0), ("b", 2.0)) for series in ("r", "_s")
    ]
    draw_bars(path, data, title="", axis="")
    found = groups(path)
    assert {name for name in found if name.startswith("bar-")} == {"bar-0-0", "bar-0-1", "bar-1-0", "bar-1-1"}
    assert not [name for name in found if name.startswith("whisker")]
    assert ys(found["bar-0-0"])[-1] <= ys(found["bar-0-1"])[0]
    styles = [next(found[f"bar-0-{i}"].iter(f"{SVG}path")).get("style", "") for i in range(2)]
    assert "#0072b2" in styles[0]
    assert "#d55e00" in styles[1]
    assert {"r", "_s"} <= set(texts(path))


def test_series_beyond_the_colours_are_hatched_and_a_page_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.figures.bars._MOST_BARS", 90)
    path = tmp_path / "bars.svg"
    data = [Bar(f"d{i}", 1.0, 0.9, 1.1, f"r{j}") for i in range(40) for j in range(30)]
    draw_bars(path, data, title="fit", axis="")
    found = groups(path)
    styles = [next(found[f"bar-0-{j}"].iter(f"{SVG}path")).get("style", "") for j in range(21)]
    assert len(set(styles)) == 21
    assert "fit (the first 3 of 40 names)" in texts(path)
    height = ElementTree.parse(path).getroot().get("height", "")
    assert float(height.removesuffix("pt")) / 72 < 10  # inches


@pytest.mark.parametrize("kind", range(3))
def test_a_long_title_stays_on_the_page(tmp_path: Path, kind: int) -> None:
    path, word = tmp_path / "figure.svg", "r" * 128
    drawn(path, "domain", word)[kind](path)
    lines = [text for text in texts(path) if text.startswith("rr")]
    width = float(ElementTree.parse(path).getroot().get("width", "").removesuffix("pt")) / 72
    assert "".join(lines) == word
    assert max(map(len, lines)) * 0.083 < width


def test_places_without_a_number_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "bars.svg"
    data = [
        Bar("a", 1.0, NAN, 2.0),
        Bar("b", None, None, None),
        Bar("c", NAN, 0.1, 0.2),
        Bar("d", math.inf, None, None),
    ]
    draw_bars(path, data, title="", axis="")
    found = groups(path)
    assert {"bar-0-0", "empty-1-0", "empty-2-0", "empty-3-0"} <= set(found)
    assert not {name for name in found if name.startswith("whisker")} | {"bar-1-0", "bar-2-0", "bar-3-0"} & set(found)
    assert texts(path).count("no value") == 3


def test_bars_that_cannot_be_drawn(tmp_path: Path) -> None:
    for data in ([], [Bar("a", 1.0, None, None)] * 2):
        with pytest.raises(ValueError, match="expected one a label and series"):
            draw_bars(tmp_path / "bars.svg", data, title="", axis="")
    assert not list(tmp_path.iterdir())


# Heat maps


def test_cells_show_their_numbers_and_hatching_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "heat.svg"
    values = np.array([[0.125, NAN], [3.5, 2.0], [math.inf, 1.0]])
    draw_heatmap(path, values, ["r0", "r1", "r2"], ["c0", "c1"], title="fit", legend="bits per byte", decimals=3)
    found, said = groups(path), texts(path)
    assert {name for name in found if name.startswith("none-")} == {"none-0-1", "none-2-0"}
    assert {"0.125", "3.500", "2.000", "1.000", "r0", "r1", "r2", "c0", "c1", "bits per byte", "fit"} <= set(said)
    assert not {"nan", "inf"} & set(said)
    fills = [each.get("style", "") for each in found["cells"].iter(f"{SVG}path")]
    assert "#440154" in fills[0]  # the smallest number
    assert "fill: none" in fills[1]
    assert "#fde725" in fills[2]  # the largest


@pytest.mark.parametrize(("n", "is_written"), [(15, True), (16, False)])
def test_numbers_are_written_while_they_can_be_read(tmp_path: Path, n: int, is_written: bool) -> None:
    path = tmp_path / "heat.svg"
    values = np.full((2, n), 7.125)
    draw_heatmap(path, values, ["a", "b"], [f"c{i}" for i in range(n)], title="", legend="", decimals=4)
    assert texts(path).count("7.1250") == (2 * n if is_written else 0)


def test_a_matrix_without_any_number_is_drawn(tmp_path: Path) -> None:
    draw_heatmap(tmp_path / "heat.svg", np.full((2, 2), NAN), ["a", "b"], ["c", "d"], title="", legend="")
    assert len([name for name in groups(tmp_path / "heat.svg") if name.startswith("none-")]) == 4


def test_a_matrix_has_names_for_its_rows_and_columns() -> None:
    for shape in ((2, 3), (0, 0), (3, 2)):
        with pytest.raises(ValueError, match="heat map"):
            Heatmap(np.zeros(shape), ["a"] * shape[1], ["b"] * shape[1])


# Curves


def test_curves_go_through_their_points(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    draw_curves(path, {"a": ([0, 1, 4], [0, 5, 2]), "_b": ([2], [3])}, title="t", x_axis="step", y_axis="nats")
    found = groups(path)
    first, second, third = xs(found["curve-0"])
    assert (second - first) / (third - first) == pytest.approx(1 / 4)
    assert {"a", "_b", "t", "step", "nats"} <= set(texts(path))
    assert "curve-1" in found


def test_a_long_curve_is_thinned_and_keeps_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    n = 100_000
    draw_curves(path, {"a": (np.arange(n), np.random.default_rng(0).random(n))}, title="", x_axis="", y_axis="")
    places = xs(groups(path)["curve-0"])
    assert len(places) <= 2000
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"\(3,\) places for \(2,\) values"):
        draw_curves(path, {"a": ([1, 2, 3], [1, 2])}, title="", x_axis="", y_axis="")
    with pytest.raises(ValueError, match="at least one"):
        draw_curves(path, {}, title="", x_axis="", y_axis="")


# All of them


def drawn(path: Path, name: str = "domain", title: str | None = None) -> list[Callable[[Path], None]]:
    """Every kind of figure, with a name in every place that takes one."""
    title = name if title is None else title
    values = np.random.default_rng(0).random((3, 2))
    names = [f"{name}{i}" for i in range(3)]
    return [
        lambda path: draw_bars(
            path, [Bar(n, 0.5, 0.1, 0.9, s) for n in names for s in names[:2]], title=title, axis=name
        ),
        lambda path: draw_heatmap(path, values, names, names[:2], title=title, legend=name),
        lambda path: draw_curves(path, {n: ([0, 1], [1, 2]) for n in names}, title=title, x_axis=name, y_axis=name),
    ]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
@pytest.mark.parametrize("kind", range(3))
def test_the_same_data_give_the_same_bytes(tmp_path: Path, kind: int, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        drawn(file)[kind](file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert b"<dc:date>" not in first
    assert first.startswith(b"<?xml" if suffix == ".svg" else b"\x89PNG")


@pytest.mark.parametrize("kind", range(3))
def test_hostile_names_stay_text(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "figure.svg"
    drawn(path, HOSTILE)[kind](path)
    raw = path.read_text(encoding="utf-8")
    assert "<script" not in raw
    assert not set(raw) & {"\x00", "\x1b"}
    assert any("$\\frac{" in text and "\\x00" in text for text in texts(path))


def test_names_are_shortened_and_told_apart_at_their_ends(tmp_path: Path) -> None:
    names = [f"{LONG}{i}" for i in range(2)]
    short = [short_name(name) for name in names]
    assert short[0] != short[1]
    assert {len(name) for name in short} == {LONGEST_NAME}
    assert short_name("x" * LONGEST_NAME) == "x" * LONGEST_NAME
    draw_bars(tmp_path / "bars.svg", [Bar(name, 1.0, None, None) for name in names], title="", axis="")
    assert set(short) <= set(texts(tmp_path / "bars.svg"))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("français, Ελληνικά, Кириллица", "français, Ελληνικά, Кириллица"),
        ("日本", "\\u65e5\\u672c"),  # not in the font
        ("\u05d0\u202eb", "\\u05d0\\u202eb"),  # from right to left, and what turns the direction
        ("a\tb\nc\x7f", "a\\tb\\nc\\x7f"),
        ("e\u0301", "e\\u0301"),  # combining
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_written_of_a_name(name: str, written: str) -> None:
    assert plain(name) == written


def test_more_names_than_can_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    n = MOST_ROWS + 7
    draw_bars(tmp_path / "bars.svg", bars(n), title="fit", axis="")
    assert "fit (the first 100 of 107 names)" in texts(tmp_path / "bars.svg")
    assert len([name for name in groups(tmp_path / "bars.svg") if name.startswith("bar-")]) == MOST_ROWS
    names = [f"{i}" for i in range(n)]
    draw_heatmap(tmp_path / "heat.svg", np.zeros((n, 2)), names, names[:2], title="fit", legend="")
    assert "fit (the first 100 of 107 rows)" in texts(tmp_path / "heat.svg")
    curves = {name: ([0.0, 1.0], [0.0, 1.0]) for name in names[:30]}
    draw_curves(tmp_path / "curves.svg", curves, title="fit", x_axis="", y_axis="")
    assert "fit (the first 28 of 30 curves)" in texts(tmp_path / "curves.svg")


def test_a_figure_is_refused_before_the_work(tmp_path: Path) -> None:
    check_figure(None)
    check_figure(tmp_path / "a.SVG")
    check_figure(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"ends in \.svg or \.png"):
        check_figure(tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="there is no folder"):
        check_figure(tmp_path / "none" / "a.svg")


def test_matplotlib_is_loaded_when_something_is_drawn() -> None:
    code = (
        "import sys; from jobs.figures import check_figure; check_figure(None); sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
