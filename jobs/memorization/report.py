"""What `assay memorization` prints: a page for a reader, or JSON with every number for a program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from jobs.errors import printable
from jobs.memorization.run import ContextRates, KindRates, Memorized
from jobs.output import show_json, show_page
from jobs.query import rich_table
from operators.memorization.rates import GroupRates, Rate, SpanRates
from schemas.extractions import STRICT
from schemas.spans import VERBATIM

WIDTH = 120
TEXT_CHARACTERS = 60  # of a span's text, in the table
_CONTEXTS = {
    STRICT: "strict: each suffix is predicted from its prefix alone",
    "document": "in the document: each suffix is predicted from all of the document before it",
}


def show(found: Memorized, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, found), output, WIDTH)
    else:
        show_json(report(found), output)


# For programs


def report(found: Memorized) -> dict[str, Any]:
    """Everything that was found, ready for JSON."""
    return {
        "run_id": found.options.run_id,
        "search": asdict(found.options.search),
        "extraction": [_context(each) for each in found.contexts],
        "spans": [_kind(each) for each in found.kinds],
        "exposure": None if found.exposure is None else [*map(_finite, found.exposure)],
        "kept": [{"path": each.path, "what": each.what, "rows": each.rows} for each in found.kept],
        "missing": [asdict(each) for each in found.missing],
        "notes": list(found.notes),
    }


def _context(each: ContextRates) -> dict[str, Any]:
    return {
        "context": each.context,
        "scored_runs": list(each.scored_runs),
        **_group(each.every),
        "sampled": [{"n": n, "p": p, **_group(rates)} for (n, p), rates in each.sampled.items()],
        "windows_of_unknown_probability": each.unknown,
        "documents_without_a_window": each.without,
        "by": {name: [{"group": g.group, **_group(g)} for g in groups] for name, groups in each.groups.items()},
    }


def _kind(each: KindRates) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "spans": each.spans,
        **_of_spans(each.every),
        "by": {name: [{"group": g.group, **_of_spans(g)} for g in groups] for name, groups in each.groups.items()},
        "longest": [*map(_finite, each.longest)],
    }


def _group(rates: GroupRates) -> dict[str, Any]:
    return {"windows": _rate(rates.windows), "documents": _rate(rates.documents)}


def _of_spans(rates: SpanRates) -> dict[str, Any]:
    return {"documents": _rate(rates.documents), "longest_tokens": rates.longest}


def _rate(rate: Rate) -> dict[str, Any]:
    interval = rate.interval
    low, high = (interval.low, interval.high) if interval is not None else (None, None)
    return {"hits": rate.hits, "n": rate.n, "rate": rate.rate, "low": low, "high": high}


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a log-probability of nothing becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


# For readers


def print_report(found: Memorized, console: Console) -> None:
    """Extraction by context, samples and group; documents with spans; the longest; exposure; what is missing."""
    options, search = found.options, found.options.search
    sizes = f"prefixes of {search.prefix} and suffixes of {search.suffix} tokens"
    console.print(Text(f"run {options.run_id}: {sizes}, spans of {search.min_tokens} tokens or more"), style="bold")
    for each in found.contexts:
        console.print()
        _print_context(each, console)
    for kind in found.kinds:
        console.print()
        _print_kind(kind, search.misses, console)
    if found.exposure is not None:
        console.print()
        _print_exposure(found.exposure, options.canaries or "", options.limit, console)
    console.print()
    console.print("in brackets: 95 % intervals; windows of one document count as belonging together")
    for kept in found.kept:
        console.print(Text(f"kept: {kept.path}, {kept.what}, {kept.rows:,} row{'s' * (kept.rows != 1)}"))
    for lack in found.missing:
        console.print(Text(f"missing: {lack.what}: {printable(lack.why)}. What makes it:"), soft_wrap=True)
        console.print(Text(f"  {printable(lack.command)}"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(printable(note)), soft_wrap=True, style="bold yellow" if note.startswith("warning") else "")


def _print_context(each: ContextRates, console: Console) -> None:
    console.print(Text(f"extraction, {_CONTEXTS[each.context]}"), style="bold")
    if each.context == STRICT:
        console.print(Text(f"windows of {', '.join(each.scored_runs)}"))
    if not each.every.windows.n:
        console.print("no document has a complete window")
        return
    windows, documents = each.every.windows, each.every.documents
    console.print(f"windows that greedy decoding writes    {_said(windows)}")
    console.print(f"documents with at least one of them    {_said(documents)}")
    if each.without:
        console.print(f"{each.without:,} documents have no complete window and are in no rate")
    if each.unknown:
        console.print(f"{each.unknown:,} windows have no known sampling probability and are left out below")
    if any(rates.windows.n for rates in each.sampled.values()):
        console.print(rich_table(_samples(each)))
    for name, groups in each.groups.items():
        rows = [{**_cells("windows", g.windows), **_cells("documents", g.documents)} for g in groups]
        console.print(_by_group(name, [g.group for g in groups], rows))


def _by_group(column: str, groups: Sequence[str | None], rows: list[dict[str, Any]]) -> RichTable:
    """A table of groups; their column may be called like another one of it."""
    named = pa.array([*groups], pa.string())
    return rich_table(pa.Table.from_pylist(rows).add_column(0, column, named))


def _samples(each: ContextRates) -> pa.Table:
    rows = []
    for (n, p), rates in each.sampled.items():
        rows.append(
            {"samples": n, "chance": p, **_cells("windows", rates.windows), **_cells("documents", rates.documents)}
        )
    return pa.Table.from_pylist(rows)


def _cells(what: str, rate: Rate) -> dict[str, Any]:
    hits = "written" if what == "windows" else "with one"
    return {what: rate.n, hits: rate.hits, f"% of {what}": _share(rate)}


def _print_kind(each: KindRates, misses: float, console: Console) -> None:
    is_verbatim = each.kind == VERBATIM
    share = f"fewer than {misses:g} of the tokens missed" if misses else "no token missed"
    what = "verbatim spans" if is_verbatim else f"near-verbatim spans, {share}"
    console.print(Text(f"{what}: {each.spans:,}"), style="bold")
    console.print(
        f"documents with at least one    {_said(each.every.documents)}; longest {each.every.longest:,} tokens"
    )
    for name, groups in each.groups.items():
        rows = [
            {"documents": g.documents.n, "with a span": g.documents.hits, "% of documents": _share(g.documents),
             "longest": g.longest}
            for g in groups
        ]  # fmt: skip
        if rows:
            console.print(_by_group(name, [g.group for g in groups], rows))
    if each.longest:
        console.print("the longest:" if is_verbatim else "the longest with misses:")
        console.print(rich_table(pa.Table.from_pylist([*map(_span, each.longest)])))
    if any(span["text"] is None for span in each.longest):
        console.print("texts were dropped when the corpus was scored: only the byte ranges are left")


def _span(span: Mapping[str, Any]) -> dict[str, Any]:
    start, size = span["byte_start"], span["n_bytes"]
    return {
        "tokens": span["n_tokens"],
        "missed": span["n_misses"],
        "document": _cut(span["key"] or "", TEXT_CHARACTERS // 2),
        "bytes": f"{start}-{start + size}",
        "text": "" if span["text"] is None else _cut(span["text"], TEXT_CHARACTERS),
    }


def _cut(text: str, most: int) -> str:
    """One line of at most `most` characters: what is cut out of the middle is `...`, what cannot be printed escaped."""
    kept = text if len(text) <= most else f"{text[: most - most // 3 - 3]}...{text[-(most // 3) :]}"
    return printable(kept).replace("\n", "\\n")


def _print_exposure(rows: Sequence[Mapping[str, Any]], column: str, limit: int, console: Console) -> None:
    console.print(Text(f"exposure of {len(rows):,} canaries among documents of one {printable(column)}"), style="bold")
    if not rows:
        console.print("no document of label 1 is there, so none is a canary")
        return
    has_copies = any(row["copies"] is not None for row in rows)
    shown = [
        {"canary": _cut(row["key"] or "", TEXT_CHARACTERS // 2),
         **({"copies": row["copies"]} if has_copies else {}), "rank": row["rank"],
         "of": row["n_candidates"], "exposure, bits": row["exposure_bits"], "at most": row["most_bits"],
         "p": row["p_value"]}
        for row in rows[:limit]
    ]  # fmt: skip
    if shown:
        console.print(rich_table(pa.Table.from_pylist(shown)))
    if len(rows) > limit:
        console.print(f"{len(rows) - limit:,} more, in --format json")


def _said(rate: Rate) -> str:
    return f"{rate.hits:,} of {rate.n:,}: {_share(rate)} %"


def _share(rate: Rate) -> str:
    if rate.rate is None or rate.interval is None:
        return "none"
    low, high = 100 * rate.interval.low, 100 * rate.interval.high
    return f"{100 * rate.rate:.2f} ({low:.2f} .. {high:.2f})"
