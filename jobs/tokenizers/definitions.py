"""What every statistic of `assay tokenizers` is: its `--list`, from the definitions that the numbers are made by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from jobs.output import show_json, show_page, write
from jobs.query import write_rows
from operators.tokenizer_statistics.registry import STATISTICS

GROUPS = {
    "lengths": "length of texts",
    "vocabulary": "use of the vocabulary",
    "efficiency": "evenness of use",
    "entropy": "entropy",
    "faithfulness": "what is lost or cut otherwise",
    "numbers": "numbers",
    "comparison": "compared",
}
_LABELS = {"formula": "", "note": "", "needs": "needs: ", "why_no_interval": "no interval: ", "source": "source: "}


def show_statistics(fmt: str, output: Path | None) -> None:
    """Print what every statistic is."""
    names = ("name", "group", "unit", "better", "formula", "note", "source", "needs", "why_no_interval")
    rows = [{name: getattr(each, name) for name in names} for each in STATISTICS.values()]
    if fmt == "json":
        show_json(rows, output)
    elif fmt == "csv":
        sink = pa.BufferOutputStream()
        write_rows(pa.Table.from_pylist(rows), "csv", sink)
        write(sink.getvalue().to_pybytes(), output)
    else:
        show_page(partial(_print_statistics, rows), output)


def _print_statistics(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    for group, title in GROUPS.items():
        console.print(Text(title), style="bold")
        for row in rows:
            if row["group"] != group:
                continue
            better = f", {row['better']} is better" if row["better"] else ""
            console.print(Text(f"  {row['name']}  [{row['unit']}{better}]"))
            for name, label in _LABELS.items():
                if row[name]:
                    console.print(Padding.indent(Text(f"{label}{row[name]}"), 6))
        console.print()
