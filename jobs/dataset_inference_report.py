"""What `assay dataset-inference` prints: a page for a reader, CSV or JSON with every number for a program."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.dataset_inference import Inference
from jobs.errors import printable
from jobs.output import show_json, show_page, warn, write
from operators.evaluation.dataset_inference import LEVEL

_SHOWN = 20  # features of the largest weights; CSV and JSON have all
_NAME = 40


def show(found: Inference, fmt: str, output: Path | None) -> None:
    """Print, or write to `output`."""
    if fmt == "table":
        show_page(partial(print_report, found), output)
    elif fmt == "csv":
        written = io.BytesIO()
        pacsv.write_csv(feature_rows(found), written)
        write(written.getvalue(), output)
        warn(notes(found))
    else:
        show_json(report(found), output)


def report(found: Inference) -> dict[str, Any]:
    """Everything that was found, ready for JSON."""
    result, options, halves = found.result, found.options, found.halves
    return {
        "run_id": options.run_id,
        "held_out_run": options.second_run,
        "suspect": options.conditions[0],
        "held_out": options.conditions[1],
        "n_suspect": result.n_suspect,
        "n_held_out": result.n_held_out,
        "tested_suspect": result.tested_suspect,
        "tested_held_out": result.tested_held_out,
        "p_value": result.p_value,
        "split_p_values": list(result.split_p_values),
        "difference": result.difference,
        "seed": options.seed,
        "parity": options.parity,
        "held_out_halves": None
        if halves is None
        else {
            "level": halves.level,
            "draws": halves.draws,
            "positives": halves.positives,
            "rate": halves.rate,
            "low": halves.low,
            "high": halves.high,
            "documents_a_half": halves.n_half,
        },
        "blind": [
            {"features": b.features, "auroc": _number(b.auroc), "low": _number(b.interval.low),
             "high": _number(b.interval.high), "flagged": b.is_flagged}
            for b in found.blind
        ],
        "features": feature_rows(found).to_pylist(),
        "notes": notes(found),
    }  # fmt: skip


def feature_rows(found: Inference) -> pa.Table:
    """A row for each score, the largest weights first."""
    pairs = sorted(zip(found.result.features, found.families, strict=True), key=lambda pair: -abs(pair[0].weight))
    return pa.table(
        {
            "score": [feature.name for feature, _ in pairs],
            "family": [family for _, family in pairs],
            "weight": [feature.weight for feature, _ in pairs],
            "difference": [feature.difference for feature, _ in pairs],
            "undefined_suspect": [feature.undefined_suspect for feature, _ in pairs],
            "undefined_held_out": [feature.undefined_held_out for feature, _ in pairs],
            "p_value": [found.result.p_value] * len(pairs),
        }
    )


def print_report(found: Inference, console: Console) -> None:
    """The p-value and what it rests on, the halves, the blind baselines, the features, what to beware of."""
    result, options = found.result, found.options
    first, second = (printable(" ".join(condition.split())) for condition in options.conditions)
    console.print(Text(f"suspect   {result.n_suspect:>9,} documents of {options.run_id} where {first}"))
    console.print(Text(f"held out  {result.n_held_out:>9,} documents of {options.second_run} where {second}"))
    console.print(Text(f"\n{_verdict(found)}"), style="bold")
    how = f"{result.tested_suspect:,} + {result.tested_held_out:,} documents tested"
    if options.splits > 1:
        each = ", ".join(f"{p:.2g}" for p in result.split_p_values[:10])
        how += f" in each of {options.splits} splits (p {each}{', ...' * (options.splits > 10)}), combined by rank"
    how += f"; log-odds apart by {result.difference:.2f} standard deviations"
    console.print(Text(how))
    if found.halves is not None:
        h = found.halves
        console.print(
            f"halves of the held-out set: p < {h.level:g} in {h.positives} of {h.draws} draws, {h.rate:.1%} "
            f"({h.low:.1%} .. {h.high:.1%}), {h.n_half:,} documents each"
        )
    for blind in found.blind:
        span = f"{blind.interval.low:.3f} .. {blind.interval.high:.3f}"
        console.print(f"blind {blind.features}: AUROC {blind.auroc:.3f} ({span})", style="dim")
    console.print()
    console.print(_features(found))
    console.print(
        "weight: log-odds a standard deviation. difference: suspect less held out, in standard deviations, on tested "
        "documents."
    )
    for note in notes(found):
        console.print(Text(printable(note)), style="bold yellow" if note.startswith("warning") else "")


def notes(found: Inference) -> list[str]:
    """What has to be said with the p-value: each starts with `warning` or `note`."""
    return [*_blind_notes(found), *found.about_runs, *_test_notes(found)]


def _blind_notes(found: Inference) -> Iterator[str]:
    for each in sorted(found.blind, key=lambda result: not result.is_flagged):
        said = f"blind {each.features} separate the sets with AUROC {each.auroc:.3f}"
        said += f" ({each.interval.low:.3f} .. {each.interval.high:.3f})"
        if each.is_flagged:
            yield (
                f"warning: {said} and never see the model. The sets are two kinds of text: a small p-value says "
                "nothing about training."
            )
        elif each.is_doubtful:
            yield f"note: {said}, a little above chance: the sets may be two kinds of text."
    if found.no_blind:
        yield f"note: no blind baseline: {found.no_blind}"
    elif not any(each.features == "words" for each in found.blind):
        yield "note: texts were dropped, so there is no blind baseline on words"


def _test_notes(found: Inference) -> Iterator[str]:
    result, halves = found.result, found.halves
    if halves is None and found.options.draws:
        yield f"note: {result.n_held_out} held-out documents are too few to compare halves of them"
    elif halves is not None and halves.low > halves.level:
        yield (
            f"warning: halves of the held-out set are told apart (p < {halves.level:g}) in {halves.rate:.1%} of "
            f"{halves.draws} draws: the test does not hold its level on these documents"
        )
    if found.options.parity:
        yield (
            "warning: conventions of the authors' code: the tested documents share in the scale, so that p-values "
            "may come out too small"
        )
    features = zip(result.features, found.families, strict=True)
    differences = [feature.difference for feature, family in features if family == "membership"]
    lower = sum(difference < 0 for difference in differences)
    if result.p_value < LEVEL and lower > len(differences) / 2:
        yield (
            f"warning: {lower} of {len(differences)} membership scores are lower in the suspect set: the sets differ, "
            "but not as trained-on documents do"
        )


def _verdict(found: Inference) -> str:
    p = found.result.p_value
    said = (
        "the model takes the sets differently" if p < LEVEL else "no evidence that the model takes the sets differently"
    )
    return f"p = {p:.3g}: {said}"


def _features(found: Inference) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("score", overflow="fold", max_width=_NAME)
    for name in ("family", "weight", "difference", "undefined"):
        table.add_column(name, justify="left" if name == "family" else "right", no_wrap=True)
    rows = feature_rows(found).to_pylist()
    for row in rows[:_SHOWN]:
        undefined = row["undefined_suspect"] + row["undefined_held_out"]
        numbers = f"{row['weight']:+.3f}", f"{row['difference']:+.3f}", f"{undefined:,}"
        table.add_row(Text(printable(row["score"])), row["family"], *numbers)
    if len(rows) > _SHOWN:
        table.add_row(f"... {len(rows) - _SHOWN} more, in --format csv", "", "", "", "")
    return table


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
