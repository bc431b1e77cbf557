"""Rows of `extractions` by ranges of doc_id: every window of a run in its documents' context, or of strict windows.

The statement is the card `extraction`. A range holds its rows in memory, and DuckDB what it groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from operators.memorization.ranges import columns_for_greedy, doc_id_ranges
from operators.memorization.search import Search
from operators.score_cards import load_scores
from operators.scores.compute import documents_between
from schemas import EXTRACTIONS
from schemas.extractions import STRICT

SCHEMA = EXTRACTIONS.arrow()
_ORDER = [(name, "ascending") for name in (*EXTRACTIONS.sorted_by, "scored_run")]


def extraction_tables(
    connection: duckdb.DuckDBPyConnection, context: str, scored_runs: Sequence[str], search: Search, slices: int = 1
) -> Iterator[pa.Table]:
    """Every complete window of these runs, sorted, a table for each range of doc_id.

    `connection` is one from `catalog.connect`; of a strict context the runs are of strict windows that differ in where
    they begin, else it is the documents' own run.

    Raises:
        duckdb.Error: DuckDB failed on the statement.
    """
    stride = search.suffix if context == STRICT else search.stride
    needed = {run: "*" if search.top_k else columns_for_greedy(connection, run) for run in scored_runs}
    for start, end in doc_id_ranges(slices):
        tables = []
        for run, columns in needed.items():
            with documents_between(connection, start, end, columns):
                tables.append(_windows(connection, context, run, search, stride))
        yield pa.concat_tables([SCHEMA.empty_table(), *tables]).sort_by(_ORDER).combine_chunks()


def _windows(connection: duckdb.DuckDBPyConnection, context: str, run: str, search: Search, stride: int) -> pa.Table:
    card = load_scores()["extraction"]
    bound = card.bind(run_id=run, **search.windows(stride))
    rows = connection.sql(card.sql, params=bound).to_arrow_table()
    size = rows.num_rows
    same: dict[str, Any] = {
        "context": context,
        "scored_run": run,
        "prefix_tokens": search.prefix,
        "suffix_tokens": search.suffix,
        "sampling": search.sampling,
    }
    columns = [
        pa.repeat(pa.scalar(same[field.name], field.type), size) if field.name in same else rows[field.name]
        for field in SCHEMA
    ]
    return pa.table([column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
