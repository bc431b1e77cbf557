"""What `assay mixture fit` prints and draws: a table a run, the matrix of runs and domains, and notes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.text import Text

from jobs.commands import joined
from jobs.errors import printable
from jobs.figures import Bar, draw_bars, draw_heatmap
from jobs.mixture.fit_notes import domain_name, short
from jobs.output import show_json, show_page, warn, write
from jobs.query import rich_table
from operators.mixtures.model_domain import MODEL_DOMAIN
from pipelines.config import ConfigError
from schemas.fits import ALL, DOMAIN

if TYPE_CHECKING:
    from jobs.mixture.fit import Fitted, RunFit

WIDTH = 120
SHARE = "share"  # what a figure may show instead of the fit
_MOST_ROWS, _MOST_COLUMNS, _MOST_TYPES = 60, 8, 10  # of the page
_NAME_CHARACTERS, _TEXT_CHARACTERS = 28, 24


def show(found: Fitted, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`: a page, the rows of `domain_fit` as CSV, or everything as JSON."""
    if fmt == "table":
        show_page(partial(print_report, found), output, WIDTH)
    elif fmt == "csv":
        file = io.BytesIO()
        pacsv.write_csv(domain_rows(found.runs), file)
        write(file.getvalue(), output)
        warn(found.notes)
    else:
        show_json(report(found), output)


def domain_rows(runs: Sequence[RunFit]) -> pa.Table:
    """The rows of `domain_fit` of every run, with its id."""
    tables = []
    for each in runs:
        ids = pa.array([each.run_id] * len(each.domains), pa.string())
        tables.append(each.domains.replace_schema_metadata(None).add_column(0, "run_id", ids))
    return pa.concat_tables(tables)


def report(found: Fitted) -> dict[str, Any]:
    """Everything that was found, ready for JSON; of the vocabulary, what weighs most (the lake keeps all)."""
    return {
        "settings": asdict(found.options.settings),
        "runs": [
            {
                "run_id": each.run_id,
                "model": each.facts.model,
                "domain_fit": [_finite(row) for row in each.domains.to_pylist()],
                "vocabulary": None if each.vocabulary is None else [*map(_finite, _heaviest(each.vocabulary))],
                "kept": list(each.kept),
            }
            for each in found.runs
        ],
        "notes": list(found.notes),
    }


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _heaviest(vocabulary: pa.Table) -> list[dict[str, Any]]:
    """The types with the largest share of the loss."""
    order = [("loss_share", "descending"), ("token_id", "ascending")]
    rows: list[dict[str, Any]] = vocabulary.sort_by(order).slice(0, _MOST_TYPES).to_pylist()
    return rows


# The page


def print_report(found: Fitted, console: Console) -> None:
    """Each run, then the matrix, what to read them with, and what to do next."""
    for each in found.runs:
        _print_run(each, console)
        console.print()
    if len(found.runs) > 1:
        _print_matrix(found.runs, console)
        console.print()
    settings = found.options.settings
    ways = []
    if settings.resamples:
        ways.append("of domains by drawing documents")
    if found.options.vocabulary:
        ways.append("of types by the spread over documents")
    if ways:
        console.print(f"in brackets: intervals at level {settings.confidence:.4g}, {', '.join(ways)}")
    for note in found.notes:
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")
    for each in found.runs:
        console.print(Text(f"kept: {', '.join(each.kept)}"), soft_wrap=True)
    command = joined(["assay", "sql", found.options.lake, f"from {MODEL_DOMAIN}"])
    console.print(Text(f"next: {printable(command)}"), soft_wrap=True)


def _print_run(each: RunFit, console: Console) -> None:
    model = "" if each.facts.model is None else f", model {each.facts.model}"
    console.print(Text(printable(f"run {each.run_id}{model}")), style="bold")
    rows = each.domains.to_pylist()
    shown = [row for row in rows if row["part"] != DOMAIN]
    domains = [row for row in rows if row["part"] == DOMAIN]
    shown[1:1] = domains[:_MOST_ROWS]
    console.print(rich_table(pa.Table.from_pylist([*map(_cells, shown)])))
    if len(domains) > _MOST_ROWS:
        console.print(f"{_more(len(domains) - _MOST_ROWS)}, in --format csv")
    if each.vocabulary is not None and len(each.vocabulary):
        console.print(f"{len(each.vocabulary):,} vocabulary types; with the largest share of the loss:")
        console.print(rich_table(pa.Table.from_pylist([*map(_type_cells, _heaviest(each.vocabulary))])))


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    name = short(domain_name(row["domain"]), _NAME_CHARACTERS) if row["part"] == DOMAIN else f"= {row['part']}"
    return {
        "domain": name,
        "documents": f"{row['n_documents']:,}",
        "bytes": f"{row['n_bytes']:,}",
        "share of tokens": _said(row, "token_share", 3),
        "bits per byte": _said(row, "bits_per_byte", 3),
        "extrapolated": _number(row["bits_per_byte_extrapolated"], 3),
        "perplexity": _said(row, "perplexity", 1),
    }


