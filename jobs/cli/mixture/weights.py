"""`assay mixture weights`: flags and help."""

from __future__ import annotations

from enum import StrEnum
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


class Grain(StrEnum):
    document = "document"
    token = "token"


@mixture.command(
    epilog=example(
        "assay mixture weights lake --component code=run-code --component web=run-web --name mix --figure mix.svg",
        "assay sql lake \"from mixtures where mixture = 'mix'\"",
    )
)
def weights(
    lake: Lake,
    name: ResultName,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Run of a reference model over the documents. Repeatable.", metavar="RUN_ID"),
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(help="The same under the name of its domain. Repeatable.", metavar="NAME=RUN_ID"),
    ] = None,
    grain: Annotated[
        list[Grain] | None,
        typer.Option(help="What is of one component: a document (default) or a token (one tokenizer). Repeatable."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="SQL over `documents` of the first run: which of them.", metavar="CONDITION"),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Draws of documents behind the intervals.", min=1)] = 1000,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of these draws.", min=0)] = 0,
    overwrite: OverwriteName = None,
    figure: Figure = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Shares of domains in a corpus, by EM over what a model of each domain says of the same documents."""
    with errors():
        from jobs.mixture.weights import run_weights
        from jobs.mixture.weights_request import DOCUMENT, WeightsOptions, parse_components
        from jobs.query import read_options

        options = WeightsOptions(
            lake=lake, components=parse_components(reference or (), component or ()), name=name,
            grains=[each.value for each in grain] if grain else (DOCUMENT,), where=where, resamples=resamples,
            confidence=confidence, seed=seed, overwrite=overwrite, storage_options=read_options(storage_options),
        )  # fmt: skip
        run_weights(options, format and format.value, output, figure)
