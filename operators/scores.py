"""Runs the score files: one by one, together in one scan of the tokens, or from what `documents` keeps of them.

    asked for -> kept as roll-ups by every document of the run?  yes -> from `documents`, no tokens part is opened
                                                                 no  -> from `tokens`, many scores in one scan

From the cards (`operators.score_cards`) come `score_table` and a DuckDB table macro for each:

    bound           select ... where run_id = $run_id        {"run_id": "demo", "ratio": 0.1}
    in a shell      from min_k('demo', ratio := 0.1)         $run_id is the macro's first argument, called `run`

The statement of a file reads `tokens`, always: it is the definition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from operators.score_cards import Score, ScoreError, literal, load_scores, parse_score

__all__ = ["SCORE_TABLE", "Score", "ScoreError", "create_macros", "load_scores", "parse_score", "score_table"]

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

# Whether every document of the run has its roll-ups: they are NULL in parts that were written before there were any,
# and where no token is scored.
_WHOLE_RUN = "coalesce(bool_and(logprob_sum is not null or n_scored = 0), false)"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class _Scan:
    """One statement and what it is bound to; `columns`: the score behind each column that is taken."""

    sql: str
    values: Values
    columns: Mapping[str, str]


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
    `{"min_k": {"ratio": 0.1}}`. `connection` is one from `catalog.connect`. Scores that every document of the run
    keeps as a roll-up are read from `documents`; the others share a scan of `tokens` where their parameters agree.
    Scores that rank tokens hold a run's values in memory (some 11 bytes a token, 26 for both Min-K%); `slices` cuts
    that by taking so many ranges of doc_id one after another, at little cost, because parts are sorted by doc_id and
    row groups outside a range are not read.

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
    kept = _kept(connection, cards, bound, run_id)
    tables = _long(connection, _of_documents(cards, kept, run_id), bound) if kept else []
    scans = _scans(cards, {name: values for name, values in bound.items() if name not in kept})
    width = -(-(1 << 63) // slices)
    for start in range(0, 1 << 63, width) if scans else ():
        with _documents_between(connection, start, min(start + width, 1 << 63)):
            for scan in scans:
                tables += _long(connection, scan, bound)
    return pa.concat_tables([SCORE_TABLE.empty_table(), *tables])


def _kept(
    connection: duckdb.DuckDBPyConnection, cards: Mapping[str, Score], bound: Mapping[str, Values], run_id: str
) -> list[str]:
    """Of the scores asked for, with their values, those that every document of the run keeps as a roll-up."""
    rolled_up = {name: values for name, values in bound.items() if cards[name].rollup}
    kept = [name for name, values in rolled_up.items() if _holds(connection, cards[name], values)]
    if not kept:
        return []
    found = connection.execute(f"select {_WHOLE_RUN} from documents where run_id = $run_id", {"run_id": run_id})
    ((whole_run,),) = found.fetchall()
    return kept if whole_run else []


def _holds(connection: duckdb.DuckDBPyConnection, card: Score, values: Values) -> bool:
    """Whether the roll-up is made with these parameters."""
    used = {name: value for name, value in values.items() if f"${name}" in card.rollup_if}
    ((holds,),) = connection.execute(f"select {card.rollup_if}", used).fetchall()
    return bool(holds)


def _of_documents(cards: Mapping[str, Score], kept: Sequence[str], run_id: str) -> _Scan:
    columns = ", ".join(f'{cards[name].rollup} as "{name}"' for name in kept)
    sql = f"select run_id, doc_id, {columns} from documents where run_id = $run_id"
    return _Scan(sql, {"run_id": run_id}, {name: name for name in kept})


def _scans(cards: Mapping[str, Score], bound: Mapping[str, Values]) -> list[_Scan]:
    """The statements that give the scores of `bound`: those that a card returns together in one, others one by one."""
    left, scans = dict(bound), []
    for card in cards.values():
        shared: dict[str, Any] = {}
        together = [name for name in left if name in card.document_scores and _agrees(left[name], shared)]
        if len(together) > 1:
            columns = ", ".join(f'"{name}"' for name in together)  # what is not selected is not computed
            sql = f"select run_id, doc_id, {columns} from ({card.body})"
            scans.append(_Scan(sql, card.bind(**shared), {name: name for name in together}))
            left = {name: values for name, values in left.items() if name not in together}
    return scans + [_Scan(cards[name].sql, values, {"score": name}) for name, values in left.items()]


def _agrees(values: Values, shared: dict[str, Any]) -> bool:
    """Whether the values are those already shared by name; if so they are shared from now on."""
    agrees = all(shared.get(name, value) == value for name, value in values.items())
    if agrees:
        shared.update(values)
    return agrees


def _long(connection: duckdb.DuckDBPyConnection, scan: _Scan, bound: Mapping[str, Values]) -> list[pa.Table]:
    """The scores of one statement as tables of `SCORE_TABLE`."""
    cards = load_scores()
    rows = connection.sql(scan.sql, params=dict(scan.values)).to_arrow_table()
    tables = []
    for column, name in scan.columns.items():
        chosen = json.dumps({key: value for key, value in bound[name].items() if key != "run_id"}, sort_keys=True)
        same = {"family": cards[name].family, "score": name, "parameters": chosen}
        columns = {key: pa.repeat(pa.scalar(text, pa.string()), rows.num_rows) for key, text in same.items()}
        columns |= {"run_id": rows["run_id"], "doc_id": rows["doc_id"], "value": rows[column]}
        tables.append(pa.table({key: columns[key] for key in SCORE_TABLE.names}, schema=SCORE_TABLE))
    return tables


@contextmanager
def _documents_between(connection: duckdb.DuckDBPyConnection, start: int, end: int) -> Iterator[None]:
    """Make `tokens` mean those of some documents, by a temporary view that goes before the lake's own."""
    if start == 0 and end == 1 << 63:
        yield
        return
    ((database,),) = connection.execute("select current_database()").fetchall()
    named = database.replace('"', '""')
    lake = f'"{named}".main.tokens'  # by its full name, or the view would mean itself
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


