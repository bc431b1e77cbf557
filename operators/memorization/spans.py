"""Rows of `spans` by ranges of doc_id: verbatim and near-verbatim stretches with their bytes and log-probability.

verbatim        the card `rank_1_runs`
near verbatim   tokens that are no hit, a list a document --> near_verbatim --> bytes and sums from the tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from operators.memorization.near_verbatim import near_verbatim
from operators.memorization.ranges import columns_for_greedy, doc_id_ranges
from operators.memorization.search import Search
from operators.score_cards import load_scores
from operators.scores.compute import documents_between
from schemas import SPANS
from schemas.spans import VERBATIM

SCHEMA = SPANS.arrow()
_ORDER = [(name, "ascending") for name in SPANS.sorted_by]

# Lists as `near_verbatim.STOPS` has them. Documents too short for a span are left out, and tokens added behind a text.
_STOPS = """
with marked as (
  select
    doc_id,
    position,
    n_bytes,
    coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1, false) as is_greedy,
    rank is null or ($completion and coalesce(in_prompt, false)) as is_hard
  from tokens
  where run_id = $run_id
),
found as (
  select
    doc_id,
    2 * (min(position)::bigint - 1) + 1 as before,
    2 * (coalesce(max(position) filter (n_bytes > 0), max(position))::bigint + 1) + 1 as behind,
    coalesce(list(2 * position::bigint + is_hard::bigint) filter (is_hard or not is_greedy), []) as inside
  from marked
  group by doc_id
  having count(*) >= $least
)
select doc_id, list_sort(list_concat([before, behind], list_filter(inside, lambda stop: stop < behind - 1))) as stops
from found
"""

_DETAILS = """
with inside as (
  select doc_id, position, byte_start, n_bytes, logprob
  from tokens
  where run_id = $run_id and doc_id in (select doc_id from found_spans)
)
select
  s.doc_id,
  s.position,
  any_value(s.n_tokens) as n_tokens,
  any_value(s.n_misses) as n_misses,
  min(t.byte_start)::bigint as byte_start,
  (max(t.byte_start + t.n_bytes) - min(t.byte_start))::bigint as n_bytes,
  sum(t.logprob::double) as logprob_sum
from inside t
asof join found_spans s on t.doc_id = s.doc_id and t.position >= s.position
where t.position < s.position + s.n_tokens
group by s.doc_id, s.position
"""


def span_tables(
    connection: duckdb.DuckDBPyConnection, run_id: str, kind: str, search: Search, slices: int = 1
) -> Iterator[pa.Table]:
    """Every span of one kind, sorted, a table for each range of doc_id. `connection` is one from `catalog.connect`.

    Raises:
        duckdb.Error: DuckDB failed on a statement.
    """
    columns = columns_for_greedy(connection, run_id)
    for start, end in doc_id_ranges(slices):
        with documents_between(connection, start, end, columns):
            find = _verbatim if kind == VERBATIM else _near_verbatim
            rows = find(connection, run_id, search)
        size = rows.num_rows
        same = {"kind": kind, "parameters": search.span_parameters(kind)}
        if kind == VERBATIM:
            rows = rows.append_column("n_misses", pa.repeat(pa.scalar(0, pa.int32()), size))
        found = [
            pa.repeat(pa.scalar(same[field.name], field.type), size) if field.name in same else rows[field.name]
            for field in SCHEMA
        ]
        typed = [column.cast(field.type) for column, field in zip(found, SCHEMA, strict=True)]
        yield pa.table(typed, schema=SCHEMA).sort_by(_ORDER).combine_chunks()


def _verbatim(connection: duckdb.DuckDBPyConnection, run_id: str, search: Search) -> pa.Table:
    card = load_scores()["rank_1_runs"]
    bound = card.bind(run_id=run_id, least=search.min_tokens, completion=search.completion)
    return connection.sql(card.sql, params=bound).to_arrow_table()


def _near_verbatim(connection: duckdb.DuckDBPyConnection, run_id: str, search: Search) -> pa.Table:
    bound = {"run_id": run_id, "completion": search.completion, "least": search.min_tokens}
    stops = connection.sql(_STOPS, params=bound).to_arrow_table()
    with _registered(connection, "found_spans", near_verbatim(stops, search.most_misses, search.min_tokens)):
        return connection.sql(_DETAILS, params={"run_id": run_id}).to_arrow_table()


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)
