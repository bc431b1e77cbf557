"""The sections `submit` and `nightly` of a job file, as their options."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from jobs.job_file.document import is_null, typed
from jobs.job_file.fields import credential_faults, nearest, under_names

_Path = tuple[str | int, ...]

# What pydantic calls by the names of Python's types.
_EXPECTED = {"tuple_type": "a list", "dict_type": "names and their values", "model_type": "fields of its own"}


def read_section(name: str, value: Any, faults: list[str]) -> Any:
    """The options of a section, its faults added to `faults`; `submit` has options also where there is no section."""
    if value is None or is_null(value):
        return _model(name)() if name == "submit" else None
    if not isinstance(value, dict):
        faults.append(f"{name}: expected fields such as {_example(name)}")
        return None
    given = under_names({key: below for key, below in value.items() if not is_null(below)}, faults, f"{name}.")
    if name == "nightly":  # of `submit` its own options say more
        faults += credential_faults(name, given)
    model = _model(name)
    try:
        return model.model_validate(_text(given))
    except ValidationError as error:
        places = {fault["loc"] for fault in error.errors(include_input=False, include_url=False)}
    # What pydantic makes nothing of as text, such as 1e9 bytes, is given to it as JSON would have it.
    try:
        return model.model_validate(_text(given, {place[:n] for place in places for n in range(len(place) + 1)}))
    except ValidationError as error:
        faults += [_fault(name, model, fault) for fault in error.errors(include_input=False, include_url=False)]
    return None


def _model(name: str) -> type[BaseModel]:
    if name == "submit":
        from jobs.submission.options import SubmitOptions

        return SubmitOptions
    from jobs.nightly.options import NightlyOptions

    return NightlyOptions


def _example(name: str) -> str:
    return {"submit": "address: http://head:8265", "nightly": "name: web"}[name]


def _text(value: Any, but: Collection[_Path] = (), path: _Path = ()) -> Any:
    """Every value as its text, which the options turn into what they want: `version: 1.10` stays `1.10`. `but`: where
    values are typed instead."""
    if isinstance(value, dict):
        return {key: _text(below, but, (*path, key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_text(below, but, (*path, place)) for place, below in enumerate(value)]
    if path in but:
        return typed(value)
    return None if is_null(value) else str(value)


def _fault(section: str, model: type[BaseModel], fault: Any) -> str:
    place = ".".join([section, *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        *above, last = fault["loc"]
        where = ".".join([section, *map(str, above)])
        return f"{place}: is not a field of {where}{nearest(str(last), _names(model, above))}"
    if fault["type"] == "missing":
        return f"{place}: is needed"
    if fault["type"] in _EXPECTED:
        return f"{place}: expected {_EXPECTED[fault['type']]}"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"


def _names(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The fields of the options that lie below `model` at a path; none where that is not one kind of options."""
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        found = [] if field is None else [kind for kind in _within(field.annotation) if _is_options(kind)]
        if len(found) != 1:
            return []
        model = found[0]
    return list(model.model_fields)


def _within(hint: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield hint
    for part in get_args(hint):
        yield from _within(part)


def _is_options(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
