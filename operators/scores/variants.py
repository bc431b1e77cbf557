"""What a score at one set of parameters is called, `min_k(ratio=0.1)`, and how such a name is read.

    name                                              every parameter at its default, the suggested companions
    name(ratio=0.1, parity=true)                      parameters that differ from their defaults
    name(small)                                       the reference run, or the corpus whose tokens were counted
    name(perturb:kind=swap_words; ratio=0.1)          transformed runs other than those the card suggests

A name that is printed can be typed: it asks for the same numbers.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.score_cards import Parameter, Score, ScoreError

Values = Mapping[str, Any]

_REQUEST = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_SETTING = re.compile(r"(\w+)\s*=\s*(.*)", re.DOTALL)
_BETWEEN_SETTINGS = re.compile(r",\s*(?=\w+\s*=)")
_PLAIN = re.compile(r"[\w.:+-]+")


@dataclass(frozen=True)
class Wanted:
    """One request: a score, companions by what stands for them in the name (all there are where it names none), and
    parameters in their types. `text` is what was asked for, in the words it was asked in."""

    name: str
    labels: tuple[str, ...] = ()
    values: Values = field(default_factory=dict)
    text: str = ""


def variant_name(card: Score, labels: Iterable[str], values: Values) -> str:
    """The name of a score with these companions, those suggested left out, and these parameters."""
    changed = [f"{p.name}={_spelt(values[p.name])}" for p in card.settings if values[p.name] != p.default]
    items = [*labels, *([", ".join(changed)] if changed else [])]
    return f"{card.name}({'; '.join(items)})" if items else card.name


def parse_wanted(text: str, cards: Mapping[str, Score]) -> Wanted:
    """Read a score's name, or a variant as it is printed.

    Raises:
        ScoreError: no score of documents of that name, or a parameter that it has not or of another type.
    """
    match = _REQUEST.fullmatch(text)
    name = match[1] if match is not None else text
    card = cards.get(name)
    if match is None or card is None or not card.is_per_document:
        possible = [n for n, each in cards.items() if each.is_per_document]
        raise ScoreError(f"no score of documents is called {name!r}{did_you_mean(name, possible)}")
    labels, given = _split(match[2] or "")
    if labels and not card.companions:
        raise ScoreError(f"{text}: {name} needs no other run; its parameters are written name=value")
    return Wanted(name, labels, typed(card, given), text)


def _split(items: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """What stands between the brackets: names of companions, and parameters as text."""
    labels: list[str] = []
    given: dict[str, str] = {}
    for item in filter(None, map(str.strip, items.split(";"))):
        if _SETTING.fullmatch(item) is None:
            labels.append(item)
            continue
        for setting in _BETWEEN_SETTINGS.split(item):
            key, value = _SETTING.fullmatch(setting).groups()  # type: ignore[union-attr]  # split before `key =`
            given[key] = value.strip()
    return tuple(labels), given


def typed(card: Score, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the score in the types its card declares; text is read as it is printed in a variant.

    Raises:
        ScoreError: every one that the score has not, or of another type.
    """
    known = {p.name: p for p in card.settings}
    faults, values = [], {}
    for name, value in given.items():
        if name not in known:
            has = ", ".join(known) or "none"
            faults.append(f"{card.name} has no parameter {name!r}{did_you_mean(name, known)}; its parameters: {has}")
            continue
        try:
            values[name] = _typed(known[name], value)
        except ValueError:
            faults.append(f"{card.name}: {name} = {value!r} is no {known[name].type}")
    if faults:
        raise ScoreError("; ".join(faults))
    return values


def _typed(parameter: Parameter, value: Any) -> Any:
    if parameter.type.endswith("[]"):
        items = json.loads(value) if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            raise ValueError("not a list")
        return [_single(parameter.type.removesuffix("[]"), item) for item in items]
    return _single(parameter.type, value)


def _single(kind: str, value: Any) -> Any:
    """One value of an SQL type.

    Raises:
        ValueError: it is of another type, or no number.
    """
    if kind == "VARCHAR":
        if not isinstance(value, str):
            raise ValueError("not text")
        return str(json.loads(value)) if value.startswith('"') else value
    if kind == "BOOLEAN":
        truth = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise ValueError("neither true nor false")
        return truth
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    number = float(value)
    if math.isnan(number):
        raise ValueError("not a number")
    if kind not in ("DOUBLE", "FLOAT"):
        if not number.is_integer():
            raise ValueError("not a whole number")
        return int(value) if isinstance(value, int) else int(number)
    return number


def _spelt(value: Any) -> str:
    """A value as `typed` reads it back, in the fewest characters."""
    if isinstance(value, list):
        return f"[{', '.join(map(_spelt_in_list, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return str(value)


def _spelt_in_list(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _spelt(value)


def parameters_json(values: Values) -> str:
    """Every parameter but the run, as one line of JSON with sorted keys; infinities, which JSON has not, as text."""
    kept = {name: _finite(value) for name, value in values.items() if name != "run_id"}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name that is unknown: those near it, if any."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else ""
