"""What `assay compare` prints and draws: a page for a reader, CSV or JSON with every number for a program."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.text import Text

from jobs.commands import joined
from jobs.compare.notes import said
from jobs.compare.pairs import Row
from jobs.compare.run import Compared
from jobs.errors import printable
from jobs.output import show_json, show_page, warn, write
from jobs.query import rich_table
from operators.comparison.profiles import MEAN
from schemas.comparisons import COMPARISONS

WIDTH = 130
MOST_ROWS = 40  # of the table for readers
_LEGEND = "root of the Jensen-Shannon divergence, base 2"


def show(found: Compared, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`; CSV is of the comparisons alone."""
    if fmt == "table":
        show_page(partial(print_report, found), output, WIDTH)
    elif fmt == "csv":
        written = io.BytesIO()
        pacsv.write_csv(pa.Table.from_pylist([*found.rows], schema=COMPARISONS.arrow()), written)
        write(written.getvalue(), output)
        warn(found.notes)
    else:
        show_json(report(found), output)


def report(found: Compared) -> dict[str, Any]:
    """Everything that was found, ready for JSON; what is not defined is null."""
    return {
        "comparison": found.options.name,
        "settings": found.options.settings,
        "comparisons": list(found.rows),
        "profiles": list(found.profiles),
        "facts": dict(found.facts),
        "notes": list(found.notes),
        "kept": found.path,
    }


def print_report(found: Compared, console: Console) -> None:
    """Corpora, differences with their tests, means of every corpus, what to beware of, and what to do next."""
    for each in found.facts["corpora"]:
        drawn = "" if each["documents"] == each["of"] else f" of {each['of']:,}"
        line = f"{said(each['name'])}: {each['documents']:,}{drawn} documents of run {each['run_id']}"
        console.print(Text(line), style="bold")
    console.print()
    shown = _shown(found.rows)
    console.print(rich_table(_differences(shown)))
    if len(shown) < len(found.rows):
        console.print(
            f"{len(shown)} of {len(found.rows):,} rows, js first and then the smallest p; --format csv has all"
        )
    console.print()
    console.print(rich_table(_means(found)))
    for note in found.notes:
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")
    console.print(Text(f"kept: {found.path}"), soft_wrap=True)
    sql = f"from corpus_profiles where comparison = '{found.options.name}'"  # a name has neither quotes nor dollars
    command = printable(joined(["assay", "sql", found.options.lake]))
    console.print(Text(f'quantiles: {command} "{sql}"'), soft_wrap=True)


def _shown(rows: Sequence[Row]) -> list[Row]:
    """All rows, or the `MOST_ROWS` that are looked for first."""
    if len(rows) <= MOST_ROWS:
        return list(rows)

    def rank(row: Row) -> tuple[bool, float]:
        return row["statistic"] != "js", 2.0 if row["p_adjusted"] is None else row["p_adjusted"]

    return sorted(rows, key=rank)[:MOST_ROWS]


def _differences(shown: Sequence[Row]) -> pa.Table:
    rows = [
        {
            "a": row["a"], "b": row["b"], "statistic": row["statistic"],
            "of": f"{row['n']}-gram {row['unit']}" if row["n"] else row["unit"],
            "value": _ranged(row), "null": "" if row["null_mean"] is None else f"{row['null_mean']:.4g}",
            "p": _p(row["p_value"]), "adjusted": _p(row["p_adjusted"]),
        }
        for row in shown
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def _means(found: Compared) -> pa.Table:
    rows: dict[str, dict[str, str]] = {}
    quantities = list(dict.fromkeys(row["quantity"] for row in found.profiles))
    for row in found.profiles:
        if row["quantile"] == MEAN:
            rows.setdefault(row["corpus"], {})[row["quantity"]] = _ranged(row)
    lines = [{"mean of": name} | {each: cells.get(each, "none") for each in quantities} for name, cells in rows.items()]
    return pa.Table.from_pylist(lines)


def _ranged(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "none"
    if row["value_low"] is None:
        return f"{row['value']:.4g}"
    return f"{row['value']:.4g} ({row['value_low']:.4g} .. {row['value_high']:.4g})"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def draw_figure(found: Compared, path: Path) -> None:
    """Two corpora: bars of their distances; more: a heat map of the first unit and length asked for."""
    from jobs.figures import Bar, draw_bars, draw_heatmap

    distances = [row for row in found.rows if row["statistic"] == "js_distance"]
    if len(found.names) == 2:
        bars = [
            Bar(f"{row['n']}-grams of {row['unit']}", row["value"], row["value_low"], row["value_high"])
            for row in distances
        ]
        draw_bars(path, bars, title=f"{found.names[0]} and {found.names[1]}", axis=_LEGEND)
        return
    unit, n = found.options.units[0], found.options.ngrams[0]
    place = {name: i for i, name in enumerate(found.names)}
    matrix = np.zeros((len(place), len(place)))
    for row in distances:
        if (row["unit"], row["n"]) == (unit, n):
            i, j = place[row["a"]], place[row["b"]]
            matrix[i, j] = matrix[j, i] = np.nan if row["value"] is None else row["value"]
    draw_heatmap(path, matrix, found.names, found.names, title=f"{n}-grams of {unit}", legend=_LEGEND)
