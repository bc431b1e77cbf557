"""An evaluation as tables of at most 100 columns, with what has to be said below them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.errors import printable
from jobs.evaluate.results import Labelled, Selection, span
from operators.evaluation import Evaluation, Interval, Matched
from operators.evaluation.roc import TPR_LEVEL
from operators.scores import Missing

WIDTH = 100
_NAME = 28  # of the column of names; longer ones are folded
_POINTS = 4  # of ROC curves beside each other; more go to a table of their own
_HEADING = 10  # letters of the baseline's name that a heading has room for


def print_labelled(result: Labelled, console: Console) -> None:
    """AUROCs, then points of the ROC curves, then notes."""
    best_first = sorted(result.evaluations, key=lambda each: -np.nan_to_num(each.auroc, nan=-1.0))
    sizes = f"{result.n_positive:,} documents of label 1 against {result.n_negative:,} of label 0"
    console.print(Text(printable(f"run {result.run_id}: {sizes}")), style="bold")
    console.print(_areas(best_first, result))
    console.print()
    for first in range(0, len(best_first[0].tpr_at_fpr) + 1, _POINTS):
        console.print(_points(best_first, slice(first, first + _POINTS)))
        console.print()
    _print_notes(result.notes(), console)
    tested = len(result.evaluations)
    console.print(
        f"p: one-sided, AUROC above 1/2, adjusted (Holm) for the {tested} scores tested; the best of them is picked on "
        "these documents and will do worse on others. Length-matched: pairs of equal length, one of each label."
    )
    if any(each.against is not None for each in result.evaluations):
        console.print("p (paired): two-sided, of the difference from the baseline (DeLong), adjusted too.")
    _print_missing(result.missing, console)


def print_selection(result: Selection, console: Console) -> None:
    """How many documents each score selects; the list itself goes to a file."""
    table = _table("score", "held out", "in question", "undefined", "smallest p", "selected")
    for name, p_values in result.p_values.items():
        known = ~np.isnan(p_values)
        undefined = int((~known).sum() + np.isnan(result.calibration[name]).sum())
        calibration = int((~np.isnan(result.calibration[name])).sum())
        smallest = f"{p_values[known].min():.2g}" if known.any() else "-"
        counts = (calibration, int(known.sum()), undefined)
        table.add_row(_name(name), *(f"{n:,}" for n in counts), smallest, f"{int(result.selected[name].sum()):,}")
    console.print(Text(printable(f"run {result.run_id}: unlabelled documents against those of label 0")), style="bold")
    console.print(table)
    for blind in result.blind:
        found = f"blind {blind.features}: AUROC {_number(blind.auroc)} ({_interval(blind.interval)})"
        console.print(f"{found}, in question against held out", style="dim")
    _print_notes(result.notes(), console)
    console.print(
        f"selected: by Benjamini-Hochberg at a false-discovery rate of {result.fdr:g}, each score by itself. It holds "
        "if documents in question that are not members were drawn like those of label 0; taking the longest of the "
        "lists undoes it. --output FILE writes the documents."
    )
    _print_missing(result.missing, console)


def _areas(evaluations: Sequence[Evaluation], result: Labelled) -> Table:
    baseline = next((each.against.baseline for each in evaluations if each.against is not None), "")
    headings = ["AUROC", "95 % interval", "p", "length-matched"]
    if baseline:
        headings += ["minus " + (printable(baseline) if len(baseline) <= _HEADING else "baseline"), "p (paired)"]
    table = _table("score", *headings)
    for each in evaluations:
        cells = [_number(each.auroc), _interval(each.auroc_interval), _p(each.p_holm)]
        cells.append(_matched(result.matched[each.name]))
        if each.against is not None:
            cells += [_number(each.against.delong.difference, "+.3f"), _p(each.against.p_holm)]
        elif baseline:
            cells.append("baseline")
        table.add_row(_name(each.name), *cells)
    table.add_section()
    for blind in result.blind:
        table.add_row(_name(f"blind: {blind.features}"), _number(blind.auroc), _interval(blind.interval), style="dim")
    return table


def _points(evaluations: Sequence[Evaluation], some: slice) -> Table:
    """Some of the points: the TPR at each level, and last the FPR at the TPR."""
    headings = [f"TPR at {100 * point.level:g} % FPR" for point in evaluations[0].tpr_at_fpr]
    headings.append(f"FPR at {100 * TPR_LEVEL:g} % TPR")
    table = _table("score", *headings[some], gap=1)
    for each in evaluations:
        cells = [_short(point.tpr, point.interval) for point in each.tpr_at_fpr]
        cells.append(_short(each.fpr_at_tpr, each.fpr_at_tpr_interval))
        table.add_row(_name(each.name), *cells[some])
    return table


def _table(first: str, *others: str, gap: int = 2) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(first, overflow="fold", max_width=_NAME)
    for name in others:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(Text(printable(note)), style="bold yellow" if note.startswith("warning") else "")


def _print_missing(missing: Sequence[Missing], console: Console) -> None:
    if missing:
        names = ", ".join(dict.fromkeys(each.score for each in missing))
        console.print(Text(f"not computed: {names} (`assay scores` says what each lacks)"), style="dim")


def _name(text: str) -> Text:
    return Text(printable(text))


def _number(value: float, form: str = ".3f") -> str:
    return "-" if math.isnan(value) else format(value, form)


def _interval(interval: Interval) -> str:
    return "-" if math.isnan(interval.low) else span(interval)


def _short(value: float, interval: Interval) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3f} ({_share(interval.low)}-{_share(interval.high)})"


def _share(value: float) -> str:
    """Three digits without the 0 before the point, to save a column."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0") else text


def _matched(found: Matched) -> str:
    return (
        "-"
        if math.isnan(found.auroc)
        else f"{found.auroc:.3f} ({_share(found.interval.low)}-{_share(found.interval.high)})"
    )


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "<1e-99" if value < 1e-99 else f"{value:.2g}"
