"""`assay tokenizers`: flags and help."""

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
    Inputs,
    Limit,
    MaxDocumentBytes,
    OutputFile,
    OverwriteName,
    ResultFormat,
    TextColumn,
    TextTemplate,
    app,
    errors,
    example,
    given,
)


@app.command(
    epilog=example(
        "assay tokenizers --tokenizer gpt2=models/gpt2 --tokenizer new=tokenizer.json --input 'corpus/*.jsonl' "
        "--domain-column lang --lake lake --name web --figure web.svg",
        "assay tokenizers --tokenizer models/gpt2 --input flores.jsonl --domain-column lang --parallel-column id "
        "--baseline en --lake lake --name flores",
        "assay tokenizers --list",
    )
)
def tokenizers(
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(help="Folder, tokenizer.json or hub id, and what to call it. Repeatable.", metavar="[NAME=]PATH"),
    ] = None,
    input: Inputs = None,  # noqa: A002 - the flag's name
    lake: Annotated[str | None, typer.Option(help="Folder (or fsspec URI) that gets the table.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the result, which queries ask for.")] = None,
    domain_column: Annotated[str | None, typer.Option(help="Column of a text's domain or language.")] = None,
    parallel_column: Annotated[
        str | None, typer.Option(help="Column whose value texts of several domains share that say the same.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Domain that premiums are against (default: that of most documents).")
    ] = None,
    text_column: TextColumn = None,
    text_template: TextTemplate = None,
    input_format: InputFormat = None,
    id_column: FirstOfId = None,
    limit: Limit = None,
    max_document_bytes: MaxDocumentBytes = None,
    check_share: Annotated[
        float | None, typer.Option(help="Share of documents to check cuts and losses on (default: 0.1).")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Level of the intervals (default: 0.95).")] = None,
    seed: Annotated[int | None, typer.Option(help="Of groups and checked documents (default: 0).")] = None,
    engine: EngineOption = None,
    address: Address = None,
    figure: Figure = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    overwrite: OverwriteName = None,
    storage_options: AllStorageOptions = None,
    list_statistics: Annotated[
        bool, typer.Option("--list", help="Say what each statistic is, by formula and source; count nothing.")
    ] = False,
    dry_run: DryCount = False,
) -> None:
    """How tokenizers cut a corpus: lengths, premiums between languages, vocabulary, entropies, losses, numbers."""
    how = {"input_format", "figure", "format", "output", "list_statistics", "dry_run"}
    flags = given({flag: value for flag, value in locals().items() if flag not in {*how, "how"}})
    with errors():
        from jobs.output import choose_format

        if list_statistics:
            from jobs.tokenizers.definitions import show_statistics

            show_statistics(choose_format(format and format.value, output), output)
            return
        from jobs.tokenizers.run import run_tokenizers

        flags |= given({"format": input_format})
        run_tokenizers(flags, figure=figure, fmt=format and format.value, output=output, dry_run=dry_run)
