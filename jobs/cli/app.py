"""What every verb shares: the application, the types of common flags, and how errors end a command."""

from __future__ import annotations

import os
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


class LogFormat(StrEnum):
    text = "text"
    json = "json"


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"assay {version('corpus-assay')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True)
    ] = False,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Of warnings and notes (default: ASSAY_LOG_FORMAT, or text).")
    ] = None,
) -> None:
    if log_format is not None:
        os.environ["ASSAY_LOG_FORMAT"] = log_format.value  # processes that this one starts inherit it


class TableOrJson(StrEnum):
    table = "table"
    json = "json"


class Output(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


Lake = Annotated[str, typer.Argument(help="Folder (or fsspec URI) of the lake.", metavar="LAKE")]

StorageOptions = Annotated[
    str | None, typer.Option(help="fsspec options of the lake: a YAML or JSON file, or JSON without secrets.")
]

# Of the verbs that read a corpus

Inputs = Annotated[
    list[str] | None,
    typer.Option(help="File, folder, glob or URI: Parquet, JSONL(.gz .zst), Arrow or text. Repeatable."),
]

InputFormat = Annotated[str | None, typer.Option(help="auto (by suffix), parquet, jsonl, arrow or text.")]

TextColumn = Annotated[str | None, typer.Option(help="Column of the text (default: text); nested ones as meta.body.")]

TextTemplate = Annotated[str | None, typer.Option(help="Text made of several columns: '{title}\\n\\n{body}'.")]

MaxDocumentBytes = Annotated[int | None, typer.Option(help="Reject longer texts.")]

Limit = Annotated[int | None, typer.Option(help="Only the first N records of the input.")]

FirstOfId = Annotated[
    str | None, typer.Option(help="Column of the document's id: of records that share one only the first counts.")
]

SpecialTokens = Annotated[
    str | None, typer.Option(help="auto: text that spells a special token is one; literal: it is plain text.")
]

Revision = Annotated[str | None, typer.Option(help="Revision of a hub model.")]

EngineOption = Annotated[Engine | None, typer.Option(help="ray (default), or inline: a plain loop here.")]

Address = Annotated[str | None, typer.Option(help="Ray cluster to join (default: one started here).")]

DryCount = Annotated[bool, typer.Option("--dry-run", help="Validate and print the plan; count nothing.")]

AllStorageOptions = Annotated[
    str | None, typer.Option(help="fsspec options of input and lake: a YAML or JSON file, or JSON without secrets.")
]


# Of the verbs over scores

ScoreNames = Annotated[
    list[str] | None,
    typer.Option(help="A score, or a variant as it is printed: 'min_k(ratio=0.1)'. Repeatable.", metavar="VARIANT"),
]
References = Annotated[
    list[str] | None, typer.Option(help="Run of the same documents by another model. Repeatable.", metavar="RUN_ID")
]
LabelExpression = Annotated[
    str, typer.Option(help="SQL over `documents` that gives 1, 0 or NULL.", metavar="EXPRESSION")
]
OutputFile = Annotated[Path | None, typer.Option(help="Write to this file instead.")]

ResultFormat = Annotated[
    Output | None, typer.Option(help="How numbers are printed (default: as --output ends, or table).")
]

# Of the verbs that keep a result under a name

ResultName = Annotated[str, typer.Option(help="Name of the result, which queries ask for.")]

OverwriteName = Annotated[str | None, typer.Option(help="Replace the result of this name.", metavar="NAME")]

Figure = Annotated[Path | None, typer.Option(help="Draw it: a file that ends in .svg or .png.")]


def example(*lines: str) -> str:
    """The examples at the end of a verb's help."""
    return "Example:\n\n" + "\n\n".join(lines)


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, enumerations as their values."""
    return {k: (v.value if isinstance(v, StrEnum) else v) for k, v in flags.items() if v is not None}


class errors:  # noqa: N801 - used as a statement
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

    if os.environ.get("ASSAY_LOG_FORMAT") == LogFormat.json:
        import logging

        from pipelines.logs import configure_logs

        configure_logs()
        logging.getLogger("jobs").error("%s", message)
        raise typer.Exit(code) from None
    for i, line in enumerate(printable(redact(message)).splitlines() or [""]):
        typer.echo(f"{'error: ' if i == 0 else '       '}{line}", err=True)
    raise typer.Exit(code) from None
