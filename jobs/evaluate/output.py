"""Where an evaluation goes: tables for a terminal, CSV or JSON for a program; to standard output or a file."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pyarrow.csv as pacsv
from rich.console import Console

from jobs.evaluate.results import Labelled, Selection
from jobs.evaluate.rows import labelled_json, labelled_rows, selection_rows
from jobs.evaluate.tables import WIDTH, print_labelled, print_selection
from jobs.query import write_rows


def show_labelled(result: Labelled, fmt: str, output: Path | None) -> None:
    """Print or write label 1 against label 0."""
    if fmt == "table":
        console, written = _console(output)
        print_labelled(result, console)
        _write(written.getvalue().encode(), output) if written is not None else None
    elif fmt == "csv":
        file = io.BytesIO()
        pacsv.write_csv(labelled_rows(result), file)
        _write(file.getvalue(), output)
    else:
        _write(labelled_json(result).encode("utf-8", "replace"), output)


def show_selection(result: Selection, fmt: str, output: Path | None) -> None:
    """Print how many documents are selected, or write which: to `output` always, in CSV unless JSON is asked for."""
    if fmt == "table":
        print_selection(result, _console(None)[0])
    if output is None and fmt == "table":
        return
    file = io.BytesIO()
    write_rows(selection_rows(result), "json" if fmt == "json" else "csv", file)
    _write(file.getvalue(), output)


def _console(output: Path | None) -> tuple[Console, io.StringIO | None]:
    """For a terminal as wide as it is; for a pipe or a file, of a width that fits on a page."""
    if output is not None:
        written = io.StringIO()
        return Console(file=written, width=WIDTH, no_color=True, highlight=False), written
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False), None


def _write(content: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        output.write_bytes(content)
