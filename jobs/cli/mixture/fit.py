"""`assay mixture fit`: flags and help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from jobs.cli.app import Figure, Lake, OutputFile, ResultFormat, StorageOptions, errors, example
from jobs.cli.mixture.app import mixture


class Drawn(StrEnum):
    fit = "fit"
    share = "share"


@mixture.command(
    epilog=example(
        "assay mixture fit lake --run-id monday --figure fit.svg",
        "assay mixture fit lake --run-id small --run-id large --no-vocabulary --figure matrix.svg",
        "assay sql lake \"from model_domain where part = 'domain'\"",
    )
)
def fit(
    lake: Lake,
    run_id: Annotated[list[str], typer.Option(help="A run to measure. Repeatable: runs of the same documents.")],
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary/--no-vocabulary", help="Loss by vocabulary type too: reads every token.")
    ] = True,
    min_documents: Annotated[
        int, typer.Option(help="Leave domains with fewer scored documents out of the macro mean.")
    ] = 1,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of documents; 0: no intervals of domains.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    figure: Figure = None,
    draw: Annotated[
        Drawn, typer.Option(help="fit: bits per byte, of several runs as a heat map; share: shares of the tokens.")
    ] = Drawn.fit,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """How well models predict each domain: bits per byte, perplexity and share, with intervals. Kept in the lake."""
    with errors():
        from jobs.mixture.fit import FitOptions, fit_settings, run_fit
        from jobs.query import read_options

        settings = fit_settings(
            confidence=confidence, resamples=resamples, seed=seed, min_documents=min_documents
        )  # fmt: skip
        options = FitOptions(lake, run_id, settings, vocabulary, read_options(storage_options))
        run_fit(options, format and format.value, output, figure, draw.value)
