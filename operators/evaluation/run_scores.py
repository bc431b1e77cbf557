"""The scores of a run as a matrix over chosen documents: computed from the lake, and learned ones as they are stored.

plan_scores --> score_batches (a variant and range of documents at a time) --> score_matrix
`scores`, family learned -----------------------------------------------^
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.catalog import connect_through, lake_files, open_storage
from operators.evaluation.classes import Floats
from operators.evaluation.matrix import score_matrix
from operators.query import QueryError
from operators.scores import Missing, ScorePlan, plan_scores, score_batches
from operators.scores.kept import slices_for
from operators.storage.remote import redact

# Families of which a higher value says "positive". Others are oriented, too, but not towards a label: ask for them.
FAMILIES = ("membership", "detection", "learned")
LEARNED = "learned"


@dataclass(frozen=True)
class RunScores:
    """`values` [N, F] of the documents asked for, NaN where undefined; `missing`: what the run cannot give, and why."""

    names: tuple[str, ...]
    values: Floats
    missing: tuple[Missing, ...] = ()

    def columns(self) -> dict[str, Floats]:
        """name -> [N]."""
        return dict(zip(self.names, self.values.T, strict=True))


@contextmanager
def reading(lake: str, storage_options: Mapping[str, Any] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the lake's views, for statements of ours.

    Raises:
        QueryError: DuckDB failed on a statement.
        ObjectError: the storage failed.
    """
    storage = open_storage(lake, storage_options)
    files = lake_files(storage)
    try:
        with (
            connect_through(storage, files, macros=False) as connection,
            files.own_errors() if files is not None else nullcontext(),
        ):
            connection.execute("set enable_progress_bar = false")
            yield connection
    except duckdb.Error as error:
        raise QueryError(redact(str(error), storage_options)) from None


def run_scores(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    doc_ids: npt.NDArray[np.int64],
    *,
    names: Sequence[str] = (),
    families: Sequence[str] = (),
    references: Sequence[str] = (),
    lake: str = "LAKE",
) -> RunScores:
    """Scores of documents, by name and by family; those of `FAMILIES` where neither is asked for.

    `connection` is one from `reading`; `lake` is how hints call the lake.

    Raises:
        ScoreError: as `plan_scores`.
    """
    wanted = tuple(families) or (() if names else FAMILIES)
    stored = _stored(connection, run_id)
    learned = [each for each in stored if LEARNED in wanted or each in names]
    plan = plan_scores(
        connection,
        run_id,
        [each for each in names if each not in stored],
        families=[each for each in wanted if each != LEARNED],
        references=references,
        lake=lake,
    )
    found, values = score_matrix(_tables(connection, plan, learned), doc_ids)
    return RunScores(tuple(found), values, plan.missing)


def _tables(connection: duckdb.DuckDBPyConnection, plan: ScorePlan, learned: Sequence[str]) -> Iterator[pa.Table]:
    if plan.requests:
        sql = "select coalesce(max(tokens), 0), coalesce(max(documents), 0) from runs where run_id = $run_id"
        ((tokens, documents),) = connection.execute(sql, {"run_id": plan.run_id}).fetchall()
        yield from score_batches(connection, plan, slices_for(plan, tokens, documents))
    if learned:
        sql = "select doc_id, variant, value from scores where run_id = $run_id and list_contains($variants, variant)"
        yield connection.sql(sql, params={"run_id": plan.run_id, "variants": list(learned)}).to_arrow_table()


def _stored(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """Variants of learned scores that the lake keeps for the run."""
    sql = "select distinct variant from scores where run_id = $run_id and family = $family order by variant"
    return [name for (name,) in connection.execute(sql, {"run_id": run_id, "family": LEARNED}).fetchall()]
