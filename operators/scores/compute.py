"""Runs the statements of a plan: from what `documents` keeps, or many scores in one scan of the tokens, by ranges.

    requests --> kept as roll-ups by every document of the run?  yes -> from `documents`, no tokens part is opened
                                                                 no  -> from `tokens`, many scores in one scan
             --> for each range of doc_id: rows (doc_id, value) of each request

Scores that rank tokens hold a run's values in memory (some 11 bytes a token for one, 40 for all of `all_scores`).
Ranges cut that, at little cost, because parts are sorted by doc_id and row groups outside a range are not read. A score
whose value for a document depends on others (`across` in its card) is computed once for the whole run and kept: 16
bytes a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from operators.score_cards import Score, load_scores
from operators.scores.plan import Request, ScorePlan
from operators.scores.variants import Values
from schemas import DOCUMENTS, TOKENS

# Whether every document of the run has its roll-ups: they are NULL in parts that were written before there were any,
# and where no token is scored.
WHOLE_RUN = "coalesce(bool_and(logprob_sum is not null or n_scored = 0), false)"

DOC_IDS = 1 << 63  # doc_ids are below

Found = dict[str, pa.Table]  # by variant: doc_id, value


@dataclass(frozen=True)
class Scan:
    """One statement and what it is bound to; `columns`: the request behind each column that is taken."""

    sql: str
    values: Values
    columns: Mapping[str, Request]

    @property
    def is_across(self) -> bool:
        return any(request.card.across for request in self.columns.values())


def score_ranges(connection: duckdb.DuckDBPyConnection, plan: ScorePlan, slices: int = 1) -> Iterator[Found]:
    """Every score of a plan by ranges of doc_id, ascending: by variant, a table of `doc_id` and `value`.

    Raises:
        ValueError: fewer than one slice.
    """
    if slices < 1:
        raise ValueError(f"slices: {slices}, expected 1 or more")
    scans = scans_of(connection, plan)
    whole: Found = {}
    for scan in scans:
        if scan.is_across:
            whole |= _run(connection, scan)
    width = -(-DOC_IDS // slices)
    for start in range(0, DOC_IDS, width):
        end = min(start + width, DOC_IDS)
        found: Found = {}
        with documents_between(connection, start, end):
            for scan in scans:
                found |= {} if scan.is_across else _run(connection, scan)
        for variant, rows in whole.items():
            inside = pc.and_(pc.greater_equal(rows["doc_id"], start), pc.less_equal(rows["doc_id"], end - 1))
            found[variant] = rows.filter(inside)
        yield {request.variant: found[request.variant] for request in plan.requests}


def _run(connection: duckdb.DuckDBPyConnection, scan: Scan) -> Found:
    try:
        rows = connection.sql(scan.sql, params=dict(scan.values)).to_arrow_table()
    except duckdb.Error as error:
        variants = ", ".join(request.variant for request in scan.columns.values())
        raise type(error)(f"{variants}: {error}") from error
    return {
        request.variant: pa.table({"doc_id": rows["doc_id"], "value": rows[column].cast(pa.float64())})
        for column, request in scan.columns.items()
    }


def scans_of(connection: duckdb.DuckDBPyConnection, plan: ScorePlan) -> list[Scan]:
    """The statements that give the scores of a plan, as few as there can be."""
    kept = _kept(connection, plan)
    left = [request for request in plan.requests if request not in kept]
    return [*([_of_documents(kept, plan.run_id)] if kept else []), *shared_scans(load_scores(), left)]


def _kept(connection: duckdb.DuckDBPyConnection, plan: ScorePlan) -> list[Request]:
    """The requests that every document of the run keeps as a roll-up."""
    kept = [r for r in plan.requests if r.card.rollup and _holds(connection, r.card.rollup_if, r.values)]
    if not kept:
        return []
    sql = f"select {WHOLE_RUN} from documents where run_id = $run_id"
    ((whole_run,),) = connection.execute(sql, {"run_id": plan.run_id}).fetchall()
    return kept if whole_run else []


def _holds(connection: duckdb.DuckDBPyConnection, condition: str, values: Values) -> bool:
    """Whether an SQL condition over `$parameters` holds of these values."""
    used = {name: values[name] for name in re.findall(r"\$(\w+)", condition)}
    ((result,),) = connection.execute(f"select {condition}", used).fetchall()
    return bool(result)


def _of_documents(kept: Sequence[Request], run_id: str) -> Scan:
    columns = ", ".join(f'{request.card.rollup} as "{place}"' for place, request in enumerate(kept))
    sql = f"select doc_id, {columns} from documents where run_id = $run_id"
    return Scan(sql, {"run_id": run_id}, {str(place): request for place, request in enumerate(kept)})


def shared_scans(cards: Mapping[str, Score], requests: Sequence[Request]) -> list[Scan]:
    """Those that a card returns together in one statement, as often as parameters differ; others one by one."""
    left, scans = list(requests), []
    for card in cards.values():
        while len(together := _together(card, left)) > 1:
            shared = {name: value for request in together.values() for name, value in request.values.items()}
            known = {p.name for p in card.parameters}
            values = card.bind(**{name: value for name, value in shared.items() if name in known})
            columns = ", ".join(f'"{name}"' for name in together)  # what is not selected is not computed
            scans.append(Scan(f"select doc_id, {columns} from ({card.body})", values, together))
            left = [request for request in left if request not in together.values()]
    return scans + [Scan(request.card.sql, request.values, {"score": request}) for request in left]


def _together(card: Score, requests: Sequence[Request]) -> dict[str, Request]:
    """By column of the card, requests whose parameters agree; the first to be taken decides."""
    known = {p.name for p in card.parameters}
    shared: dict[str, Any] = {}
    taken: dict[str, Request] = {}
    for request in requests:
        name = request.card.name
        if name not in card.document_scores or name in taken:
            continue
        # A parameter that the card has not is fixed in it, at the score's default.
        fixed = {p.name: p.default for p in request.card.parameters if p.name not in known}
        if all((fixed if key in fixed else shared).get(key, value) == value for key, value in request.values.items()):
            shared |= {key: value for key, value in request.values.items() if key in known}
            taken[name] = request
    return taken


@contextmanager
def documents_between(connection: duckdb.DuckDBPyConnection, start: int, end: int, tokens: str = "*") -> Iterator[None]:
    """Make `tokens` and `documents` mean those of some documents, by temporary views that go before the lake's own.

    `tokens`: what is selected of the tokens' rows.
    """
    if start == 0 and end == DOC_IDS and tokens == "*":
        yield
        return
    ((database,),) = connection.execute("select current_database()").fetchall()
    named = database.replace('"', '""')
    names = {TOKENS.name: tokens, DOCUMENTS.name: "*"}
    try:
        for name, columns in names.items():
            lake = f'"{named}".main.{name}'  # by its full name, or the view would mean itself
            rows = f"select {columns} from {lake} where doc_id >= {start} and doc_id <= {end - 1}"
            connection.execute(f"create or replace temporary view {name} as {rows}")
        yield
    finally:
        for name in names:
            connection.execute(f"drop view if exists temp.{name}")
