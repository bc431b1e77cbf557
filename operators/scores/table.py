"""Scores as rows of the lake's table `scores`: as one table, or as batches for runs that are large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from operators.scores.compute import score_ranges
from operators.scores.plan import Request, ScorePlan, plan_scores
from schemas import SCORES

SCORE_TABLE = SCORES.arrow(with_partitions=True)

# The same for every row of a request; an index and one value instead of a text a row.
_SAME = ("run_id", "family", "score", "variant", "parameters")
_INDEXED = pa.dictionary(pa.int16(), pa.string())


def score_table(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    names: Iterable[str] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    families: Iterable[str] | None = None,
    references: Iterable[str] = (),
    slices: int = 1,
    lake: str = "LAKE",
) -> pa.Table:
    """Scores of a run's documents as one long table (`SCORE_TABLE`), a row per document and variant.

    What is asked for is as `plan_scores` has it: all that the run can give, or scores and variants by name.
    `connection` is one from `catalog.connect`. Scores that every document of the run keeps as a roll-up are read from
    `documents`; the others share a scan of `tokens` where their parameters agree. `slices` cuts what is held in memory
    by taking so many ranges of doc_id one after another. A row weighs some 100 bytes: `score_batches` for millions.

    Raises:
        ScoreError: an unknown score, one that is not of documents, an unknown parameter, or a score asked for by name
            that the run cannot give. Nothing has run then.
        ValueError: fewer than one slice.
    """
    plan = plan_scores(
        connection, run_id, names, parameters, families=families, references=references, lake=lake
    )  # fmt: skip
    tables = [batch.cast(SCORE_TABLE) for batch in score_batches(connection, plan, slices)]
    return pa.concat_tables([SCORE_TABLE.empty_table(), *tables])


def score_batches(connection: duckdb.DuckDBPyConnection, plan: ScorePlan, slices: int = 1) -> Iterator[pa.Table]:
    """The scores of a plan, a table for each variant and range of doc_id: columns of `SCORE_TABLE`, texts as
    dictionaries (26 bytes a row), rows in any order."""
    requests = {request.variant: request for request in plan.requests}
    for found in score_ranges(connection, plan, slices):
        for variant, rows in found.items():
            yield labelled(requests[variant], plan.run_id, rows)


def labelled(request: Request, run_id: str, rows: pa.Table) -> pa.Table:
    """Rows `(doc_id, value)` of one request with all that is the same for each of them."""
    card = request.card
    texts = (run_id, card.family, card.name, request.variant, request.parameters)
    indices = pa.repeat(pa.scalar(0, pa.int16()), rows.num_rows)
    columns = {
        name: pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))
        for name, text in zip(_SAME, texts, strict=True)
    }
    columns |= {"doc_id": rows["doc_id"], "value": rows["value"]}
    fields = [f.with_type(_INDEXED) if f.name in _SAME else f for f in SCORE_TABLE]
    return pa.table([columns[f.name] for f in fields], schema=pa.schema(fields))
