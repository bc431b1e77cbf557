"""Where what a verb found goes: a page for a reader, CSV or JSON for a program; to standard output or a file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.errors import printable
from pipelines.config import ConfigError

WIDTH = 100  # of a page where no terminal says
_BY_SUFFIX = {".csv": "csv", ".json": "json"}


def choose_format(asked: str | None, output: Path | None) -> str:
    """`table`, `csv` or `json`: what is asked for, else what the file's name ends in, else a table.

    Raises:
        ConfigError: the two contradict each other, or the file's folder is not there.
    """
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output: there is no folder {str(output.parent)!r}")
    of_file = None if output is None else _BY_SUFFIX.get(output.suffix.lower())
    if output is not None and None not in (asked, of_file) and asked != of_file:
        raise ConfigError(
            f"--output {output.name!r} is a name for {of_file}, --format says {asked}: leave one of them out"
        )
    return asked or of_file or "table"


def show_page(page: Callable[[Console], None], output: Path | None, width: int = WIDTH) -> None:
    """Print a page: on a terminal as wide as it is, else of `width` characters."""
    if output is None:
        page(Console(width=None if sys.stdout.isatty() else width, highlight=False))
        return
    written = io.StringIO()
    page(Console(file=written, width=width, no_color=True, highlight=False))
    write(written.getvalue().encode("utf-8", "replace"), output)


def show_json(value: Any, output: Path | None) -> None:
    """Print JSON, without NaN or infinities.

    Raises:
        ValueError: `value` holds one.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    write(f"{text}\n".encode("utf-8", "replace"), output)


def write(content: bytes, output: Path | None) -> None:
    """To the file, or to standard output."""
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        output.write_bytes(content)


def warn(notes: Iterable[str]) -> None:
    """Warnings to standard error, for what is written has no room for them."""
    for note in notes:
        if note.startswith("warning"):
            print(printable(note), file=sys.stderr)
