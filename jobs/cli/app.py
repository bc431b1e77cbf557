"""What every verb shares: the application, the types of common flags, and how errors end a command."""

from __future__ import annotations

from enum import StrEnum
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

    for i, line in enumerate(printable(redact(message)).splitlines() or [""]):
        typer.echo(f"{'error: ' if i == 0 else '       '}{line}", err=True)
    raise typer.Exit(code) from None
