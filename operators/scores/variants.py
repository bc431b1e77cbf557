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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.score_cards import Parameter, Score, ScoreError

Values = Mapping[str, Any]

_REQUEST = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_SETTING = re.compile(r"(\w+)\s*=\s*(.*)", re.DOTALL)
_BETWEEN_ITEMS = re.compile(r";")
_BETWEEN_SETTINGS = re.compile(r",\s*(?=\w+\s*=)")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
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
        ScoreError: no score of documents of that name, a parameter twice, or one that `typed` refuses.
    """
    match = _REQUEST.fullmatch(text)
    name = match[1] if match is not None else text
    card = cards.get(name)
    if match is None or card is None:
        possible = [n for n, each in cards.items() if each.is_per_document]
        raise ScoreError(f"no score of documents is called {name!r}{did_you_mean(name, possible)}")
    if not card.is_per_document:
        raise ScoreError(f"{name!r} is no score of documents but a statement, for `assay sql`: from {name}(...)")
    labels, given = _split(match[2] or "", {p.name for p in card.settings})
    if labels and not card.companions:
        raise ScoreError(f"{text}: {name} needs no other run; its parameters are written name=value")
    twice = sorted({key for key, _ in given if [k for k, _ in given].count(key) > 1})
    if twice:
        raise ScoreError(f"{text}: {', '.join(twice)} given twice")
    return Wanted(name, labels, typed(card, dict(given)), text)


def _split(items: str, known: Collection[str]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """What stands between the brackets: names of companions, and parameters as text.

    A companion's name may hold `key=value` itself (`perturb:kind=swap_words,rate=0.5`): what follows it and is none of
    the parameters that are `known` belongs to it.
    """
    labels: list[str] = []
    given: list[tuple[str, str]] = []
    for item in _cut(items, _BETWEEN_ITEMS):
        label: list[str] = []
        for piece in _cut(item, _BETWEEN_SETTINGS):
            setting = _SETTING.fullmatch(piece)
            if setting is None or (label and setting[1] not in known):
                label.append(piece)
            else:
                given.append((setting[1], setting[2].strip()))
        labels += [",".join(label)] if label else []
    return tuple(labels), given


def _cut(text: str, separator: re.Pattern[str]) -> list[str]:
    """The stripped pieces between separators that are not inside quotes, empty ones left out."""
    masked = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    ends = [0, *(at for match in separator.finditer(masked) for at in match.span()), len(text)]
    pieces = (text[start:end].strip() for start, end in zip(ends[::2], ends[1::2], strict=True))
    return [piece for piece in pieces if piece]


def typed(card: Score, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the score in the types its card declares; text is read as it is printed in a variant.

    Raises:
        ScoreError: every one that the score has not, of another type, or out of its range.
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
        else:
            fault = known[name].fault(values[name])
            faults += [f"{card.name}: {fault}"] if fault else []
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
    """What a message on an unknown name adds in brackets: those that it begins, else those near it, if any."""
    names = list(known)
    begun = [each for each in names if name and each.startswith(name)][:3]
    near = begun or difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
