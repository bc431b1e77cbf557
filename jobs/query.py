"""`assay catalog`, `assay sql` and `assay verify`: the verbs that only read."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.config import ConfigError

MAX_TABLE_ROWS = 1000


def check_lake(lake: str) -> None:
    """Raise a clear error where there is no lake: a mistyped path must not look like an empty one."""
    from operators.lake import RUNS_FOLDER, Lake

    if not Lake(lake).storage.list(RUNS_FOLDER):
        raise ConfigError(f"no lake at {lake}: `assay score --lake {lake} ...` makes one")


def run_catalog(lake: str) -> None:
    from operators.catalog import write_catalog
    from operators.query import query

    check_lake(lake)
    path = write_catalog(lake)
    runs = query(lake, "select run_id, state, model_type, documents, rejects, tokens, scored from runs order by all")
    print(path)
    print_table(runs)


def run_sql(lake: str, sql: str, fmt: str, output: Path | None) -> None:
    """Run one SELECT and print its rows, or write them to `output`."""
    from operators.query import query

    check_lake(lake)
    rows = query(lake, sys.stdin.read() if sql == "-" else sql)
    if output is not None:
        with output.open("wb") as file:
            write_rows(rows, fmt, file)
    elif fmt == "table":
        print_table(rows)
    else:
        write_rows(rows, fmt, sys.stdout.buffer)


def run_verify(lake: str, run_id: str | None) -> int:
    """Print every fault; 1 if there are any."""
    from operators.lake import Lake
    from operators.verify import verify

    check_lake(lake)
    known = Lake(lake).run_ids()
    if run_id is not None and run_id not in known:
        raise ConfigError(f"no run {run_id!r} in {lake}: it holds {', '.join(known) or 'none'}")
    faults = verify(Lake(lake), run_id)
    for fault in faults:
        print(fault)
    runs = [run_id] if run_id else known
    print(f"{len(faults)} faults in {len(runs)} runs" if faults else f"{len(runs)} runs verified, no faults")
    return 1 if faults else 0


def write_rows(rows: pa.Table, fmt: str, file: IO[bytes]) -> None:
    """Rows as CSV, as JSON lines, or as the printed table without colours."""
    if fmt == "csv":
        pacsv.write_csv(_flat(rows), file)
    elif fmt == "json":
        import json

        for row in rows.to_pylist():
            file.write(json.dumps(_finite(row), ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")
    else:
        console = Console(width=200, no_color=True)
        with console.capture() as captured:
            console.print(rich_table(rows))
        file.write(captured.get().encode())


def print_table(rows: pa.Table) -> None:
    """Rows as a table; text is shown as it is, never read as markup or as control codes."""
    width = None if sys.stdout.isatty() else 10_000  # a pipe has no edge to fold at
    Console(width=width, soft_wrap=width is not None).print(rich_table(rows.slice(0, MAX_TABLE_ROWS)))
    if len(rows) > MAX_TABLE_ROWS:
        print(f"{len(rows):,} rows, the first {MAX_TABLE_ROWS:,} shown; --format csv prints all")


def rich_table(rows: pa.Table) -> Table:
    """Rows for a terminal: numbers to the right, hostile text made harmless."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in zip(*(rows[i].to_pylist() for i in range(rows.num_columns)), strict=True):
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _finite(value: object) -> object:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _flat(rows: pa.Table) -> pa.Table:
    """Lists, maps and structs as text: CSV has no nested values."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            text = pa.array([None if v is None else str(v) for v in rows[i].to_pylist()], pa.string())
            rows = rows.set_column(i, field.name, text)
    return rows