# Macros


def _all_or_none(unwanted: str) -> str:
    return f"select * from main.tokens where not {unwanted}"


def create_macros(connection: duckdb.DuckDBPyConnection, tokens: Callable[[str], str] = _all_or_none) -> None:
    """Make a table macro of every score, with its card as comment. The views must be there.

    `tokens` gives the SELECT of all tokens, or of none where a condition holds, which is an expression in brackets.
    """
    cards = load_scores()
    for card in cards.values():
        connection.execute(_macro_sql(card, cards, tokens))
        connection.execute(f'comment on macro table "{card.name}" is {literal(card.comment)}')


def _macro_sql(card: Score, cards: Mapping[str, Score], tokens: Callable[[str], str]) -> str:
    """The statement as a table macro of the card's name, from the roll-ups where the run has them."""
    together = [(name, cards[name]) for name in card.document_scores]
    rolled_up = [
        (name, each) for name, each in ([("score", card)] if card.is_per_document else together) if each.rollup
    ]
    body = card.in_macro(card.body)
    if rolled_up and len(rolled_up) == len(card.returns) - 2:
        columns = ", ".join(f'{card.in_macro(each.rollup)} as "{name}"' for name, each in rolled_up)
        conditions = " and ".join(f"({card.in_macro(each.rollup_if)})" for _, each in rolled_up)
        body = f"""
with rolled_up as (
  select whole_run and {conditions} as yes
  from (select {_WHOLE_RUN} as whole_run from documents where run_id = run)
),
tokens as (
  {tokens("(select yes from rolled_up)")}
)
select run_id, doc_id, {columns} from documents where run_id = run and (select yes from rolled_up)
union all
select * from (
{body}
)"""
    heads = ", ".join(p.macro_head for p in card.parameters)
    return f'create or replace macro "{card.name}"({heads}) as table\n{body}'
