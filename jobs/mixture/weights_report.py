"""What `assay mixture weights` prints and draws: shares with intervals, what they cannot show, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from jobs.commands import joined
from jobs.errors import printable
from jobs.figures import Bar, draw_bars
from jobs.mixture.weights import Weights
from jobs.mixture.weights_fit import Estimate
from jobs.output import show_json, show_page, warn, write
from jobs.query import rich_table, write_rows
from schemas.mixtures import MIXTURES

WIDTH = 120


def show(found: Weights, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, found), output, WIDTH)
    elif fmt == "json":
        show_json(report(found), output)
    else:
        write(_csv(found), output)
        warn(found.notes)


def draw(found: Weights, figure: Path) -> None:
    """Bars of the shares, grain beside grain."""
    bars = [
        Bar(row["component"], row["share"], row["share_low"], row["share_high"], f"share of {row['unit']}")
        for each in found.estimates
        for row in each.rows
    ]
    what = " or of ".join(each.rows[0]["unit"] for each in found.estimates)
    draw_bars(
        figure, bars, title=f"mixture {found.options.name}, {found.documents:,} documents", axis=f"share of {what}"
    )


def report(found: Weights) -> dict[str, Any]:
    """Everything that was found, posteriors apart, ready for JSON."""
    return {
        "mixture": found.options.name,
        "settings": found.options.settings,
        "documents": found.documents,
        "left_out": dict(found.left_out),
        "fits": [
            {
                "method": each.method,
                "converged": each.fit.has_converged,
                "steps": [{"objective": step.objective, "gap": step.gap} for step in each.fit.steps],
                "certain_documents": each.certain,
                "components": [dict(row) for row in each.rows],
            }
            for each in found.estimates
        ],
        "kept": found.kept,
        "notes": list(found.notes),
    }


def print_report(found: Weights, console: Console) -> None:
    """A table a grain, notes, and where the rows lie."""
    options = found.options
    said = f"mixture {options.name}: {found.documents:,} documents, {len(options.components)} components"
    console.print(Text(printable(said), style="bold"))
    for each in found.estimates:
        console.print()
        _print_estimate(each, console)
    console.print()
    for note in found.notes:
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")
    sql = f"from mixture_posteriors where mixture = '{options.name}' order by doc_id, posterior desc limit 20"
    console.print(Text(f"kept: {found.kept}; posteriors by document:"), soft_wrap=True)
    command = joined(["assay", "sql", options.lake])  # the name is letters, digits and dashes: safe in double quotes
    console.print(Text(f'  {printable(command)} "{sql}"'), soft_wrap=True)


def _print_estimate(each: Estimate, console: Console) -> None:
    last = each.fit.steps[-1]
    state = "to the optimum" if each.fit.has_converged else "NOT to the optimum"
    console.print(
        f"{each.method}: {each.n:,} {each.rows[0]['unit']}, {len(each.fit.steps) - 1} steps {state}, "
        f"mean log-likelihood {last.objective:.4f} nats (at most {last.gap:.1g} better)"
    )
    rows = [
        {"component": row["component"], **dict(_cells(f"% of {row['unit']}", row, "share")),
         **dict(_cells("% of bytes", row, "estimate"))}
        for row in each.rows
    ]  # fmt: skip
    console.print(rich_table(pa.Table.from_pylist(rows)))


def _cells(title: str, row: Any, name: str) -> Iterator[tuple[str, Any]]:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    yield title, "" if value is None else f"{100 * value:.2f} ({100 * low:.2f} .. {100 * high:.2f})"


def _csv(found: Weights) -> bytes:
    rows = [{**row, "mixture": found.options.name} for each in found.estimates for row in each.rows]
    sink = pa.BufferOutputStream()
    schema = pa.schema([(column.name, column.type) for column in MIXTURES.columns])
    write_rows(pa.Table.from_pylist(rows, schema=schema), "csv", sink)
    return bytes(sink.getvalue())
