"""`assay dataset-inference`: flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Lake, OutputFile, References, ResultFormat, ScoreNames, StorageOptions, app, errors, example


@app.command(
    "dataset-inference",
    epilog=example(
        "assay dataset-inference lake --run-id monday --suspect 'label = 1' --held-out 'label = 0'",
        "assay dataset-inference lake --run-id books --held-out-run new-books --splits 11",
    ),
)
def dataset_inference(
    lake: Lake,
    run_id: Annotated[str, typer.Option(help="The run that holds the suspect documents.")],
    suspect: Annotated[
        str | None,
        typer.Option(
            help="SQL over `documents`: the suspect ones (default: label = 1; all, beside --held-out-run).",
            metavar="CONDITION",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Those that the model has certainly not seen (default: label = 0; all of --held-out-run).",
            metavar="CONDITION",
        ),
    ] = None,
    held_out_run: Annotated[
        str | None, typer.Option(help="Run of the held-out documents, by the same model.", metavar="RUN_ID")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family", "-F", help="membership, detection, uncertainty, fit, memorization. Repeatable (default: all)."
        ),
    ] = None,
    score: ScoreNames = None,
    reference: References = None,
    splits: Annotated[
        int, typer.Option(help="Random splits; p-values of several are combined by rank.", min=1, max=1000)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of splits and folds.", min=0)] = 0,
    draws: Annotated[
        int, typer.Option(help="Draws of halves of the held-out set, for the false-positive rate; 0: none.", min=0)
    ] = 200,
    parity: Annotated[
        bool, typer.Option("--parity", help="Conventions of the authors' code, for comparison with it.")
    ] = False,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Was a set of documents trained on? One p-value from all scores, out of sample, with blind baselines beside it."""
    with errors():
        from jobs.dataset_inference import InferenceOptions, run_dataset_inference
        from jobs.query import read_options

        options = InferenceOptions(
            lake=lake, run_id=run_id, suspect=suspect, held_out=held_out, held_out_run=held_out_run,
            families=family or (), scores=score or (), references=reference or (), splits=splits, seed=seed,
            draws=draws, parity=parity, storage_options=read_options(storage_options),
        )  # fmt: skip
        run_dataset_inference(options, format and format.value, output)
