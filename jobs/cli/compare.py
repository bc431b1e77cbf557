"""`assay compare`: flags and help."""

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
    app,
    errors,
    example,
)


class Unit(StrEnum):
    words = "words"
    tokens = "tokens"


@app.command(
    epilog=example(
        "assay compare lake --name domains --run-id monday --by domain --figure matrix.svg",
        "assay compare lake --name years --corpus old=y2019 --corpus \"new=monday:domain = 'web'\" --ngram 1 --ngram 3",
        "assay sql lake \"from comparisons where comparison = 'domains' order by p_adjusted\"",
    )
)
def compare(
    lake: Lake,
    name: ResultName,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="A corpus: a run, or its documents for which SQL over `documents` is true. Twice or more.",
            metavar="NAME=RUN[:CONDITION]",
        ),
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="One run, split by --by.")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="domain, source, label or a kept column: each value is a corpus.", metavar="COLUMN"),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Only this value of --by. Repeatable.", metavar="VALUE")
    ] = None,
    unit: Annotated[
        list[Unit] | None, typer.Option(help="words (default), or tokens of one tokenizer. Repeatable.")
    ] = None,
    ngram: Annotated[
        list[int] | None, typer.Option(help="Length of n-grams, 1 to 5. Repeatable (default: 1 and 2).", metavar="N")
    ] = None,
    statistic: Annotated[
        list[str] | None,
        typer.Option(help="Beside js and its root: kl, tv, hellinger, jaccard. Repeatable.", metavar="NAME"),
    ] = None,
    depth: Annotated[
        bool | None,
        typer.Option("--depth/--no-depth", help="Depth of mean hidden states (default: where runs kept them)."),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Relabelings of documents.", min=19, max=1_000_000)] = 1000,
    max_documents: Annotated[int, typer.Option(help="Of a corpus, drawn by --seed.", min=2)] = 10_000,
    confidence: Annotated[float, typer.Option(help="Level of intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of draws and relabelings.", min=0)] = 0,
    overwrite: OverwriteName = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    figure: Figure = None,
    storage_options: StorageOptions = None,
) -> None:
    """How corpora differ: n-gram divergences, depth, lengths and compression, tested by relabelling documents."""
    with errors():
        from jobs.compare.request import CompareOptions, parse_corpus
        from jobs.compare.run import run_compare
        from jobs.query import read_options

        options = CompareOptions(
            lake=lake, name=name, corpora=[parse_corpus(each) for each in corpus or ()], run_id=run_id, by=by,
            groups=group or (), units=tuple(dict.fromkeys(each.value for each in unit or [Unit.words])),
            ngrams=tuple(dict.fromkeys(ngram or (1, 2))), statistics=statistic or (), depth=depth,
            permutations=permutations, most_documents=max_documents, confidence=confidence, seed=seed,
            overwrite=overwrite, storage_options=read_options(storage_options),
        )  # fmt: skip
        run_compare(options, format and format.value, output, figure)
