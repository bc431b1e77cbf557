"""`assay score`: its flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import (
    Address,
    AllStorageOptions,
    EngineOption,
    InputFormat,
    Inputs,
    Kernel,
    Limit,
    MaxDocumentBytes,
    Revision,
    SpecialTokens,
    TextColumn,
    TextTemplate,
    app,
    errors,
    example,
    given,
)

_SCORE_EXAMPLE = example(
    "assay score --model ./my-model --input 'corpus/*.jsonl.gz' --lake lake --run-id monday",
    "assay score --config job.yaml --limit 100 --engine inline",
    "assay score --lake lake --run-id monday-lower --base-run monday --transform lowercase",
    "assay score --lake lake --run-id monday-swap --base-run monday --transform perturb:kind=swap_words --copies 5",
)


@app.command(epilog=_SCORE_EXAMPLE)
def score(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="More inputs.", metavar="[URI]...", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Local folder, hub id or folder URI of a causal LM (safetensors).")
    ] = None,
    input: Inputs = None,  # noqa: A002 - the flag's name
    lake: Annotated[str | None, typer.Option(help="Folder (or fsspec URI) to write to.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same command again resumes it.")] = None,
    transform: Annotated[
        str | None,
        typer.Option(
            help="What to change: lowercase, perturb:kind=K, shuffle, prefix:label=0, unprompted, windows or external.",
            metavar="SPEC",
        ),
    ] = None,
    base_run: Annotated[
        str | None,
        typer.Option(help="Run whose documents --transform changes; what is not given is as there.", metavar="RUN_ID"),
    ] = None,
    copies: Annotated[
        int | None, typer.Option(help="Draws of perturb or shuffle, as runs RUN_ID-1 to RUN_ID-N.", min=1, max=9999)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of these fields; flags win.")] = None,
    format: InputFormat = None,  # noqa: A002 - the flag's name
    text_column: TextColumn = None,
    text_template: TextTemplate = None,
    prompt_column: Annotated[
        str | None, typer.Option(help="Column of a prompt: fed before the text, its tokens flagged in_prompt.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Texts are code in this language: tokens of comments are flagged in_comment.")
    ] = None,
    language_column: Annotated[str | None, typer.Option(help="Column that names the language of each text.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the document's id (default: SOURCE#ROW).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of 0/1 labels.")] = None,
    domain_column: Annotated[str | None, typer.Option(help="Column of the domain.")] = None,
    keep_columns: Annotated[list[str] | None, typer.Option(help="Column to keep as attribute. Repeatable.")] = None,
    max_document_bytes: MaxDocumentBytes = None,
    max_rejects: Annotated[
        str | None, typer.Option(help="Stop when more records are rejected: a count, or a share such as 1%.")
    ] = None,
    overwrite: Annotated[
        str | None, typer.Option(help="Drop what this run id holds and start anew.", metavar="RUN_ID")
    ] = None,
    storage_options: AllStorageOptions = None,
    limit: Limit = None,
    context: Annotated[
        int | None, typer.Option(help="Longest window in tokens (default: the model's, at most 2048).")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Step between windows in tokens (default: half the context).")
    ] = None,
    bos: Annotated[str | None, typer.Option(help="auto (as the tokenizer does), always or never.")] = None,
    special_tokens: SpecialTokens = None,
    dtype: Annotated[str | None, typer.Option(help="auto (the checkpoint's), float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Optional columns: extremes, nucleus, renyi, topk, hidden. Repeatable, or with commas."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Length of the lists of --features topk (default: 10).")] = None,
    precision: Annotated[str | None, typer.Option(help="compact (6 to 7 bytes a token) or full.")] = None,
    drop_text: Annotated[
        bool | None, typer.Option("--drop-text/--no-drop-text", help="Do not store the documents' text.")
    ] = None,
    revision: Revision = None,
    trust_remote_code: Annotated[
        bool | None,
        typer.Option("--trust-remote-code/--no-trust-remote-code", help="Run code that comes with the model."),
    ] = None,
    engine: EngineOption = None,
    actors: Annotated[
        int | None, typer.Option(help="Scoring actors, or the fewest (default: one a GPU, else one a core).")
    ] = None,
    max_actors: Annotated[
        int | None, typer.Option(help="Most scoring actors: the pool grows and shrinks with the work.")
    ] = None,
    gpus_per_actor: Annotated[
        float | None, typer.Option(help="GPU of an actor: 1, or a share such as 0.25 for several small models.")
    ] = None,
    accelerator_type: Annotated[
        str | None, typer.Option(help="GPU to score on, by Ray's name: H100, A100, L4.", metavar="NAME")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens in a forward pass (default: as many as fit, by device).")
    ] = None,
    kernel: Annotated[
        Kernel | None, typer.Option(help="Of the head: auto takes the fastest that is exact on this device.")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic",
            help="Rows keep their bits whatever shares their batch, on CUDA too; slower there.",
        ),
    ] = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, score nothing.")
    ] = False,
) -> None:
    """Score every token of a corpus with a causal LM, exactly once, into a lake."""
    flags = {k: v for k, v in locals().items() if k not in ("inputs", "config", "dry_run", "copies")}
    flags["input"] = [*(input or []), *(inputs or [])] or None
    flags["features"] = [name for item in features for name in item.split(",")] if features else None
    with errors():
        from jobs.score import run_score

        run_score(config, given(flags), dry_run=dry_run, copies=copies)
