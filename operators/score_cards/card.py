"""What a score file says of itself: the records its header is read into."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal

# Of scores of documents, in the order in which they are listed; `evaluation` and `together` hold statements of others.
DOCUMENT_FAMILIES = ("membership", "detection", "uncertainty", "fit", "memorization")
TOGETHER = "together"

DOCUMENT_SCORE = (("run_id", "VARCHAR"), ("doc_id", "BIGINT"), ("score", "DOUBLE"))

# The macro's own name for `$run_id`: a macro parameter called like a column would replace the column, too.
_MACRO_NAMES = {"run_id": "run", "corpus": "counted"}

Kind = Literal["transform", "reference", "frequencies"]


class ScoreError(ValueError):
    """A score file that does not say what it must, or a request that the cards do not allow. Lists every fault."""


@dataclass(frozen=True)
class Range:
    """An interval of numbers, spelt `(0, 1]` or `[1, inf)`: a round bracket leaves its end out."""

    low: float
    high: float
    text: str

    def __str__(self) -> str:
        return self.text

    def __contains__(self, value: object) -> bool:
        """Whether a number lies inside, or every number of a list."""
        if isinstance(value, list | tuple):
            return all(not isinstance(item, list | tuple) and item in self for item in value)
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number = float(value)
        above = number > self.low or (number == self.low and self.text[0] == "[")
        return above and (number < self.high or (number == self.high and self.text[-1] == "]"))

    def sql(self, value: str) -> str:
        """The condition that an SQL expression lies inside."""
        low, high = (f"'{end}'::double" if math.isinf(end) else repr(end) for end in (self.low, self.high))
        is_above, is_below = ">=" if self.text[0] == "[" else ">", "<=" if self.text[-1] == "]" else "<"
        return f"({value} {is_above} {low} and {value} {is_below} {high})"


@dataclass(frozen=True)
class Parameter:
    """A value bound by name. `default` is None for one that must be given; `range` is None where any value will do."""

    name: str
    type: str
    description: str
    default: Any = None
    range: Range | None = None

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value: it is no number of the range, or a list where none is meant, or the reverse."""
        is_list = isinstance(value, list | tuple)
        if self.range is None or (value in self.range and is_list == self.type.endswith("[]")):
            return None
        return f"{self.name} = {value} is not in {self.range}"

    @property
    def macro_check(self) -> str:
        """The SQL condition that an argument of the macro is in the range; only for one that has a range."""
        assert self.range is not None
        value = f"{self.macro_name}::{self.type}"
        if not self.type.endswith("[]"):
            return self.range.sql(value)
        return f"len(list_filter({value}, lambda item: not {self.range.sql('item')})) = 0"

    @property
    def macro_name(self) -> str:
        return _MACRO_NAMES.get(self.name, self.name)

    @property
    def macro_head(self) -> str:
        return self.macro_name if self.default is None else f"{self.macro_name} := {literal(self.default)}"


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

    @property
    def said(self) -> str:
        """What it is, in words."""
        if self.kind == "reference":
            return "a run of the same documents by another model"
        if self.kind == "frequencies":
            return "a corpus counted by `assay frequencies`"
        runs = "runs" if self.is_list else "a run"
        such_as = f", such as {self.such_as}" if self.such_as != self.transform else ""
        return f"{runs} of the same documents, transformed: {self.transform}{such_as}"


@dataclass(frozen=True)
class Score:
    """The card of one score.

    `reads` maps a table to the columns needed; `returns` lists (column, SQL type) in order; `units` maps a returned
    column to its unit. `sql` is the whole file, to be run with `bind()`, `body` its statement. `rollup` gives the score
    as an expression over `documents` where `rollup_if` holds of the parameters; empty where there is none. `across`
    says which other documents a document's score depends on; empty where it depends on none. `optional`: column groups
    of `tokens` among what is read that a run may lack.
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
    across: str = ""
    companions: tuple[Companion, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def is_per_document(self) -> bool:
        return self.returns == DOCUMENT_SCORE

    @property
    def document_scores(self) -> tuple[str, ...]:
        """The columns that this card returns together, each called like a score of documents; none elsewhere."""
        names = tuple(name for name, _ in self.returns[2:])
        is_wide = self.family == TOGETHER and self.returns[:2] == DOCUMENT_SCORE[:2] and "score" not in names
        return names if is_wide else ()

    @property
    def settings(self) -> tuple[Parameter, ...]:
        """The parameters that have a default: neither the run nor a companion."""
        return tuple(p for p in self.parameters if p.default is not None)

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
            ScoreError: a parameter that the score has not, none for one without a default, or a value out of range.
        """
        known = {p.name for p in self.parameters}
        missing = [p.name for p in self.parameters if p.default is None and p.name not in values]
        unknown = sorted(set(values) - known)
        if missing or unknown:
            raise ScoreError(f"{self.name}: missing {missing}, unknown {unknown}; it takes {sorted(known)}")
        bound = {p.name: p.default for p in self.parameters} | values
        faults = [fault for p in self.parameters if (fault := p.fault(bound[p.name]))]
        if faults:
            raise ScoreError(f"{self.name}: {'; '.join(faults)}")
        return bound

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
    """A JSON value as SQL: numbers, booleans and lists of them read the same in both."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value)
