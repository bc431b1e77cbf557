"""The sections `submit` and `nightly` of a job file, as their options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from jobs.job_file.document import is_null, typed
from jobs.job_file.fields import credential_faults, nearest, under_names


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
        # What is to be a number whatever the text could be, such as a choice of numbers.
        try:
            return model.model_validate(typed(given))
        except ValidationError:
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


def _text(value: Any) -> Any:
    """Every value as its text, which the options turn into what they want: `version: 1.10` stays `1.10`."""
    if isinstance(value, dict):
        return {key: _text(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_text(below) for below in value]
    return None if is_null(value) else str(value)


def _fault(section: str, model: type[BaseModel], fault: Any) -> str:
    place = ".".join([section, *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        *above, last = fault["loc"]
        where = ".".join([section, *map(str, above)])
        return f"{place}: is not a field of {where}{nearest(str(last), _names(model, above))}"
    if fault["type"] == "missing":
        return f"{place}: is needed"
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
