"""`assay overlap`: flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Address, AllStorageOptions, EngineOption, Limit, MaxDocumentBytes, app, errors, example, given


@app.command(
    epilog=example(
        "assay overlap --benchmark 'bench/*.jsonl' --corpus 'corpus/*.parquet' --lake lake --name mmlu "
        "--input-column question --answer-column answer",
        "assay sql lake \"from overlap_spans where overlap = 'mmlu' order by n_words desc limit 5\"",
    )
)
def overlap(
    benchmark: Annotated[
        list[str], typer.Option(help="File, folder, glob or URI: Parquet, JSONL(.gz .zst), Arrow or text. Repeatable.")
    ],
    corpus: Annotated[list[str], typer.Option(help="The same, of the corpus that is searched. Repeatable.")],
    lake: Annotated[str, typer.Option(help="Folder (or fsspec URI) that gets the tables.")],
    name: Annotated[str, typer.Option(help="Name of the comparison, which queries ask for.")],
    ngram: Annotated[int | None, typer.Option(help="Words (or token ids) of an n-gram (default: 13).", min=1)] = None,
    normalization: Annotated[
        str | None, typer.Option(help="words-1 (default), janitor-1 (lm-evaluation-harness), or tokens.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="For tokens: a folder with a tokenizer, or a tokenizer.json.")
    ] = None,
    input_column: Annotated[
        str | None, typer.Option(help="Column of an item's text, or of its input (default: text).")
    ] = None,
    input_template: Annotated[
        str | None, typer.Option(help="Input made of several columns: '{question}\\n{choices}'.")
    ] = None,
    answer_column: Annotated[str | None, typer.Option(help="Column of an item's answer, where items have one.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the item's id (default: SOURCE#ROW).")] = None,
    benchmark_format: Annotated[
        str | None, typer.Option(help="auto (by suffix), parquet, jsonl, arrow or text.")
    ] = None,
    corpus_text_column: Annotated[str | None, typer.Option(help="Column of a document's text (default: text).")] = None,
    corpus_text_template: Annotated[
        str | None, typer.Option(help="Text made of several columns: '{title}\\n\\n{body}'.")
    ] = None,
    corpus_id_column: Annotated[
        str | None, typer.Option(help="Column of the document's id (default: SOURCE#ROW).")
    ] = None,
    corpus_format: Annotated[str | None, typer.Option(help="auto (by suffix), parquet, jsonl, arrow or text.")] = None,
    limit: Limit = None,
    max_document_bytes: MaxDocumentBytes = None,
    drop: Annotated[
        str | None,
        typer.Option(help="Which documents to drop, not cut: never, any, share:0.8, pieces:10 (default)."),
    ] = None,
    margin: Annotated[int | None, typer.Option(help="Characters to cut around a match (default: 0).", min=0)] = None,
    most_items: Annotated[
        int | None, typer.Option(help="Commoner n-grams count as seen, but start no span (default: 100).", min=1)
    ] = None,
    engine: EngineOption = None,
    address: Address = None,
    overwrite: Annotated[
        str | None, typer.Option(help="Drop what the lake has under this name first.", metavar="NAME")
    ] = None,
    storage_options: AllStorageOptions = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and print the plan; compare nothing.")] = False,
) -> None:
    """Find a benchmark in a corpus: verbatim n-grams of its items, the documents that hold them, what to cut out."""
    flags = given({k: v for k, v in locals().items() if k != "dry_run"})
    with errors():
        from jobs.overlap.run import run_overlap

        run_overlap(flags, dry_run=dry_run)
