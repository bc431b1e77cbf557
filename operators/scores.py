"""Published scores as SQL: one file each in `sql/<family>/<score>.sql`, read here into cards, runs and macros.

The file is the single source: its header says what a row is, the formula, the direction, the paper, the columns read
and returned, and the parameters with their defaults. From it come the `Score` card, `score_table`, and a DuckDB table
macro:

    bound           select ... where run_id = $run_id        {"run_id": "demo", "ratio": 0.1}
    in a shell      from min_k('demo', ratio := 0.1)         $run_id is the macro's first argument, called `run`

Every score of documents returns `(run_id, doc_id, score)`, higher = more of what the card's `higher_means` says. A
score that is not defined is NULL, never a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow as pa

from schemas import TABLES

SQL_FOLDER = Path(__file__).with_name("sql")

DOCUMENT_SCORE = (("run_id", "VARCHAR"), ("doc_id", "BIGINT"), ("score", "DOUBLE"))
SCORE_TABLE = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.int64(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("score", pa.string(), nullable=False),
        pa.field("parameters", pa.string(), nullable=False, metadata={"description": "JSON object; run_id left out"}),
        pa.field("value", pa.float64(), metadata={"description": "NULL: undefined for this document"}),
    ]
)

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
        return self.macro_name if self.default is None else f"{self.macro_name} := {_literal(self.default)}"


@dataclass(frozen=True)
class Score:
    """The card of one score.

    `reads` maps a table to the columns needed; `returns` lists (column, SQL type) in order; `units` maps a returned
    column to its unit. `sql` is the whole file, to be run with `bind()`.
    """

    name: str
    family: str
    row: str
    formula: str
    higher_means: str
    source: str
    reads: Mapping[str, tuple[str, ...]]
    returns: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...]
    path: Path
    sql: str = field(repr=False)
    units: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def is_per_document(self) -> bool:
        return self.returns == DOCUMENT_SCORE

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
    def macro_sql(self) -> str:
        """The same statement as a table macro of the same name."""
        names = {p.name: p.macro_name for p in self.parameters}
        heads = [p.macro_head for p in self.parameters]
        body = re.sub(r"\$(\w+)", lambda match: names[match[1]], _body(self.sql).rstrip().removesuffix(";"))
        return f'create or replace macro "{self.name}"({", ".join(heads)}) as table\n{body}'


# Running


def score_table(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    names: Iterable[str] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    slices: int = 1,
) -> pa.Table:
    """Scores of a run's documents as one long table (`SCORE_TABLE`), a row per document and score.

    `names` are scores of documents, all by default; `parameters` maps a score's name to values that replace defaults:
    `{"min_k": {"ratio": 0.1}}`. `connection` is one from `catalog.connect`. Scores that rank tokens hold a run's
    values in memory (18 to 29 bytes a token); `slices` cuts that by taking so many ranges of doc_id one after another,
    at little cost, because parts are sorted by doc_id and row groups outside a range are not read.

    Raises:
        ScoreError: an unknown score, one that is not of documents, or an unknown parameter. Nothing has run then.
        ValueError: fewer than one slice.
    """
    if slices < 1:
        raise ValueError(f"slices: {slices}, expected 1 or more")
    cards = load_scores()
    wanted = [n for n, card in cards.items() if card.is_per_document] if names is None else list(dict.fromkeys(names))
    changed = dict(parameters or {})
    _check_request(cards, wanted, changed)
    bound = {name: cards[name].bind(**{**changed.get(name, {}), "run_id": run_id}) for name in wanted}
    tables = []
    width = -(-(1 << 63) // slices)
    for start in range(0, 1 << 63, width):
        with _documents_between(connection, start, min(start + width, 1 << 63)):
            tables += [_long(connection, cards[name], values) for name, values in bound.items()]
    return pa.concat_tables([SCORE_TABLE.empty_table(), *tables])


@contextmanager
def _documents_between(connection: duckdb.DuckDBPyConnection, start: int, end: int) -> Iterator[None]:
    """Make `tokens` mean those of some documents, by a temporary view that goes before the lake's own."""
    if start == 0 and end == 1 << 63:
        yield
        return
    ((database,),) = connection.execute("select current_database()").fetchall()
    lake = f'"{database}".main.tokens'  # by its full name, or the view would mean itself
    rows = f"select * from {lake} where doc_id >= {start} and doc_id <= {end - 1}"
    connection.execute(f"create or replace temporary view tokens as {rows}")
    try:
        yield
    finally:
        connection.execute("drop view temp.tokens")


