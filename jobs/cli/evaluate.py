"""`assay evaluate`: flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import (
    LabelExpression,
    Lake,
    OutputFile,
    References,
    ResultFormat,
    ScoreNames,
    StorageOptions,
    app,
    errors,
    example,
)


@app.command(
    epilog=example(
        "assay evaluate lake --run-id monday --figure roc.svg",
        "assay evaluate lake --run-id monday --score min_k --score zlib --cluster source --format json",
        "assay evaluate lake --run-id monday --held-out --fdr 0.1 --output selected.csv",
    )
)
def evaluate(
    lake: Lake,
    run_id: Annotated[str, typer.Option(help="The run whose scores are evaluated.")],
    family: Annotated[
        list[str] | None,
        typer.Option("--family", "-F", help="membership, detection, learned (default), memorization, ... Repeatable."),
    ] = None,
    score: ScoreNames = None,
    reference: References = None,
    label: LabelExpression = "label",
    cluster: Annotated[
        str | None, typer.Option(help="source, domain or a kept column: documents that belong together.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Score that the others are compared with (default: loss).")
    ] = None,
    fpr: Annotated[str, typer.Option(help="False-positive rates of the TPR, with commas.")] = "0.001,0.01,0.05",
    draws: Annotated[
        int | None, typer.Option(help="Bootstrap draws (default: 2000, fewer over 20,000 documents).", min=0)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of draws, folds and matching.", min=0)] = 0,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Select unlabelled documents that score too high for those of label 0.")
    ] = False,
    fdr: Annotated[float | None, typer.Option(help="False-discovery rate of that selection (default: 0.1).")] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Break ties of its p-values at random (by --seed).")] = False,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the ROC curves: a .svg or .png file.")] = None,
    storage_options: StorageOptions = None,
) -> None:
    """How well scores tell labelled documents apart: intervals, adjusted tests, blind baselines, matched lengths."""
    with errors():
        from jobs.evaluate.request import EvaluateOptions, parse_levels
        from jobs.evaluate.run import run_evaluate
        from jobs.query import read_options

        options = EvaluateOptions(
            lake=lake, run_id=run_id, families=family or (), scores=score or (), references=reference or (),
            label=label, cluster=cluster, baseline=baseline, levels=parse_levels(fpr), draws=draws, seed=seed,
            held_out=held_out, fdr=fdr, smooth=smooth, storage_options=read_options(storage_options),
        )  # fmt: skip
        run_evaluate(options, format and format.value, output, figure)
