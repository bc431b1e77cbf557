"""What `assay tokenizers` prints: tables by kind of statistic, tokenizers side by side; or every row for a program."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from jobs.errors import printable
from jobs.output import show_json, show_page, warn, write
from jobs.query import write_rows
from jobs.tokenizers.definitions import GROUPS
from jobs.tokenizers.notes import cut, notes
from operators.storage.remote import redact
from operators.tokenizer_statistics.registry import STATISTICS
from pipelines.tokenizers.job import TokenizersPlan
from pipelines.tokenizers.run import Profile
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS

SIDE_BY_SIDE = 3  # tokenizers that fit a page; more are printed in several tables
MOST_DOMAINS = 20
BY_DOMAIN = ("bytes_per_token", "fertility", "premium", "parity", "premium_by_bytes")
_NOT_SHOWN = re.compile(r"numbers_whole_\d+")  # tokens a number of that length say nearly the same
_NO_DOMAIN = "(no domain)"

Row = Mapping[str, Any]


def show(plan: TokenizersPlan, profile: Profile, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, plan, profile), output)
        return
    warn(notes(plan, profile))
    if fmt == "json":
        show_json(report(plan, profile), output)
    else:
        sink = pa.BufferOutputStream()
        write_rows(kept_rows(plan, profile), "csv", sink)
        write(sink.getvalue().to_pybytes(), output)


def kept_rows(plan: TokenizersPlan, profile: Profile) -> pa.Table:
    """The rows as queries see them, in the order of the table."""
    named = profile.rows.add_column(0, "profile", pa.repeat(plan.job.name, len(profile.rows)))
    order = [("profile", "ascending"), *((name, "ascending") for name in TOKENIZER_STATISTICS.sorted_by)]
    return named.select([column.name for column in TOKENIZER_STATISTICS.columns]).sort_by(order)


def report(plan: TokenizersPlan, profile: Profile) -> dict[str, Any]:
    """Everything that was found, ready for JSON."""
    rows = [
        {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        for row in kept_rows(plan, profile).to_pylist()
    ]
    return {
        "profile": plan.job.name,
        "settings": plan.job.settings(),
        **profile.facts(),
        "rows": rows,
        "notes": list(notes(plan, profile)),
    }


# For readers


def print_report(plan: TokenizersPlan, profile: Profile, console: Console) -> None:
    """A table a kind of statistic over all documents, then those by domain, then what the numbers cannot show."""
    job = plan.job
    rows = profile.rows.to_pylist()
    names = [each.name for each in job.tokenizers]
    size = f"{profile.documents:,} documents, {profile.n_bytes / 1e6:,.2f} MB of text"
    console.print(Text(f"profile {job.name}: {size}"), style="bold")
    for group, title in GROUPS.items():
        for table in _tables("statistic", names, _of_group(rows, group), str):
            console.print()
            console.print(Text(title), style="bold")
            console.print(table)
    for statistic in BY_DOMAIN:
        _print_domains(statistic, names, rows, console)
    console.print()
    for note in notes(plan, profile):
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")
    lake = printable(redact(shlex.quote(plan.lake.root)))
    query = f"from tokenizer_statistics where profile = '{job.name}'"
    console.print(Text(f'next: assay sql {lake} "{query}"'), soft_wrap=True)


def _of_group(rows: Sequence[Row], group: str) -> list[Row]:
    """The rows over all documents, in the order of the definitions."""
    order = {name: place for place, name in enumerate(STATISTICS)}
    own = [row for row in rows if row["part"] == "all" and STATISTICS[row["statistic"]].group == group]
    shown = [row for row in own if not _NOT_SHOWN.fullmatch(row["statistic"])]
    return sorted(shown, key=lambda row: order[row["statistic"]])


def _print_domains(statistic: str, names: Sequence[str], rows: Sequence[Row], console: Console) -> None:
    own = [row for row in rows if row["part"] == "domain" and row["statistic"] == statistic]
    domains = list(dict.fromkeys(row["domain"] for row in own))
    some = [row for row in own if row["domain"] in domains[:MOST_DOMAINS]]
    for table in _tables("domain", names, some, _domain):
        console.print()
        definition = STATISTICS[statistic]
        against = f", against {cut(str(own[0]['baseline']))}" if own[0]["baseline"] is not None else ""
        console.print(Text(f"{statistic} by domain: {definition.formula}{against}"), style="bold")
        console.print(table)
    if len(domains) > MOST_DOMAINS:
        console.print(f"{len(domains) - MOST_DOMAINS:,} more domains, in --format csv")


def _tables(column: str, names: Sequence[str], rows: Sequence[Row], shown: Callable[[Any], str]) -> Iterator[RichTable]:
    """A row for each value of `column`, as `shown`, and a column a tokenizer, `SIDE_BY_SIDE` of them a table."""
    cells = {(row[column], row["tokenizer"]): row for row in rows}
    values = list(dict.fromkeys(row[column] for row in rows))
    for start in range(0, len(names) if rows else 0, SIDE_BY_SIDE):
        some = names[start : start + SIDE_BY_SIDE]
        table = RichTable(box=None, header_style="bold", pad_edge=False)
        table.add_column(column, overflow="fold")
        for name in some:
            table.add_column(Text(cut(name)), justify="right", overflow="fold")
        for value in values:
            found = [cells.get((value, name)) for name in some]
            table.add_row(Text(shown(value)), *(Text("" if row is None else said(row)) for row in found))
        yield table


def _domain(name: str | None) -> str:
    return _NO_DOMAIN if name is None else cut(name)


def said(row: Row) -> str:
    """A value with its interval, at most 25 characters."""
    value = row["value"]
    if value is None or not math.isfinite(value):
        return "none"
    number = _number(value, row["unit"])
    if row["value_low"] is None or row["value_high"] is None:
        return number
    return f"{number} ({_number(row['value_low'], row['unit'])} .. {_number(row['value_high'], row['unit'])})"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "count" else f"{value:.4g}"
