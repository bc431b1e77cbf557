"""Which verbs a job file may ask for, and their fields: both are what the command line itself declares.

A new verb or flag needs nothing here. Fields are called as flags are, with `_` for `-`; arguments by their name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

Verb = tuple[str, ...]

SCORE: Verb = ("score",)
NIGHTLY: Verb = ("nightly",)

# Verbs that only show or that start, watch or stop other jobs. `nightly` is what a file is given to: it has the fields
# of `score`, and a section of its own.
_SHOWS = "it shows what a lake holds, and nothing is kept"
_NO_JOBS: dict[str, str] = {
    "sql": _SHOWS, "status": _SHOWS, "detector show": _SHOWS,
    "check": "it is given a job file", "run": "it is given a job file", "submit": "it is given a job file",
    "job": "it is about jobs that are submitted already",
}  # fmt: skip
_OF_THE_COMMAND = frozenset({"config", "dry_run", "help"})  # not of the job
OF_ONE_RUN = ("run_id", "overwrite")  # every night has runs of its own
NOT_OF_A_NIGHT = ("base_run", "transform", "copies")
_MORE_INPUTS = (SCORE, "inputs")  # the same as its option `input`


@dataclass(frozen=True)
class Field:
    """A flag or an argument. `kind`: bool, int, float or str; `flag` None for an argument, `off` what says no to one
    that is true or false; `metavar` what help calls its value."""

    name: str
    kind: type
    flag: str | None
    off: str | None = None
    repeatable: bool = False
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""


def job_verbs() -> tuple[Verb, ...]:
    """Every verb that a job file may ask for, as `assay --help` lists them."""
    return tuple(verb for verb in _commands() if refusal(verb) is None)


def known_verbs() -> tuple[Verb, ...]:
    """Every verb there is."""
    return tuple(_commands())


def refusal(verb: Verb) -> str | None:
    """Why there is no job of a verb; None where there is."""
    return next((why for name, why in _NO_JOBS.items() if verb[: name.count(" ") + 1] == tuple(name.split())), None)


def fields_of(verb: Verb) -> dict[str, Field]:
    """The fields of a verb by name.

    Raises:
        KeyError: no such verb.
    """
    if verb == NIGHTLY:
        left_out = {*OF_ONE_RUN, *NOT_OF_A_NIGHT}
        return {name: field for name, field in fields_of(SCORE).items() if name not in left_out}
    found = (_field(*parameter) for parameter in _parameters(_commands()[verb]))
    return {
        field.name: field for field in found if field.name not in _OF_THE_COMMAND and (verb, field.name) != _MORE_INPUTS
    }


def has_dry_run(verb: Verb) -> bool:
    """Whether a verb can say what it would do: it has the flag --dry-run."""
    return "dry_run" in inspect.signature(_commands()[verb]).parameters


@cache
def _commands() -> dict[Verb, Any]:
    from jobs.cli import app  # here: the command line imports this module's readers inside its verbs

    return dict(_below(app, ()))


def _below(app: typer.Typer, path: Verb) -> Iterator[tuple[Verb, Any]]:
    for command in app.registered_commands:
        if command.callback is not None:
            yield (*path, command.name or command.callback.__name__.replace("_", "-")), command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            name = group.name if isinstance(group.name, str) else group.typer_instance.info.name
            yield from _below(group.typer_instance, (*path, str(name)))


def _parameters(callback: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, type, what typer is told, default) of each parameter of a command's function."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        hint = hints[name]
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        told = next((note for note in notes if isinstance(note, OptionInfo | ArgumentInfo)), None)
        yield name, kind, told, parameter.default


def _field(name: str, hint: Any, told: Any, default: Any) -> Field:
    kind, repeatable = _kind(hint)
    flags = [
        flag for flag in (getattr(told, "default", None), *(getattr(told, "param_decls", None) or ())) if _is(flag)
    ]
    is_argument = isinstance(told, ArgumentInfo)
    on, _, off = next((flag for flag in flags if flag.startswith("--")), f"--{name.replace('_', '-')}").partition("/")
    if kind is bool and not flags:
        off = f"--no-{on[2:]}"
    choices = tuple(str(each.value) for each in kind) if issubclass(kind, Enum) else ()
    return Field(
        name if is_argument else on[2:].replace("-", "_"),
        kind if kind in (bool, int, float) else str,
        None if is_argument else on,
        off or None,
        repeatable,
        default is inspect.Parameter.empty or default is ...,
        getattr(told, "min", None),
        getattr(told, "max", None),
        choices,
        getattr(told, "metavar", None) or "",
    )


def _is(flag: object) -> bool:
    """Whether it is a flag: within Annotated the first one stands where a default would."""
    return isinstance(flag, str) and flag.startswith("-")


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: of `list[str] | None` text, several."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    (kind,) = kinds
    if get_origin(kind) is list:
        return _kind(get_args(kind)[0])[0], True
    if not isinstance(kind, type) or not issubclass(kind, bool | int | float | str | Path | Enum):
        raise TypeError(f"a flag of type {kind}: say in jobs.job_file.verbs how a job file holds it")
    return kind, False
