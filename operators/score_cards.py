"""Published scores as SQL: one file each in `sql/<family>/<score>.sql`, read here into cards.

The file is the single source: its header says what a row is, the formula, the direction, the paper, the columns read
and returned, and the parameters with their defaults.

    -- score: loss                          the file's name
    -- reads: tokens(run_id, doc_id, logprob)
    -- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
    -- parameter: ratio DOUBLE = 0.2; what it is
    -- rollup: min_k_20 if $ratio = 0.2     the same number from a row of `documents`, and for which parameters
    -- companion: lowered VARCHAR; transform lowercase
    -- companion: perturbed VARCHAR[]; transform perturb; such as perturb:kind=substitute_words
    -- companion: reference VARCHAR; reference
    -- companion: corpus VARCHAR; frequencies

A companion is what a score needs besides its run: a run of the same documents transformed (or several, that differ in
`copy` only), a run by another model, or a corpus whose tokens were counted. It is bound like a parameter.

Every score of documents returns `(run_id, doc_id, score)`, higher = more of what the card's `higher_means` says. A
score that is not defined is NULL, never a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from schemas import TABLES

SQL_FOLDER = Path(__file__).with_name("sql")

DOCUMENT_SCORE = (("run_id", "VARCHAR"), ("doc_id", "BIGINT"), ("score", "DOUBLE"))

# The macro's own name for `$run_id`: a macro parameter called like a column would replace the column, too.
_MACRO_NAMES = {"run_id": "run"}


class ScoreError(ValueError):
    """A score file that does not say what it must, or a request that the cards do not allow. Lists every fault."""


@dataclass(frozen=True)
class Parameter:
    """A value bound by name. `default` is None for one that must be given."""

    name: str
    type: str
    description: str
    default: Any = None

    @property
    def macro_name(self) -> str:
        return _MACRO_NAMES.get(self.name, self.name)

    @property
    def macro_head(self) -> str:
        return self.macro_name if self.default is None else f"{self.macro_name} := {literal(self.default)}"


Kind = Literal["transform", "reference", "frequencies"]


@dataclass(frozen=True)
class Companion:
    """What a score needs besides its run. `transform`: what the run's must be, as name and keys; `such_as`: the one to
    suggest, which is also what the score's variant does not mention."""

    name: str
    type: str
    kind: Kind
    transform: str = ""
    such_as: str = ""

    @property
    def is_list(self) -> bool:
        return self.type.endswith("[]")


@dataclass(frozen=True)
class Score:
    """The card of one score.

    `reads` maps a table to the columns needed; `returns` lists (column, SQL type) in order; `units` maps a returned
    column to its unit. `sql` is the whole file, to be run with `bind()`, `body` its statement. `rollup` gives the score
    as an expression over `documents` where `rollup_if` holds of the parameters; empty where there is none.
    """

    name: str
    family: str
    row: str
    formula: str
    higher_means: str
    source: str
    reads: Mapping[str, tuple[str, ...]]
    returns: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...]  # companions after `run_id`, as parameters without a default
    path: Path
    sql: str = field(repr=False)
    units: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    rollup: str = ""
    rollup_if: str = "true"
    companions: tuple[Companion, ...] = ()

    @property
    def is_per_document(self) -> bool:
        return self.returns == DOCUMENT_SCORE

    @property
    def document_scores(self) -> tuple[str, ...]:
        """The scores of documents that this card returns together, a column each; none where it is no such card."""
        keys = DOCUMENT_SCORE[:2]
        return (
            tuple(name for name, _ in self.returns[2:]) if self.returns[:2] == keys and not self.is_per_document else ()
        )

    @property
    def arxiv(self) -> tuple[str, ...]:
        """The arXiv ids in `source`."""
        return tuple(re.findall(r"arXiv (\d{4}\.\d{4,5})", self.source))

    @property
    def comment(self) -> str:
        return f"{self.row}; {self.formula}; higher = {self.higher_means} ({self.source})"

    def bind(self, **values: Any) -> dict[str, Any]:
        """All parameters of the statement: the values given over the defaults.

        Raises:
            ScoreError: a parameter that the score has not, or none for one without a default.
        """
        known = {p.name for p in self.parameters}
        missing = [p.name for p in self.parameters if p.default is None and p.name not in values]
        unknown = sorted(set(values) - known)
        if missing or unknown:
            raise ScoreError(f"{self.name}: missing {missing}, unknown {unknown}; it takes {sorted(known)}")
        return {p.name: p.default for p in self.parameters} | values

    @property
    def body(self) -> str:
        """The statement below the header, without its semicolon."""
        lines = self.sql.splitlines()
        start = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
        return "\n".join(lines[start:]).rstrip().removesuffix(";")

    def in_macro(self, sql: str) -> str:
        """`sql` with every `$parameter` under the name that it has in the macro."""
        names = {p.name: p.macro_name for p in self.parameters}
        return re.sub(r"\$(\w+)", lambda match: names[match[1]], sql)


