"""The command `assay`: every verb's flags and help. Nothing heavy is imported before a verb runs.

assay --help
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="assay",
    help="Score corpora with language models: exact per-token statistics in a lake that SQL can read.",
    epilog="Start with: assay demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Engine(StrEnum):
    ray = "ray"
    inline = "inline"


class Kernel(StrEnum):
    auto = "auto"
    torch = "torch"
    triton = "triton"


class Output(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


Lake = Annotated[str, typer.Argument(help="Folder (or fsspec URI) of the lake.", metavar="LAKE")]

StorageOptions = Annotated[
    str | None, typer.Option(help="fsspec options of the lake: a YAML or JSON file, or JSON without secrets.")
]


def _example(*lines: str) -> str:
    return "Example:\n\n" + "\n\n".join(lines)


_SCORE_EXAMPLE = _example(
    "assay score --model ./my-model --input 'corpus/*.jsonl.gz' --lake lake --run-id monday",
    "assay score --config job.yaml --limit 100 --engine inline",
)


@app.command(epilog=_SCORE_EXAMPLE)
def score(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="More inputs.", metavar="[URI]...", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Local folder or hub id of a causal LM (safetensors).")] = None,
    input: Annotated[  # noqa: A002 - the flag's name
        list[str] | None,
        typer.Option(help="File, folder, glob or URI: Parquet, JSONL(.gz .zst), Arrow or text. Repeatable."),
    ] = None,
    lake: Annotated[str | None, typer.Option(help="Folder (or fsspec URI) to write to.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same command again resumes it.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of these fields; flags win.")] = None,
    format: Annotated[  # noqa: A002 - the flag's name
        str | None, typer.Option(help="auto (by suffix), parquet, jsonl, arrow or text.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text (default: text); nested ones as meta.body.")
    ] = None,
    text_template: Annotated[
        str | None, typer.Option(help="Text made of several columns: '{title}\\n\\n{body}'.")
    ] = None,
    prompt_column: Annotated[
        str | None, typer.Option(help="Column of a prompt: fed before the text, its tokens flagged in_prompt.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the document's id (default: SOURCE#ROW).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of 0/1 labels.")] = None,
    domain_column: Annotated[str | None, typer.Option(help="Column of the domain.")] = None,
    keep_columns: Annotated[list[str] | None, typer.Option(help="Column to keep as attribute. Repeatable.")] = None,
    max_document_bytes: Annotated[int | None, typer.Option(help="Reject longer texts.")] = None,
    max_rejects: Annotated[
        str | None, typer.Option(help="Stop when more records are rejected: a count, or a share such as 1%.")
    ] = None,
    overwrite: Annotated[
        str | None, typer.Option(help="Drop what this run id holds and start anew.", metavar="RUN_ID")
    ] = None,
    storage_options: Annotated[
        str | None, typer.Option(help="fsspec options of input and lake: a YAML or JSON file, or JSON without secrets.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N records of the input.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Longest window in tokens (default: the model's, at most 2048).")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Step between windows in tokens (default: half the context).")
    ] = None,
    bos: Annotated[str | None, typer.Option(help="auto (as the tokenizer does), always or never.")] = None,
    special_tokens: Annotated[
        str | None, typer.Option(help="auto: text that spells a special token is one; literal: it is plain text.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="auto (the checkpoint's), float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Optional columns: extremes, nucleus, renyi, topk, hidden. Repeatable, or with commas."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Length of the lists of --features topk (default: 10).")] = None,
    precision: Annotated[str | None, typer.Option(help="compact (6 to 7 bytes a token) or full.")] = None,
    drop_text: Annotated[bool | None, typer.Option("--drop-text", help="Do not store the documents' text.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
    trust_remote_code: Annotated[
        bool | None, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="ray (default), or inline: a plain loop here.")] = None,
    actors: Annotated[int | None, typer.Option(help="Scoring actors (default: one a GPU, else one a core).")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens in a forward pass (default: by device).")] = None,
    kernel: Annotated[
        Kernel | None, typer.Option(help="Of the head: auto takes the fastest that is exact on this device.")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic", help="Rows keep their bits whatever shares their batch, on CUDA too; slower there."
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join (default: one started here).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, score nothing.")
    ] = False,
) -> None:
    """Score every token of a corpus with a causal LM, exactly once, into a lake."""
    flags = {k: v for k, v in locals().items() if k not in ("inputs", "config", "dry_run")}
    flags["input"] = [*(input or []), *(inputs or [])] or None
    flags["features"] = [name for item in features for name in item.split(",")] if features else None
    with _errors():
        from jobs.score import run_score

        run_score(config, _given(flags), dry_run=dry_run)


@app.command(epilog=_example("assay catalog lake", 'duckdb lake/lake.duckdb "select * from runs"'))
def catalog(lake: Lake, storage_options: StorageOptions = None) -> None:
    """Rebuild the lake's DuckDB catalog (views and macros only) and print what it holds."""
    with _errors():
        from jobs.query import read_options, run_catalog

        run_catalog(lake, read_options(storage_options))