def _check_request(cards: Mapping[str, Score], wanted: Sequence[str], changed: Mapping[str, Mapping[str, Any]]) -> None:
    possible = [name for name, card in cards.items() if card.is_per_document]
    faults = [f"no score of documents is called {name!r}" for name in wanted if name not in possible]
    faults += [f"parameters for {name!r}, which is not asked for" for name in changed if name not in wanted]
    faults += [f"{name}: run_id is the run of the whole table" for name, given in changed.items() if "run_id" in given]
    if faults:
        raise ScoreError(f"{'; '.join(faults)}. Scores of documents: {', '.join(possible)}")


def _long(connection: duckdb.DuckDBPyConnection, score: Score, values: Mapping[str, Any]) -> pa.Table:
    rows = connection.sql(score.sql, params=dict(values)).to_arrow_table()
    chosen = json.dumps({name: value for name, value in values.items() if name != "run_id"}, sort_keys=True)
    same = {"family": score.family, "score": score.name, "parameters": chosen}
    columns = {name: pa.repeat(pa.scalar(text, pa.string()), rows.num_rows) for name, text in same.items()}
    columns |= {"run_id": rows["run_id"], "doc_id": rows["doc_id"], "value": rows["score"]}
    return pa.table({name: columns[name] for name in SCORE_TABLE.names}, schema=SCORE_TABLE)


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a table macro of every score, with its card as comment. The views must be there."""
    for score in load_scores().values():
        connection.execute(score.macro_sql)
        connection.execute(f'comment on macro table "{score.name}" is {_literal(score.comment)}')


def _literal(value: Any) -> str:
    """A JSON value as SQL: numbers, booleans and lists read the same in both."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value)


# Reading the files

_REQUIRED = ("score", "row", "formula", "higher", "source", "reads", "returns")
_FIELDS = {*_REQUIRED, "parameter", "note"}


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
    single = {name: " ".join(values) for name, values in fields.items() if name != "parameter"}
    reads, read_faults = _reads(single["reads"])
    returns, units, return_faults = _returns(single["returns"])
    parameters, parameter_faults = _parameters(fields.get("parameter", []))
    score = Score(
        name=single["score"],
        family=path.parent.name,
        row=single["row"],
        formula=single["formula"],
        higher_means=single["higher"],
        source=single["source"],
        reads=MappingProxyType(reads),
        returns=returns,
        parameters=parameters,
        path=path,
        sql=text,
        units=MappingProxyType(units),
        note=single.get("note", ""),
    )
    faults = [*read_faults, *return_faults, *parameter_faults, *_contradictions(score)]
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


def _body(text: str) -> str:
    """The statement below the header."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return "\n".join(lines[start:])


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


def _contradictions(score: Score) -> list[str]:
    """Where the header and the statement or the file's place disagree."""
    code = re.sub(r"--.*", "", _body(score.sql))
    declared = {p.name for p in score.parameters}
    used = set(re.findall(r"\$(\w+)", code))
    words = set(re.findall(r"(?<![$\w])\w+", code))
    faults = []
    if score.name != score.path.stem:
        faults.append(f"score {score.name!r} in a file of another name")
    if declared != used:
        faults.append(f"parameters {sorted(declared)} are declared, {sorted(used)} are used")
    # In the macro a parameter replaces every identifier of its name.
    clashes = sorted({p.macro_name for p in score.parameters} & words)
    faults += [f"{name!r} is a parameter and a name in the statement" for name in clashes]
    return faults
