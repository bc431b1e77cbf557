"""`assay scores` and `assay frequencies`: flags and help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from jobs.cli.app import (
    Address,
    AllStorageOptions,
    EngineOption,
    FirstOfId,
    InputFormat,
    Inputs,
    Lake,
    Limit,
    MaxDocumentBytes,
    References,
    Revision,
    ScoreNames,
    SpecialTokens,
    StorageOptions,
    TextColumn,
    TextTemplate,
    app,
    errors,
    example,
    given,
)


class ListFormat(StrEnum):
    table = "table"
    json = "json"
    markdown = "markdown"


@app.command(
    epilog=example(
        "assay scores lake --run-id monday --reference small",
        "assay scores lake --run-id monday --family membership --score 'min_k(ratio=0.1)'",
        "assay scores --list --family membership",
    )
)
def scores(
    lake: Annotated[
        str | None, typer.Argument(help="Folder (or fsspec URI) of the lake.", metavar="LAKE", show_default=False)
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="The run whose documents are scored; it must be finished.")] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family",
            "-F",
            help="membership, detection, uncertainty, fit or memorization: all that the run gives. Repeatable.",
        ),
    ] = None,
    score: ScoreNames = None,
    reference: References = None,
    detector: Annotated[
        list[str] | None, typer.Option(help="Folder of a learned detector. Repeatable.", metavar="FOLDER")
    ] = None,
    force_detector: Annotated[
        bool,
        typer.Option("--force-detector", help="Apply detectors also to a run of another model, or without a score."),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show every score there is; needs no lake.")] = False,
    format: Annotated[ListFormat, typer.Option(help="How --list prints.")] = ListFormat.table,  # noqa: A002 - the flag
    storage_options: StorageOptions = None,
) -> None:
    """Compute a run's scores and keep them, a file a family, each replaced as a whole; or list the scores there are."""
    with errors():
        from jobs.query import read_options
        from jobs.scores import list_scores, run_scores
        from pipelines.config import ConfigError

        if list_:
            if lake or run_id or score or reference or detector:
                raise ConfigError("--list shows what scores there are: only --family and --format go with it")
            list_scores(family or (), format.value)
            return
        if lake is None or run_id is None:
            raise ConfigError("name the lake and a run: assay scores LAKE --run-id RUN; or --list for what there is")
        if format is not ListFormat.table:
            raise ConfigError("--format is for --list; `assay sql LAKE 'from wide_scores' --format csv` prints values")
        run_scores(
            lake,
            run_id,
            families=family or (),
            scores=score or (),
            references=reference or (),
            detectors=detector or (),
            force_detectors=force_detector,
            options=read_options(storage_options),
        )


@app.command(
    epilog=example(
        "assay frequencies lake --name c4 --input 'c4/*.jsonl.gz' --model ./my-model --first-tokens 1024",
        "assay frequencies lake --name monday --from-run monday",
        "assay sql lake \"from dc_pdd('monday', 'c4') order by score desc limit 5\"",
    )
)
def frequencies(
    lake: Lake,
    name: Annotated[str, typer.Option(help="Name of the counts, which scores then ask for.")],
    input: Inputs = None,  # noqa: A002 - the flag's name
    from_run: Annotated[
        str | None,
        typer.Option(help="Instead of an input: count the tokens of this run of the lake.", metavar="RUN_ID"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Whose tokens: a local folder or hub id; its softmax says how many ids there are."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Instead of a model: a folder with a tokenizer, or a tokenizer.json.")
    ] = None,
    first_tokens: Annotated[
        int | None,
        typer.Option(help="Count only the first N tokens of each document (1024 in the paper's code).", min=1),
    ] = None,
    overwrite: Annotated[str | None, typer.Option(help="Replace the counts of this name.", metavar="NAME")] = None,
    format: InputFormat = None,  # noqa: A002 - the flag's name
    text_column: TextColumn = None,
    text_template: TextTemplate = None,
    id_column: FirstOfId = None,
    limit: Limit = None,
    max_document_bytes: MaxDocumentBytes = None,
    bos: Annotated[
        str | None, typer.Option(help="auto, always or never, as for `assay score`; added tokens are not counted.")
    ] = None,
    special_tokens: SpecialTokens = None,
    revision: Revision = None,
    engine: EngineOption = None,
    address: Address = None,
    storage_options: AllStorageOptions = None,
) -> None:
    """Count how often a corpus holds each token id, as the scores need that compare with a corpus (dc_pdd)."""
    flags = {k: v for k, v in locals().items() if k not in ("lake", "name", "from_run")}
    flags["input"] = input or None
    with errors():
        from jobs.frequencies import run_frequencies

        run_frequencies(lake, name, from_run, given(flags))
