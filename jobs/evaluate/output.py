"""Where an evaluation goes: tables for a terminal, CSV or JSON for a program; to standard output or a file."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pyarrow.csv as pacsv

from jobs.evaluate.results import Labelled, Selection
from jobs.evaluate.rows import labelled_json, labelled_rows, selection_rows
from jobs.evaluate.tables import WIDTH, print_labelled, print_selection
from jobs.output import choose_format, show_page, warn, write
from jobs.query import write_rows


def show_labelled(result: Labelled, asked: str | None, output: Path | None) -> None:
    """Print or write label 1 against label 0, in the format of `choose_format`."""
    fmt = choose_format(asked, output)
    if fmt == "table":
        show_page(partial(print_labelled, result), output, WIDTH)
    elif fmt == "csv":
        file = io.BytesIO()
        pacsv.write_csv(labelled_rows(result), file)
        write(file.getvalue(), output)
        warn(result.notes())
    else:
        write(labelled_json(result).encode("utf-8", "replace"), output)


def show_selection(result: Selection, asked: str | None, output: Path | None) -> None:
    """Print how many documents are selected, or write which: to `output` always, in CSV unless it is to be JSON."""
    fmt = choose_format(asked, output)
    if asked in (None, "table"):
        show_page(partial(print_selection, result), None, WIDTH)
        if output is None:
            return
    else:
        warn(result.notes())
    file = io.BytesIO()
    write_rows(selection_rows(result), "json" if fmt == "json" else "csv", file)
    write(file.getvalue(), output)