@app.command(
    epilog=_example(
        'assay sql lake "select doc_id, avg(logprob) from tokens group by all order by 2 desc limit 5"',
        "assay sql lake \"from min_k('monday', ratio := 0.2)\" --format csv --output scores.csv",
    )
)
def sql(
    lake: Lake,
    query: Annotated[str, typer.Argument(help="One SELECT over the views and macros; - reads standard input.")],
    format: Annotated[Output, typer.Option(help="How rows are printed.")] = Output.table,  # noqa: A002 - the flag's name
    output: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    run_id: Annotated[
        list[str] | None, typer.Option(help="Only these runs; others are not even listed. Repeatable.")
    ] = None,
    storage_options: StorageOptions = None,
) -> None:
    """Query the lake with SQL, read-only."""
    with _errors():
        from jobs.query import read_options, run_sql

        run_sql(lake, query, format.value, output, runs=run_id or (), options=read_options(storage_options))


@app.command(epilog=_example("assay verify lake", "assay verify lake --run-id monday --repair"))
def verify(
    lake: Lake,
    run_id: Annotated[str | None, typer.Option(help="One run instead of all.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="First drop what unfinished writes left; while no job writes there.")
    ] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Check the lake against its contract: prints every fault, exits 1 if there are any. Only --repair changes it."""
    with _errors():
        from jobs.query import read_options, run_verify

        raise typer.Exit(run_verify(lake, run_id, repair=repair, options=read_options(storage_options)))


@app.command(epilog=_example("assay demo", "assay demo --folder /tmp/demo --seed 3"))
def demo(
    folder: Annotated[Path, typer.Option(help="Where corpus, model and lake go.")] = Path("assay-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    engine: Annotated[Engine, typer.Option(help="ray, or inline: a plain loop here.")] = Engine.ray,
) -> None:
    """The main job on real text with known truth: train a small model here, score, and see who was a member."""
    with _errors():
        from jobs.demo.run import run_demo

        run_demo(folder, seed, engine.value)


bench = typer.Typer(help="Measure: medians and ratios of interleaved rounds, memory and agreement beside speed.",
                    no_args_is_help=True)  # fmt: skip
app.add_typer(bench, name="bench")


@bench.command(epilog=_example("assay bench statistics", "assay bench statistics --shape wide --dtype bfloat16"))
def statistics(
    shape: Annotated[list[str] | None, typer.Option(help="gpt2-small, wide. Repeatable (default: all).")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16. Repeatable (default: all).")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 7,
) -> None:
    """What the statistics cost over the model's body and one plain head product."""
    with _errors():
        from jobs.bench.statistics import bench_statistics

        bench_statistics(shape, dtype, rounds)


@bench.command("score", epilog=_example("assay bench score", "assay bench score --shape wide --no-peers --rounds 3"))
def bench_score_command(
    shape: Annotated[str, typer.Option(help="gpt2-small or wide.")] = "gpt2-small",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
    documents: Annotated[int, typer.Option(help="Documents of log-normal length.", min=8)] = 32,
    peers: Annotated[bool, typer.Option(help="Also lm-evaluation-harness and minicons, where installed.")] = True,
) -> None:
    """Useful tokens/s on mixed lengths against the bare forward pass, a research loop and peers."""
    with _errors():
        from jobs.bench.score import bench_score

        bench_score(shape, rounds, documents, peers)


@bench.command(epilog=_example("assay bench query", "assay bench query --tokens 1000000 --rounds 1"))
def query(
    tokens: Annotated[int, typer.Option(help="Tokens of the lake that is made for it.", min=10_000)] = 20_000_000,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
) -> None:
    """How fast scores are asked of a lake, in tokens/s, against a plain GROUP BY."""
    with _errors():
        from jobs.bench.query import bench_query

        bench_query(tokens, rounds)


@bench.command(epilog=_example("assay bench storage"))
def storage(
    folder: Annotated[Path, typer.Option(help="The demo's folder: real text and a trained model.")] = Path(
        "assay-demo"
    ),
) -> None:
    """Bytes a token on real statistics, by column and precision, and write and read speed."""
    with _errors():
        from jobs.bench.storage import bench_storage

        bench_storage(folder)


@bench.command(epilog=_example("assay bench products"))
def products(
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 9,
) -> None:
    """Speed and rounding of float32 products on this CPU: torch's own against those that scoring uses."""
    with _errors():
        from jobs.bench.products import bench_products

        bench_products(rounds)


@bench.command(epilog=_example("assay bench memory", "assay bench memory --tokens 1000000"))
def memory(
    tokens: Annotated[
        int, typer.Option(help="Tokens to score; the target is judged from 20 M on.", min=1)
    ] = 20_000_000,
) -> None:
    """Whether a scorer's memory grows over a long run: resident memory after every block."""
    with _errors():
        from jobs.bench.memory import bench_memory

        bench_memory(tokens)


@bench.command(epilog=_example("assay bench device", "assay bench device --device cpu --shape tiny --rounds 1"))
def device(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or cpu.")] = "cuda",
    shape: Annotated[str, typer.Option(help="1b (for accelerators) or tiny.")] = "1b",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1, max=100)] = 5,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 (default on CUDA), float16 or float32.")] = None,
) -> None:
    """Scoring on one accelerator against the bare forward pass, a research loop and padded batches."""
    with _errors():
        from jobs.bench.device import bench_device

        bench_device(device, shape, rounds, dtype)