def _type_cells(row: Mapping[str, Any]) -> dict[str, str]:
    text = "" if row["text"] is None else repr(row["text"])
    return {
        "token": f"{row['token_id']}",
        "text": short(text, _TEXT_CHARACTERS),
        "n": f"{row['n']:,}",
        "documents": f"{row['n_documents']:,}",
        "mean loss": _said(row, "mean_loss", 3),
        "share of loss": _number(row["loss_share"], 3),
    }


def _said(row: Mapping[str, Any], name: str, decimals: int) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    value = _number(row[name], decimals)
    return value if low is None else f"{value} [{_number(low, decimals)}, {_number(high, decimals)}]"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"


# The matrix


def matrix(runs: Sequence[RunFit]) -> tuple[list[str | None], np.ndarray[Any, np.dtype[np.float64]]]:
    """The domains of any run, None last, and bits per byte [runs, domains], NaN where a run has none."""
    by_run = [{row["domain"]: row for row in each.domains.to_pylist() if row["part"] == DOMAIN} for each in runs]
    every = {name for rows in by_run for name in rows}
    domains = sorted(every, key=lambda name: (name is None, name or ""))
    values = [[_or_nan(rows.get(name, {}).get("bits_per_byte")) for name in domains] for rows in by_run]
    return domains, np.array(values, np.float64).reshape(len(by_run), len(domains))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _print_matrix(runs: Sequence[RunFit], console: Console) -> None:
    domains, values = matrix(runs)
    console.print(Text("bits per byte of runs on domains"), style="bold")
    shown = domains[:_MOST_COLUMNS]
    rows = []
    for each, of_run in zip(runs, values.tolist(), strict=True):
        numbers = ("" if math.isnan(value) else f"{value:.3f}" for value in of_run)
        rows.append([each.run_id, *numbers][: 1 + len(shown)])
    names = ["run", *(short(domain_name(name), _TEXT_CHARACTERS) for name in shown)]
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    console.print(rich_table(pa.Table.from_arrays(columns, names=names)))
    if len(domains) > len(shown):
        console.print(f"{_more(len(domains) - len(shown))}, in --format csv and in the view {MODEL_DOMAIN}")


def _more(n: int) -> str:
    return f"{n:,} more domain{'s' * (n != 1)}"


# The figure


def draw(found: Fitted, path: Path, drawn: str) -> None:
    """Token shares as bars, a series a run; or bits per byte: bars of one run, a heat map of several.

    Raises:
        ConfigError: no run has a document.
    """
    if not any(row["part"] == DOMAIN for each in found.runs for row in each.domains.to_pylist()):
        raise ConfigError("--figure: there is nothing to draw, for no run has a document")
    if drawn == SHARE:
        draw_bars(path, _bars(found.runs, "token_share"), title="shares of the scored tokens", axis="share of tokens")
        return
    if len(found.runs) == 1:
        (only,) = found.runs
        (every,) = (row["bits_per_byte"] for row in only.domains.to_pylist() if row["part"] == ALL)
        title = f"fit of run {only.run_id}, dashed: all documents"
        draw_bars(path, _bars(found.runs, "bits_per_byte"), title=title, axis="bits per byte", reference=every)
        return
    domains, values = matrix(found.runs)
    names = [domain_name(name) for name in domains]
    draw_heatmap(path, values, [each.run_id for each in found.runs], names, title="fit of runs on domains",
                 legend="bits per byte")  # fmt: skip


def _bars(runs: Sequence[RunFit], name: str) -> list[Bar]:
    return [
        Bar(domain_name(row["domain"]), row[name], row[f"{name}_low"], row[f"{name}_high"], each.run_id)
        for each in runs
        for row in each.domains.to_pylist()
        if row["part"] == DOMAIN
    ]
