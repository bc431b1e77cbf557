"""`assay contamination`: flags and help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.app import Lake, OutputFile, ResultFormat, ScoreNames, StorageOptions, app, errors, example


@app.command(
    epilog=example(
        "assay contamination lake --benchmark mmlu --benchmark gsm8k --clean fresh-questions",
        "assay contamination lake --benchmark mmlu --clean-where 'label = 0' --require overlap,exchangeability --fail",
        "assay contamination lake --benchmark mmlu --overlap mmlu-web --format json --output verdict.json",
    )
)
def contamination(
    lake: Lake,
    benchmark: Annotated[
        list[str], typer.Option(help="Run that scored a benchmark, an item a document. Repeatable.", metavar="RUN_ID")
    ],
    overlap: Annotated[
        list[str] | None,
        typer.Option(help="Overlap with a corpus (default: those of the same files). Repeatable.", metavar="NAME"),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option(help="Run of items like these that the model has certainly not seen.", metavar="RUN_ID"),
    ] = None,
    clean_where: Annotated[
        str | None,
        typer.Option(help="SQL over `documents`: which of a benchmark's own items are such.", metavar="CONDITION"),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="Chance that a test calls any benchmark contaminated that is not.")
    ] = 0.05,
    max_overlap: Annotated[float, typer.Option(help="Share of the items that may overlap with a corpus.")] = 0.0,
    overlap_rule: Annotated[
        str,
        typer.Option(
            help="share:S: an item of whose n-grams a corpus holds the share S; any: with one n-gram, boilerplate too."
        ),
    ] = "share:0.8",
    min_answer_tokens: Annotated[
        int | None, typer.Option(help="Shorter answers are guessed, and left out of memorised items (default: 8).")
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            help="What must be judged for `no evidence found`, with commas: overlap, memorised, exchangeability, "
            "dataset_inference, loss_gap."
        ),
    ] = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit code 3 unless all is: no evidence found. As --fail-on incomplete.")
    ] = False,
    fail_on: Annotated[
        str | None, typer.Option(help="contaminated: exit code 3 for that alone; incomplete: for either.")
    ] = None,
    score: ScoreNames = None,
    splits: Annotated[
        int, typer.Option(help="Random splits of dataset inference; their p-values become one.", min=1)
    ] = 5,
    seed: Annotated[int, typer.Option(help="Of splits and folds of dataset inference.", min=0)] = 0,
    draws: Annotated[
        int, typer.Option(help="Draws of halves of the clean set, for the false-positive rate; 0: none.", min=0)
    ] = 100,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Was a benchmark trained on? One verdict from overlap, memorised items, order, dataset inference and loss gaps.

    Exit code 0: judged. 1: the storage failed. 2: it cannot be judged as asked. 3: with --fail, one is contaminated
    or incomplete (nothing could be judged, or not all that --require names).
    """
    with errors():
        from jobs.contamination.request import ContaminationOptions
        from jobs.contamination.run import run_contamination
        from jobs.query import read_options
        from operators.contamination.memorised import MIN_TOKENS

        options = ContaminationOptions(
            lake=lake, benchmarks=benchmark, overlaps=overlap or (), clean=clean, clean_where=clean_where, alpha=alpha,
            max_overlap=max_overlap, overlap_rule=overlap_rule,
            min_answer_tokens=MIN_TOKENS if min_answer_tokens is None else min_answer_tokens,
            require=[kind.strip() for kind in require.split(",")] if require else (),
            fail_on=fail_on or ("incomplete" if fail else None), scores=score or (), splits=splits, seed=seed,
            draws=draws,
            storage_options=read_options(storage_options),
        )  # fmt: skip
        code = run_contamination(options, format and format.value, output)
        if code:
            raise typer.Exit(code)
