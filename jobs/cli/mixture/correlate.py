"""`assay mixture correlate`: flags and help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import (
    Figure,
    Lake,
    OutputFile,
    OverwriteName,
    ResultFormat,
    ResultName,
    StorageOptions,
    errors,
    example,
)
from jobs.cli.mixture.app import mixture


class ProjectionOption(StrEnum):
    linear = "linear"
    l2 = "l2"


class TiesOption(StrEnum):
    average = "average"
    position = "position"


@mixture.command(
    epilog=example(
        "assay mixture fit lake --run-id small --run-id medium --run-id large ...",
        "assay mixture correlate lake --errors arc.csv --cap 0.2 --name arc",
        "assay mixture correlate lake --matrix bpb.csv --errors arc.csv --estimator all --name arc-all",
    )
)
def correlate(
    lake: Lake,
    errors_file: Annotated[
        Path, typer.Option("--errors", help="Errors on a benchmark, 1 - accuracy: CSV or Parquet (model, error).")
    ],
    name: ResultName,
    matrix: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet (model, domain, bits_per_byte), in place of the lake's domain fits, whose models are "
            "runs."
        ),
    ] = None,
    run_id: Annotated[
        list[str] | None,
        typer.Option(help="Run whose domain fit to use. Repeatable (default: all).", metavar="RUN_ID"),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            help="sign_cdf, product, sign, sign_sign, spearman or all. Repeatable (default: sign_cdf).", metavar="NAME"
        ),
    ] = None,
    projection: Annotated[
        list[ProjectionOption] | None, typer.Option(help="From estimates to shares. Repeatable (default: linear).")
    ] = None,
    ties: Annotated[
        TiesOption, typer.Option(help="Rank of models with one value: their mean, or as they stand (the authors').")
    ] = TiesOption.average,
    caps: Annotated[Path | None, typer.Option(help="Most that a domain may be: CSV or Parquet (domain, cap).")] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(help="The same: 0.2 for all, web=0.5 for one. Repeatable (default: 1).", metavar="[DOMAIN=]X"),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Orders drawn for p.", min=99, max=1_000_000)] = 10_000,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.", min=0.5, max=0.999)] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of models.", min=100, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the samples and orders.", min=0)] = 0,
    overwrite: OverwriteName = None,
    figure: Figure = None,
    heatmap: Annotated[Path | None, typer.Option(help="Draw the matrix: a file that ends in .svg or .png.")] = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Which domains help a benchmark: bits per byte against errors over many models (perplexity correlations)."""
    with errors():
        from jobs.mixture.correlate import CorrelateOptions, parse_estimators, run_correlate
        from jobs.mixture.reweight_output import Keeping
        from jobs.query import read_options

        options = CorrelateOptions(
            Keeping(lake, name, overwrite, read_options(storage_options)), errors_file, matrix, run_id or (),
            parse_estimators(estimator or ["sign_cdf"]),
            tuple(dict.fromkeys(each.value for each in projection or [ProjectionOption.linear])), ties.value, caps,
            cap or (), permutations, resamples, confidence, seed, figure, heatmap,
        )  # fmt: skip
        run_correlate(options, format and format.value, output)
