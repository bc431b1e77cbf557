"""`assay detector train` and `assay detector show`: trains a detector out of fold, and prints its card."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.errors import printable
from jobs.query import check_lake, check_run
from pipelines.logs import configure_logs

WIDTH = 100

if TYPE_CHECKING:
    from operators.detectors.card import Card
    from operators.detectors.training import TrainSettings


def run_train(
    lake: str,
    run_id: str,
    settings: TrainSettings,
    output: str,
    *,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Train, write the folder, print the card and the command that applies it.

    Raises:
        ConfigError: no such lake or run.
        DetectorError: what is asked for cannot be trained, the folder is taken, or a label is neither 1 nor 0.
        ScoreError: as `operators.scores.plan_scores`.
        QueryError: DuckDB failed, or refused the expression of the labels.
    """
    from operators.detectors.card import LABEL
    from operators.detectors.files import check_free, save
    from operators.detectors.training import train
    from operators.evaluation.run_scores import reading

    configure_logs()
    check_lake(lake, options)
    check_run(lake, run_id, options)
    given = dict(options) if options else None
    check_free(output, overwrite=overwrite, storage_options=given)  # before minutes of work
    labelled = None if settings.label == LABEL else _labels(lake, run_id, settings.label, options)
    with reading(lake, options) as connection:
        trained = train(connection, run_id, settings, lake, labelled)
    card = save(output, trained.card, trained.tensors, overwrite=overwrite, storage_options=given)
    print_card(card)
    print(f"\nkept: {output}\napply it: {_application(lake, output, card)}")


def _application(lake: str, output: str, card: Card) -> str:
    """The command that applies a detector to a run."""
    references = getattr(card.inputs, "references", {})
    command = f"assay scores {shlex.quote(lake)} --run-id RUN --detector {shlex.quote(output)}"
    return " ".join([command, *(f"--reference {shlex.quote(name)}" for name in references)])


def _labels(lake: str, run_id: str, expression: str, options: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Ids of the run's documents and what the expression gives for each."""
    from operators.detectors.card import DetectorError
    from operators.evaluation.documents import read_documents

    try:
        found = read_documents(lake, run_id, label=expression, storage_options=options)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise DetectorError(f"--label: {error}") from None
    return found.doc_ids, found.labels


def run_show(folder: str, options: Mapping[str, Any] | None = None) -> None:
    """Check a detector's folder and print its card.

    Raises:
        DetectorError: there is no sound detector.
    """
    from operators.detectors.files import load

    print_card(load(folder, dict(options) if options else None).card)


def print_card(card: Card) -> None:
    """The card for a reader: how well, on what, from what."""
    from operators.detectors.card import LABEL, Scores

    found = card.out_of_fold
    rows = {
        "kind": f"{card.kind}: {card.paper}",
        "out of fold": f"AUROC {found.auroc:.3f} ({found.low:.3f} .. {found.high:.3f})",
        "trained on": f"run {card.run.run_id}: {card.positives:,} documents of label 1, {card.negatives:,} of label 0"
        + (f", {card.undefined:,} left out, with nothing to read" if card.undefined else ""),
        "model": f"{card.run.model_fingerprint}, tokenizer {card.run.tokenizer_fingerprint}",
        "folds": f"{len(card.folds)}, seed {card.seed}"
        + (f", {card.cluster} kept whole" if card.cluster else "")
        + ("" if card.kind == "logistic" else f", passes {', '.join(str(fold.epochs) for fold in card.folds)}"),
        "value": card.value,
        **({"labels": card.label} if card.label != LABEL else {}),
    }
    if isinstance(card.inputs, Scores):
        rows["reads"] = ", ".join(card.inputs.features)
    else:
        rows["reads"] = f"{', '.join(card.inputs.channels)} of the first {card.inputs.positions} scored tokens"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(printable(text)))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)
