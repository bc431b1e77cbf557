"""`assay catalog`, `assay sql` and `assay verify`: the verbs over a lake that is there."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.config import ConfigError

MAX_TABLE_ROWS = 1000
MOST_NAMED = 10  # runs in an error


def read_options(text: str | None) -> dict[str, Any] | None:
    """What `--storage-options` says.

    Raises:
        ConfigError: as `pipelines.config.read_storage_options`.
    """
    if text is None:
        return None
    from pipelines.config import read_storage_options

    return read_storage_options(text)


def check_lake(lake: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise a clear error where there is no lake: a mistyped path must not look like an empty one.

    Raises:
        ConfigError: nothing there is a lake.
        ObjectError: the storage does not answer, refuses, or has no such bucket; said after one attempt.
    """
    from operators.lake import NIGHTS_FOLDER, RUNS_FOLDER
    from operators.storage import Storage
    from schemas import OVERLAP_ITEMS
    from schemas.results import RESULT_KINDS

    storage = Storage(lake, options or {})
    storage.check()
    named = (table.name for table in (OVERLAP_ITEMS, *(kind.tables[0] for kind in RESULT_KINDS)))
    if not any(storage.list(folder) for folder in (RUNS_FOLDER, NIGHTS_FOLDER, *named)):
        raise ConfigError(f"no lake at {lake}: `assay score --lake {lake} ...` makes one")


def run_catalog(lake: str, options: Mapping[str, Any] | None = None) -> None:
    """Rebuild the catalog file and print where it is and what the lake holds."""
    from operators.catalog import write_catalog
    from operators.query import query

    check_lake(lake, options)
    path = write_catalog(lake, options)
    columns = "run_id, state, model_type, documents, rejects, tokens, scored"
    print(path)
    print_table(query(lake, f"select {columns} from runs order by all", storage_options=options))


def run_sql(
    lake: str,
    sql: str,
    fmt: str,
    output: Path | None,
    *,
    runs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run one SELECT and print its rows, or write them to `output`; `runs` are those the views show, none for all.

    Raises:
        ConfigError: there is no lake, or none of its runs is called so.
        QueryError: as `operators.query.query`.
    """
    from operators.query import query

    check_lake(lake, options)
    for run_id in runs:
        check_run(lake, run_id, options)
    text = sys.stdin.read() if sql == "-" else sql
    rows = query(lake, text, runs=runs or None, storage_options=options)
    if output is not None:
        with output.open("wb") as file:
            write_rows(rows, fmt, file)
    elif fmt == "table":
        print_table(rows)
    else:
        write_rows(rows, fmt, sys.stdout.buffer)


def run_verify(lake: str, run_id: str | None, *, repair: bool = False, options: Mapping[str, Any] | None = None) -> int:
    """Print every fault; 1 if there are any. With `repair`, first drop what unfinished writes left, and print it."""
    from operators import verify
    from operators.lake import Lake

    check_lake(lake, options)
    if run_id is not None:
        check_run(lake, run_id, options)
    there = Lake(lake, options)
    if repair:
        repaired = verify.repair(there, run_id)
        for path in repaired.removed:
            print(f"{path}: dropped")
        for each in repaired.skipped:
            print(f"{each}: left alone, a job may be writing it; if none does, name it: --repair --run-id {each}")
    faults = verify.verify(there, run_id)
    for fault in faults:
        print(fault)
    runs = [run_id] if run_id else there.run_ids()
    print(f"{len(faults)} faults in {len(runs)} runs" if faults else f"{len(runs)} runs verified, no faults")
    return 1 if faults else 0


def check_run(lake: str, run_id: str, options: Mapping[str, Any] | None) -> None:
    """Raise a clear error where the lake has no run of this name.

    Raises:
        ConfigError: it has none.
    """
    from operators.lake import Lake

    known = Lake(lake, options).run_ids()
    if run_id not in known:
        named = (
            known if len(known) <= MOST_NAMED else get_close_matches(run_id, known, MOST_NAMED) or known[:MOST_NAMED]
        )
        more = f" and {len(known) - len(named):,} more: `assay status {lake}`" if len(named) < len(known) else ""
        raise ConfigError(f"no run {run_id!r} in {lake}: it holds {', '.join(named) or 'none'}{more}")


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
        table.add_column(Text(_cell(field.name)), justify="right" if numeric else "left", overflow="fold")
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
