"""Where an evaluation goes: tables for a terminal, CSV or JSON for a program; to standard output or a file."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow.csv as pacsv
from rich.console import Console

from jobs.errors import printable
from jobs.evaluate.results import Labelled, Selection
from jobs.evaluate.rows import labelled_json, labelled_rows, selection_rows
from jobs.evaluate.tables import WIDTH, print_labelled, print_selection
from jobs.query import write_rows
from pipelines.config import ConfigError

_BY_SUFFIX = {".csv": "csv", ".json": "json"}


def choose_format(asked: str | None, output: Path | None) -> str:
    """`table`, `csv` or `json`: what is asked for, else what the file's name ends in, else a table.

    Raises:
        ConfigError: the two contradict each other.
    """
    of_file = None if output is None else _BY_SUFFIX.get(output.suffix.lower())
    if output is not None and None not in (asked, of_file) and asked != of_file:
        raise ConfigError(
            f"--output {output.name!r} is a name for {of_file}, --format says {asked}: leave one of them out"
        )
    return asked or of_file or "table"


def warn(notes: Iterable[str]) -> None:
    """Warnings to standard error, for what is written has no room for them."""
    for note in notes:
        if note.startswith("warning"):
            print(printable(note), file=sys.stderr)


def show_labelled(result: Labelled, asked: str | None, output: Path | None) -> None:
    """Print or write label 1 against label 0, in the format of `choose_format`."""
    fmt = choose_format(asked, output)
    if fmt == "table":
        console, written = _console(output)
        print_labelled(result, console)
        _write(written.getvalue().encode(), output) if written is not None else None
    elif fmt == "csv":
        file = io.BytesIO()
        pacsv.write_csv(labelled_rows(result), file)
        _write(file.getvalue(), output)
        warn(result.notes())
    else:
        _write(labelled_json(result).encode("utf-8", "replace"), output)


def show_selection(result: Selection, asked: str | None, output: Path | None) -> None:
    """Print how many documents are selected, or write which: to `output` always, in CSV unless it is to be JSON."""
    fmt = choose_format(asked, output)
    if asked in (None, "table"):
        print_selection(result, _console(None)[0])
        if output is None:
            return
    else:
        warn(result.notes())
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
