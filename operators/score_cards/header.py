"""Reads the header of a score file, and checks it against the statement below and the tables of the lake."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast, get_args

from operators.score_cards.card import DOCUMENT_SCORE, Companion, Kind, Parameter, Range, Score, ScoreError
from operators.transform.spec import TransformError, parse_transform
from schemas import TABLES, TOKENS

_REQUIRED = ("score", "row", "formula", "higher", "source", "reads", "returns")
_FIELDS = {*_REQUIRED, "parameter", "companion", "note", "rollup", "across", "optional"}
_REPEATED = {"parameter", "companion"}


def parse_score(text: str, path: Path) -> Score:
    """Read the card at the head of a score file: `-- key: value` lines; `--   more` goes on with the value above.

    Raises:
        ScoreError: what is missing, unknown or contradicts the file's place, its SQL or `schemas`.
    """
    fields, faults = _header(text)
    faults += [f"no {name!r}" for name in _REQUIRED if name not in fields]
    if faults:
        raise ScoreError(f"{path}: {'; '.join(faults)}")
    single = {name: " ".join(values) for name, values in fields.items() if name not in _REPEATED}
    reads, read_faults = _reads(single["reads"])
    returns, units, return_faults = _returns(single["returns"])
    parameters, parameter_faults = _parameters(fields.get("parameter", []))
    companions, companion_faults = _companions(fields.get("companion", []))
    rollup, _, condition = single.get("rollup", "").partition(" if ")
    score = Score(
        name=single["score"],
        family=path.parent.name,
        row=single["row"],
        formula=single["formula"],
        higher_means=single["higher"],
        source=single["source"],
        reads=MappingProxyType(reads),
        returns=returns,
        parameters=(*parameters[:1], *map(_as_parameter, companions), *parameters[1:]),
        path=path,
        sql=text,
        units=MappingProxyType(units),
        note=single.get("note", ""),
        rollup=rollup,
        rollup_if=condition or "true",
        across=single.get("across", ""),
        companions=companions,
        optional=tuple(filter(None, single.get("optional", "").split(", "))),
    )
    faults = [*read_faults, *return_faults, *parameter_faults, *companion_faults, *_contradictions(score)]
    if faults:
        raise ScoreError(f"{path}: {'; '.join(faults)}")
    return score


def _header(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """The fields of the leading comment lines, and the lines that are none."""
    fields: dict[str, list[str]] = {}
    faults: list[str] = []
    current: list[str] | None = None
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if line.startswith("--   ") and current is not None:
            current[-1] += " " + line[2:].strip()
            continue
        key, _, value = line[2:].partition(":")
        if key.strip() not in _FIELDS:
            faults.append(f"header line {line!r} starts with none of {sorted(_FIELDS)}")
            continue
        current = fields.setdefault(key.strip(), [])
        current.append(value.strip())
    return fields, faults


def _reads(text: str) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """`table(column, ...); table(...)`, checked against the tables of `schemas` and the relation `scores`."""
    known = {t.name: {c.name for c in t.columns} | set(t.view_columns) for t in TABLES}
    known["scores"] = {name for name, _ in DOCUMENT_SCORE}
    reads: dict[str, tuple[str, ...]] = {}
    faults = []
    for part in text.split(";"):
        match = re.fullmatch(r"\s*(\w+)\(([\w\s,]+)\)\s*", part)
        if match is None:
            faults.append(f"reads: {part.strip()!r} is not table(column, ...)")
            continue
        columns = tuple(name.strip() for name in match[2].split(","))
        reads[match[1]] = columns
        faults += [f"reads: there is no {match[1]}.{name}" for name in columns if name not in known.get(match[1], ())]
    return reads, faults


_NUMBER = r"-?(?:\d+(?:\.\d+)?|inf)"
_RANGE = rf"[\[(]({_NUMBER}), ({_NUMBER})[\])]"
_COLUMN = r"(\w+) ([A-Z]+(?:\[\])?)(?: \[([^\]]+)\])?"


def _returns(text: str) -> tuple[tuple[tuple[str, str], ...], dict[str, str], list[str]]:
    """`name TYPE [unit], ...`: the columns, the units of those that have one, and faults."""
    if not re.fullmatch(rf"{_COLUMN}(, {_COLUMN})*", text):
        return (), {}, [f"returns: {text!r} is not `name TYPE [unit], ...`"]
    found = re.findall(_COLUMN, text)
    return tuple((name, kind) for name, kind, _ in found), {name: unit for name, _, unit in found if unit}, []


def _parameters(lines: Sequence[str]) -> tuple[tuple[Parameter, ...], list[str]]:
    """`name TYPE = default in RANGE; description`: the default as JSON, left out where a value must be given; the range
    left out where any value will do."""
    parameters, faults = [], []
    for line in lines:
        match = re.fullmatch(rf"(\w+) ([A-Z]+(?:\[\])?)(?: = ([^;]+?))?(?: in ({_RANGE}))?; (.+)", line)
        if match is None:
            faults.append(f"parameter {line!r} is not `name TYPE = default in RANGE; description`")
            continue
        try:
            default = None if match[3] is None else json.loads(match[3])
        except ValueError:
            faults.append(f"parameter {line!r}: the default {match[3]!r} is not JSON")
            continue
        within = None if match[4] is None else Range(float(match[5]), float(match[6]), match[4])
        parameter = Parameter(match[1], match[2], match[7], default, within)
        if default is not None and (fault := parameter.fault(default)):
            faults.append(f"parameter {line!r}: the default {fault}")
        parameters.append(parameter)
    return tuple(parameters), faults


def _companions(lines: Sequence[str]) -> tuple[tuple[Companion, ...], list[str]]:
    """`name TYPE; kind [transform]; such as TRANSFORM`, the last for transforms only and by default as demanded."""
    companions, faults = [], []
    for line in lines:
        match = re.fullmatch(r"(\w+) (VARCHAR(?:\[\])?); (\w+)(?: (\S+))?(?:; such as (\S+))?", line)
        if match is None or match[3] not in get_args(Kind) or (match[3] == "transform") != bool(match[4]):
            faults.append(
                f"companion {line!r} is not `name TYPE; transform SPEC; such as SPEC`, reference or frequencies"
            )
            continue
        kind, such_as = cast("Kind", match[3]), match[5] or match[4] or ""
        try:
            such_as = parse_transform(such_as).canonical if kind == "transform" else ""
        except TransformError as error:
            faults.append(f"companion {match[1]}: such as {such_as!r}: {error}")
        companions.append(Companion(match[1], match[2], kind, match[4] or "", such_as))
    return tuple(companions), faults


def _as_parameter(companion: Companion) -> Parameter:
    return Parameter(companion.name, companion.type, companion.said)


def _contradictions(score: Score) -> list[str]:
    """Where the header and the statement or the file's place disagree."""
    code = re.sub(r"--.*", "", score.body)
    declared = {p.name for p in score.parameters}
    used = set(re.findall(r"\$(\w+)", code))
    words = set(re.findall(r"(?<![$\w])\w+", f"{code} {score.rollup}"))
    faults = []
    if score.name != score.path.stem:
        faults.append(f"score {score.name!r} in a file of another name")
    if declared != used:
        faults.append(f"parameters {sorted(declared)} are declared, {sorted(used)} are used")
    faults += [f"optional: no column group {name!r} of tokens" for name in score.optional if name not in TOKENS.groups]
    unknown = sorted(set(re.findall(r"\$(\w+)", f"{score.rollup} {score.rollup_if}")) - declared)
    if unknown or (score.rollup and not score.is_per_document):
        faults.append(f"rollup: of a score of documents only, and of no parameters {unknown}")
    # In the macro a parameter replaces every identifier of its name.
    clashes = sorted({p.macro_name for p in score.parameters} & words)
    faults += [f"{name!r} is a parameter and a name in the statement" for name in clashes]
    return faults
