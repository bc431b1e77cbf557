"""Token frequencies by SQL: counts the tokens of a run that the lake holds."""

from __future__ import annotations

import duckdb

from operators.token_counts import COUNTS, TokenCounts

# What a tokenizer puts around every text covers no bytes, and so may the first or last token of a text (a lone mark of
# a space). Of the former each document has the same number, which is then the least that any has.
_AROUND = """
with ends as (
  select
    min(position) filter (n_bytes > 0) as first,
    max(position) - max(position) filter (n_bytes > 0) as after
  from tokens
  where run_id = $run_id
  group by doc_id
)
select coalesce(min(first), 0), coalesce(min(after), 0), count(*) from ends
"""

_COUNTS = """
with own as (
  select t.doc_id, t.token_id, count(*) as n
  from tokens t
  join documents d on d.doc_id = t.doc_id
  where t.run_id = $run_id
    and d.run_id = $run_id
    and t.position >= $before
    and t.position < least(d.n_tokens - $after, $before + coalesce($first_tokens, d.n_tokens))
  group by t.doc_id, t.token_id
)
select token_id, sum(n)::bigint as n, count(*) as n_documents
from own
group by token_id
"""


def count_run(
    connection: duckdb.DuckDBPyConnection, run_id: str, width: int, first_tokens: int | None = None
) -> TokenCounts:
    """The tokens of a run's documents, without those that the tokenizer put around every text.

    Args:
        connection: one from `operators.catalog.connect`.
        width: of the model's softmax; the counts have an entry for every id below it.
        first_tokens: of each document only so many are counted, None for all.

    Raises:
        ValueError: the run holds an id that is not below `width`.
    """
    ((before, after, documents),) = connection.execute(_AROUND, {"run_id": run_id}).fetchall()
    bound = {"run_id": run_id, "before": before, "after": after, "first_tokens": first_tokens}
    rows = connection.sql(_COUNTS, params=bound).to_arrow_table().cast(COUNTS)
    beyond = max(rows["token_id"].to_pylist(), default=-1)
    if beyond >= width:
        raise ValueError(f"run {run_id!r} holds token id {beyond}, but its ledger says the vocabulary is {width}")
    counts = TokenCounts.none(width)
    counts.add_rows(rows, documents)
    return counts
