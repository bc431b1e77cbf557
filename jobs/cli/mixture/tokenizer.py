"""`assay mixture tokenizer`: flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import (
    Address,
    AllStorageOptions,
    DryCount,
    EngineOption,
    Figure,
    FirstOfId,
    InputFormat,
    MaxDocumentBytes,
    OutputFile,
    OverwriteName,
    ResultFormat,
    ResultName,
    TextColumn,
    TextTemplate,
    errors,
    example,
    given,
)
from jobs.cli.mixture.app import mixture


@mixture.command(
    epilog=example(
        "assay mixture tokenizer --tokenizer tokenizer.json --corpora 'code=src/*.jsonl' --corpora 'web=web/*.parquet' "
        "--lake lake --name gpt --figure shares.svg",
        "assay sql lake \"from mixtures where mixture = 'gpt'\"",
    )
)
def tokenizer(
    tokenizer: Annotated[str, typer.Option(help="A BPE tokenizer.json, or a folder that holds one.")],
    corpora: Annotated[
        list[str],
        typer.Option(
            help="A candidate: its name and a file, folder, glob or URI. Repeatable; those of one name add up.",
            metavar="NAME=URI",
        ),
    ],
    lake: Annotated[str, typer.Option(help="Folder (or fsspec URI) that gets the tables.")],
    name: ResultName,
    max_merges: Annotated[int | None, typer.Option(help="Use the tokenizer's first N merges (default: 30000).")] = None,
    sample: Annotated[
        str | None, typer.Option(help="Text of each corpus that is counted, drawn by document (default: 100MB).")
    ] = None,
    training_size: Annotated[
        str | None,
        typer.Option(
            help="Text the tokenizer was trained on, where known, as 300GB: for intervals and misfit "
            "(default: as much as all samples)."
        ),
    ] = None,
    corpora_format: InputFormat = None,
    text_column: TextColumn = None,
    text_template: TextTemplate = None,
    id_column: FirstOfId = None,
    max_document_bytes: MaxDocumentBytes = None,
    resamples: Annotated[
        int | None, typer.Option(help="Draws of documents, in groups, that intervals come of (default: 60).")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Level of the intervals (default: 0.95).")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sample and draws (default: 0).")] = None,
    engine: EngineOption = None,
    address: Address = None,
    figure: Figure = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    overwrite: OverwriteName = None,
    storage_options: AllStorageOptions = None,
    dry_run: DryCount = False,
) -> None:
    """What a BPE tokenizer was trained on: shares of candidate corpora by the order of its merges, with intervals."""
    flags = given({k: v for k, v in locals().items() if k not in ("figure", "format", "output", "dry_run")})
    with errors():
        from jobs.mixture.tokenizer import run_tokenizer

        run_tokenizer(flags, figure=figure, fmt=format and format.value, output=output, dry_run=dry_run)