def literal(value: Any) -> str:
    """A JSON value as SQL: numbers, booleans and lists read the same in both."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value)


# Reading the files

_REQUIRED = ("score", "row", "formula", "higher", "source", "reads", "returns")
_FIELDS = {*_REQUIRED, "parameter", "companion", "note", "rollup"}


@cache
def load_scores() -> Mapping[str, Score]:
    """Every score by name, sorted by family and name.

    Raises:
        ScoreError: the files' headers are not sound; all faults of all files at once.
    """
    scores: dict[str, Score] = {}
    faults: list[str] = []
    for path in sorted(SQL_FOLDER.glob("*/*.sql")):
        try:
            score = parse_score(path.read_text(encoding="utf-8"), path)
        except ScoreError as error:
            faults.append(str(error))
            continue
        if score.name in scores:
            faults.append(f"{path}: {scores[score.name].path} has the same name")
        scores[score.name] = score
    if faults:
        raise ScoreError("\n".join(faults))
    return MappingProxyType(scores)


def parse_score(text: str, path: Path) -> Score:
    """Read the card at the head of a score file: `-- key: value` lines; `--   more` goes on with the value above.

    Raises:
        ScoreError: what is missing, unknown or contradicts the file's place, its SQL or `schemas`.
    """
    fields, faults = _header(text)
    faults += [f"no {name!r}" for name in _REQUIRED if name not in fields]
    if faults:
        raise ScoreError(f"{path}: {'; '.join(faults)}")
    single = {name: " ".join(values) for name, values in fields.items() if name not in ("parameter", "companion")}
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
        companions=companions,
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


_COLUMN = r"(\w+) ([A-Z]+(?:\[\])?)(?: \[([^\]]+)\])?"


def _returns(text: str) -> tuple[tuple[tuple[str, str], ...], dict[str, str], list[str]]:
    """`name TYPE [unit], ...`: the columns, the units of those that have one, and faults."""
    if not re.fullmatch(rf"{_COLUMN}(, {_COLUMN})*", text):
        return (), {}, [f"returns: {text!r} is not `name TYPE [unit], ...`"]
    found = re.findall(_COLUMN, text)
    return tuple((name, kind) for name, kind, _ in found), {name: unit for name, _, unit in found if unit}, []


def _parameters(lines: Sequence[str]) -> tuple[tuple[Parameter, ...], list[str]]:
    """`name TYPE = default; description`, the default as JSON, or left out where a value must be given."""
    parameters, faults = [], []
    for line in lines:
        match = re.fullmatch(r"(\w+) ([A-Z]+(?:\[\])?)(?: = ([^;]+))?; (.+)", line)
        if match is None:
            faults.append(f"parameter {line!r} is not `name TYPE = default; description`")
            continue
        default = None if match[3] is None else json.loads(match[3])
        parameters.append(Parameter(name=match[1], type=match[2], description=match[4], default=default))
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
        kind = cast("Kind", match[3])
        companions.append(Companion(match[1], match[2], kind, match[4] or "", match[5] or match[4] or ""))
    return tuple(companions), faults


def _as_parameter(companion: Companion) -> Parameter:
    said = {
        "transform": f"runs of the same documents, transformed: {companion.transform}",
        "reference": "a run of the same documents by another model",
        "frequencies": "a corpus counted by `assay frequencies`",
    }
    return Parameter(companion.name, companion.type, said[companion.kind])


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
    unknown = sorted(set(re.findall(r"\$(\w+)", f"{score.rollup} {score.rollup_if}")) - declared)
    if unknown or (score.rollup and not score.is_per_document):
        faults.append(f"rollup: of a score of documents only, and of no parameters {unknown}")
    # In the macro a parameter replaces every identifier of its name.
    clashes = sorted({p.macro_name for p in score.parameters} & words)
    faults += [f"{name!r} is a parameter and a name in the statement" for name in clashes]
    return faults
