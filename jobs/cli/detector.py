"""`assay detector ...`: flags and help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from jobs.cli.app import LabelExpression, Lake, References, ScoreNames, StorageOptions, app, errors, example

detector = typer.Typer(help="Learned detectors: trained on labelled documents, out of fold.", no_args_is_help=True)
app.add_typer(detector, name="detector")


class DetectorKind(StrEnum):
    logistic = "logistic"
    los_net = "los_net"
    pawn = "pawn"


@detector.command(
    epilog=example(
        "assay detector train lake --run-id monday --kind logistic --output detectors/monday",
        "assay detector train lake --run-id monday --kind los_net --cluster source --output detectors/los",
        "assay scores lake --run-id tuesday --detector detectors/monday",
    )
)
def train(
    lake: Lake,
    run_id: Annotated[str, typer.Option(help="The run whose labelled documents are learned from.")],
    kind: Annotated[
        DetectorKind,
        typer.Option(help="logistic: all scores; los_net: --features topk; pawn: --features extremes,nucleus."),
    ],
    output: Annotated[str, typer.Option(help="Folder (or fsspec URI) of the detector.", metavar="FOLDER")],
    folds: Annotated[int, typer.Option(help="Models, each tested on what it never saw.", min=2, max=100)] = 5,
    seed: Annotated[int, typer.Option(help="Of folds and training.", min=0, max=2**31 - 1000)] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the documents at most (networks).", min=1)] = 40,
    label: LabelExpression = "label",
    cluster: Annotated[
        str | None, typer.Option(help="source, domain or a kept column: documents that stay in one fold.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option("--family", "-F", help="Whose scores logistic combines. Repeatable (default: all)."),
    ] = None,
    score: ScoreNames = None,
    reference: References = None,
    positions: Annotated[
        int, typer.Option(help="Tokens of a document that a network reads; 0: as in its paper.", min=0, max=8192)
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the detector in this folder.")] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Train a detector on a run's labelled documents and keep it as safetensors and a card."""
    with errors():
        from jobs.detector import run_train
        from jobs.query import read_options
        from operators.detectors.training import TrainSettings

        settings = TrainSettings(
            kind=kind.value, folds=folds, seed=seed, epochs=epochs, label=label, cluster=cluster,
            families=tuple(family) if family else None, scores=tuple(score) if score else None,
            references=tuple(reference or ()), positions=positions,
        )  # fmt: skip
        run_train(lake, run_id, settings, output, overwrite=overwrite, options=read_options(storage_options))


@detector.command(epilog=example("assay detector show detectors/monday"))
def show(
    folder: Annotated[str, typer.Argument(help="Folder (or fsspec URI) of the detector.", metavar="FOLDER")],
    storage_options: StorageOptions = None,
) -> None:
    """Check a detector's files and print its card."""
    with errors():
        from jobs.detector import run_show
        from jobs.query import read_options

        run_show(folder, read_options(storage_options))