@bench.command("first-use", epilog=_example("assay bench first-use", "assay bench first-use --no-demo"))
def first_use(
    folder: Annotated[Path | None, typer.Option(help="Where the demo goes and stays: empty, or not there yet.")] = None,
    rounds: Annotated[int, typer.Option(help="Starts of `assay --help`.", min=1, max=100)] = 9,
    demo: Annotated[bool, typer.Option(help="Also time `assay demo`.")] = True,
) -> None:
    """What a newcomer waits for: the wall time of `assay --help` and of `assay demo`."""
    with _errors():
        from jobs.bench.first_use import bench_first_use

        bench_first_use(folder, rounds, demo)


@bench.command("all", epilog=_example("assay bench all", "assay bench all --quick --output record.txt"))
def bench_all_command(
    quick: Annotated[bool, typer.Option("--quick", help="Minutes, over too little to be quoted.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="The record (default: infra/benchmarks/<date>-<hardware>.txt).")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this benchmark. Repeatable (default: all).")] = None,
) -> None:
    """Every benchmark that this machine can run: one dated record, with a verdict on every target."""
    with _errors():
        from jobs.bench.suite import bench_all

        bench_all(quick, output, only or ())


@bench.command(epilog=_example("assay bench targets infra/benchmarks/2026-11-21-cpu-2-cores.txt"))
def targets(
    file: Annotated[Path, typer.Argument(help="A record, as `assay bench all` writes it.", metavar="FILE")],
) -> None:
    """Judge a stored record again: every target, what was measured, met or not."""
    with _errors():
        from jobs.bench.targets import bench_targets

        bench_targets(file)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {k: (v.value if isinstance(v, StrEnum) else v) for k, v in flags.items() if v is not None}


class _errors:  # noqa: N801 - used as a statement
    """Turns the errors that a user can mend into one clear message and an exit code; lets defects through."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, typer.Exit):
            return
        if isinstance(error, KeyboardInterrupt):
            _stop("interrupted; run the same command again to resume", 130)
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(0) from None
        from jobs.errors import exit_code

        code = exit_code(error)
        if code is not None:
            _stop(str(error), code)


def _stop(message: str, code: int) -> None:
    from jobs.errors import printable
    from operators.storage.remote import redact

    for i, line in enumerate(printable(redact(message)).splitlines() or [""]):
        typer.echo(f"{'error: ' if i == 0 else '       '}{line}", err=True)
    raise typer.Exit(code) from None


def main() -> None:
    """Entry point of the command `assay`."""
    app()


if __name__ == "__main__":
    main()
