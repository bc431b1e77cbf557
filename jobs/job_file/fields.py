"""Types the fields of a verb by its flags, and says of each what is wrong with it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from jobs.job_file.document import Plain, is_null, leaves, typed
from jobs.job_file.verbs import Field, Verb
from operators.storage.credentials import holds_credentials, secret_names

_TRUTH = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MAPPINGS = frozenset({"storage_options", "transform"})  # the fields that may hold more than a value
_SHOWN = 24  # characters of a value that a message repeats

# A value that a flag could not have: told apart from None, which is a field left out.
_FAULTY = object()


def typed_fields(
    verb: Verb, given: Mapping[str, Any], known: Mapping[str, Field], *, secrets: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The fields of a verb, typed, and the faults of those that are left out of them.

    Fields without a value (`limit:`) count as not given. `secrets`: storage options may hold credentials.
    """
    fields: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in given.items():
        field = known.get(name)
        if field is None:
            faults.append(f"{name}: is not a field of {_named(verb)}{nearest(name, known)}")
            continue
        faulty = [] if secrets and name == "storage_options" else credential_faults(name, value)
        if not faulty and not is_null(value):
            made = _typed(field, value, faulty)
            if made is not _FAULTY:
                fields[name] = made
        faults += faulty
    return fields, faults


def under_names(value: Mapping[str, Any], faults: list[str], section: str = "") -> dict[str, Any]:
    """What is given, under names with `_`; what is given in both spellings is a fault."""
    given: dict[str, Any] = {}
    for name, below in value.items():
        plain = name.replace("-", "_")
        if plain in given:
            faults.append(f"{section}{plain}: is given twice, with - and with _")
        given[plain] = below
    return given


def missing(verb: Verb, fields: Iterable[str], known: Mapping[str, Field]) -> list[str]:
    """A line for every field that the verb's command line demands and that is not there."""
    there = set(fields)
    return [f"{name}: is needed by {_named(verb)}" for name, f in known.items() if f.required and name not in there]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest is NAME`, nothing where none is near."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; the nearest is {found[0]}" if found else ""


def credential_faults(name: str, value: Any) -> list[str]:
    """What of a field is a secret: job files are uploaded, shown and kept."""
    hint = "a job file is no place for credentials: name them in submit.secrets, or leave them to the environment"
    if name == "storage_options" and isinstance(value, dict) and (secrets := secret_names(typed(value))):
        return [f"{name}: holds {', '.join(secrets)}; {hint}"]
    return [f"{where}: the URI holds credentials; {hint}" for where, text in leaves(value, name) if _holds(text)]


def _holds(text: str) -> bool:
    return holds_credentials(str(text))


def _typed(field: Field, value: Any, faults: list[str]) -> Any:
    if isinstance(value, dict):
        if field.name in _MAPPINGS:
            return typed(value)
        faults.append(f"{field.name}: expected {_expected(field)}, found a mapping")
        return _FAULTY
    if not isinstance(value, list):
        return _one(field, value, field.name, faults)
    if not field.repeatable:
        faults.append(f"{field.name}: expected {_EXPECTED[field.kind]}, found a list; it is given once")
        return _FAULTY
    made = [_one(field, each, f"{field.name}[{place}]", faults) for place, each in enumerate(value)]
    return _FAULTY if _FAULTY in made else made


def _one(field: Field, value: Any, where: str, faults: list[str]) -> Any:
    if isinstance(value, dict | list) or is_null(value):
        found = "nothing" if is_null(value) else "a list" if isinstance(value, list) else "a mapping"
        faults.append(f"{where}: expected {_EXPECTED[field.kind]}, found {found}")
        return _FAULTY
    made = _converted(field.kind, value)
    if isinstance(made, str) and "\0" in made:
        faults.append(f"{where}: holds a NUL character, which no name or text may")
        return _FAULTY
    if made is None:
        faults.append(f"{where}: expected {_expected(field)}, found {_shown(value)}")
        return _FAULTY
    if field.choices and made not in field.choices:
        faults.append(f"{where}: choose from {', '.join(field.choices)}, not {_shown(value)}{_like(made, field)}")
        return _FAULTY
    if isinstance(made, int | float) and not _in_range(field, made):
        faults.append(f"{where}: expected {_expected(field)}, found {_shown(value)}")
        return _FAULTY
    return made


def _converted(kind: type, text: str) -> Any:
    """The text as a value of this kind, None where it is none."""
    if kind is str:
        return str(text)
    if kind is bool:
        return _TRUTH.get(str(text).lower())
    number = typed(Plain(text))
    if isinstance(number, bool) or not isinstance(number, int if kind is int else int | float):
        return None
    with contextlib.suppress(OverflowError):  # no float is as large as some integers
        return kind(number) if math.isfinite(number) else None
    return None


def _in_range(field: Field, value: float) -> bool:
    return (field.minimum is None or value >= field.minimum) and (field.maximum is None or value <= field.maximum)


def _expected(field: Field) -> str:
    low, high = field.minimum, field.maximum
    span = f" of {low:g} to {high:g}" if low is not None and high is not None else ""
    span = span or (f" of at least {low:g}" if low is not None else f" of at most {high:g}" if high is not None else "")
    return f"{_EXPECTED[field.kind]}{span}{' or a list of such' if field.repeatable else ''}"


def _shown(value: str) -> str:
    """A short value as it stands; of a long one only that there is one: it may be anything."""
    return repr(str(value)) if len(value) <= _SHOWN else f"{len(value)} characters"


def _like(value: object, field: Field) -> str:
    return nearest(str(value), field.choices)


def _named(verb: Verb) -> str:
    return f"`assay {' '.join(verb)}`"
