"""What `assay mixture doremi`, `select` and `correlate` share: rows of `mixtures`, kept, printed and drawn.

numbers by component --> rows of `mixtures` --> the lake, under the result's name
                                            --> a page, CSV or JSON, and a figure of bars
"""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from jobs.errors import printable
from jobs.figures import Bar, draw_bars
from jobs.output import show_json, show_page, warn, write
from operators.lake import Lake
from operators.results import check_free
from operators.scores.origin import State
from operators.storage.remote import redact
from schemas import MIXTURES
from schemas.results import MIXTURE

WIDTH = 120
Floats = npt.NDArray[np.float64]
_SCHEMA = pa.schema([field for field in MIXTURES.arrow() if field.name != "mixture"])


@dataclass(frozen=True)
class Keeping:
    """Where a result goes: the lake, the result's name, and the name that `--overwrite` repeats."""

    lake: str
    name: str
    overwrite: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def there(self) -> Lake:
        return Lake(self.lake, self.storage_options)

    def check(self) -> None:
        """Refuse a name that is taken.

        Raises:
            ResultError: as `check_free`.
        """
        check_free(self.there, MIXTURE, self.name, self.overwrite)


@dataclass(frozen=True)
class Shown:
    """One method's numbers as they are read: a title, the heading of `estimate`, and columns besides, by heading."""

    method: str
    title: str
    estimate: str
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A result before it is kept. `rows`: of `mixtures`; `shown`: the methods that a page has, in order.

    `notes`: what the numbers cannot show and what was left out; those that begin with "warning" stand out.
    """

    rows: pa.Table
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    shown: Sequence[Shown]
    notes: Sequence[str] = ()
    curves: pa.Table | None = None
    states: Mapping[str, State] = field(default_factory=dict)


def mixture_rows(method: str, components: Sequence[str], unit: str, **columns: Any) -> pa.Table:
    """Rows of `mixtures` for one method; a column is one value or one for each component, NaN is NULL."""
    n = len(components)
    values: dict[str, list[Any]] = {"method": [method] * n, "component": list(components), "unit": [unit] * n}
    for name, column in columns.items():
        listed = column.tolist() if isinstance(column, np.ndarray) else column
        values[name] = listed if isinstance(listed, list) else [listed] * n
    arrays = [
        pa.array([None if _is_nan(v) else v for v in values.get(each.name, [None] * n)], each.type) for each in _SCHEMA
    ]
    return pa.table(arrays, schema=_SCHEMA)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def keep(keeping: Keeping, found: Found) -> None:
    """Write the result and the catalog.

    Raises:
        ObjectError: the storage failed.
    """
    from pipelines.catalog import publish_result

    tables = {"mixtures": found.rows} | ({} if found.curves is None else {"mixture_curves": found.curves})
    publish_result(
        keeping.there, MIXTURE, keeping.name, tables, settings=found.settings, facts=found.facts, states=found.states
    )


def draw(path: Path, found: Found, title: str, axis: str, column: str = "share") -> None:
    """Bars of one column for the methods that are shown, side by side where there are several."""
    methods = [each.method for each in found.shown]
    bars = [
        Bar(row["component"], row[column], row[f"{column}_low"], row[f"{column}_high"], _series(row, methods))
        for row in found.rows.to_pylist()
        if row["method"] in methods
    ]
    draw_bars(path, bars, title=title, axis=axis)


def _series(row: Mapping[str, Any], methods: Sequence[str]) -> str:
    return str(row["method"]) if len(methods) > 1 else ""


def show(keeping: Keeping, found: Found, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(_print, keeping, found), output, WIDTH)
    elif fmt == "csv":
        written = io.BytesIO()
        pacsv.write_csv(found.rows, written)
        write(written.getvalue(), output)
        warn(found.notes)
    else:
        rows = found.rows.to_pylist()
        curves = None if found.curves is None else found.curves.to_pylist()
        said = {"mixture": keeping.name, "settings": found.settings, "facts": found.facts, "notes": list(found.notes)}
        show_json({**said, "mixtures": rows, "mixture_curves": curves}, output)


def _print(keeping: Keeping, found: Found, console: Console) -> None:
    rows = found.rows.to_pylist()
    for shown in found.shown:
        console.print(_table(shown, [row for row in rows if row["method"] == shown.method]))
    for note in found.notes:
        console.print(Text(printable(note)), style="bold yellow" if note.startswith("warning") else "")
    query = f"from mixtures where mixture = '{keeping.name}' order by method, share desc"  # a name has no quotes
    command = redact(f'assay sql {shlex.quote(keeping.lake)} "{query}"')
    console.print(Text(printable(f"kept as mixture {keeping.name}; next: {command}")), soft_wrap=True)


def _table(shown: Shown, rows: Sequence[Mapping[str, Any]]) -> RichTable:
    table = RichTable(title=Text(printable(shown.title)), title_justify="left", box=None, pad_edge=False)
    has_p = any(row["p_value"] is not None for row in rows)
    table.add_column("component", overflow="fold")
    for heading in (*shown.more, shown.estimate, "interval", *(["p (Holm)"] * has_p), "share", "interval"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("note")
    others = [dict(zip(shown.more, values, strict=True)) for values in zip(*shown.more.values(), strict=True)]
    pairs = list(zip(rows, others or [{}] * len(rows), strict=True))
    for row, more in sorted(pairs, key=lambda pair: _by_share(pair[0])):
        cells = [*more.values(), _number(row["estimate"]), _interval(row, "estimate")]
        cells += [f"{_p(row['p_value'])} ({_p(row['p_adjusted'])})"] * has_p
        cells += [_number(row["share"]), _interval(row, "share")]
        table.add_row(Text(printable(row["component"])), *map(Text, cells), Text(printable(row["note"] or "")))
    return table


def _by_share(row: Mapping[str, Any]) -> tuple[float, float, str]:
    share, estimate = (-1.0 if row[name] is None else row[name] for name in ("share", "estimate"))
    return -share, -estimate, row["component"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "-" if low is None else f"{low:.4f} .. {high:.4f}"


def named(items: Iterable[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    listed = list(items)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(map(repr, listed[:most])) + more
