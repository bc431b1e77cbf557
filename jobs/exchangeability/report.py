"""What `assay exchangeability` prints: a page for a reader, CSV or JSON with every number for a program."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.text import Text

from jobs.errors import printable
from jobs.exchangeability.examine import LEVEL, Examined
from jobs.output import show_json, show_page, warn, write


def show(found: Examined, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, found), output)
    elif fmt == "csv":
        written = io.BytesIO()
        numbers = {name: value for name, value in report(found).items() if not isinstance(value, list)}
        pacsv.write_csv(pa.Table.from_pylist([numbers]), written)
        write(written.getvalue(), output)
        warn(found.notes)
    else:
        show_json(report(found), output)


def report(found: Examined) -> dict[str, Any]:
    """Everything that was found, ready for JSON; what is not defined is null."""
    result = found.result
    return {
        "run_id": found.run_id,
        "benchmark_run": found.benchmark_run,
        "transform": found.transform.canonical,
        "n_items": found.n_items,
        "n_shards": result.n_shards,
        "n_permutations": result.n_permutations,
        "n_tokens": result.n_tokens,
        "p_permutation": result.p_permutation,
        "resolution": result.resolution,
        "n_at_least": result.n_at_least,
        "p_tail": result.p_tail,
        "p_t": result.p_t,
        "t": result.t,
        "df": result.df,
        "p_t_official": result.p_t_official,
        "t_official": result.t_official,
        "gain_nats_per_token": result.gain,
        "gain_low": result.low,
        "gain_high": result.high,
        "gain_nats": result.total_gain,
        "blind": [
            {"features": each.features, "p_value": each.p_value, "z": each.z, "flagged": each.is_flagged}
            for each in found.blind
        ],
        "no_blind": found.no_blind or None,
        "notes": list(found.notes),
    }


def print_report(found: Examined, console: Console) -> None:
    """The verdict and what it rests on, the blind baseline, what to beware of."""
    for i, line in enumerate(_lines(found)):
        console.print(Text(printable(line)), style="bold" if i == 2 else "")
    for each in found.blind:
        console.print(Text(f"blind {each.features}: p = {each.p_value:.2g}, z = {each.z:+.1f}"), style="dim")
    if found.no_blind:
        console.print(Text(printable(f"no blind baseline: {found.no_blind}")), style="dim")
    for note in found.notes:
        console.print(Text(printable(note)), style="bold yellow" if note.startswith("warning") else "")


def _lines(found: Examined) -> Iterator[str]:
    result = found.result
    yield (
        f"benchmark  {found.n_items:,} items of {found.benchmark_run} in {result.n_shards:,} shards of up to "
        f"{found.largest_shard:,}, {result.n_tokens:,} tokens"
    )
    yield f"orders     as they stand and in {result.n_permutations:,} drawn ones (run {found.run_id})"
    prefers = "prefers the order of the file" if result.p_permutation <= LEVEL else "shows no preference for its order"
    yield f"p = {result.p_permutation:.3g}: the model {prefers}"
    yield (
        f"permutations, exact: {result.n_at_least:,} of {result.n_permutations:,} drawn orders are predicted at least "
        f"as well; p cannot fall below {result.resolution:.2g}"
    )
    if result.p_tail is not None:
        yield f"permutations, tail fitted by three moments: p = {result.p_tail:.2g}"
    if result.t is not None:
        yield f"shards, approximate: p = {result.p_t:.2g}, t = {result.t:.3f} with {result.df} degrees of freedom"
        yield f"as the authors' code, with ddof 0: p = {result.p_t_official:.2g}, t = {result.t_official:.3f}"
    span = "" if result.low is None else f" (95 % {result.low:+.4g} .. {result.high:+.4g})"
    yield f"gain: {result.gain:+.4g} nats a token{span}, {result.total_gain:+,.1f} in all"
