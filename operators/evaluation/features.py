"""The scores of a run's documents as a matrix, a row per document: what judges or combines scores starts here.

    run --> every score that it can give, or those named --> doc_ids [N], variants [F], values [N, F]

Only the matrix is held, 8 bytes a cell; scores that scan tokens do so range after range of doc_id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt

from operators.evaluation.matrix import Floats, score_matrix
from operators.scores import ScorePlan, plan_scores, score_batches
from operators.scores.kept import slices_for

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """`values` [N, F] with NaN where undefined, a row per `doc_ids` [N], a column per variant and its family."""

    doc_ids: Ids
    variants: tuple[str, ...]
    families: tuple[str, ...]
    values: Floats


def document_features(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    doc_ids: Ids,
    *,
    names: Iterable[str] | None = None,
    families: Iterable[str] | None = None,
    references: Iterable[str] = (),
    lake: str = "LAKE",
) -> Features:
    """Compute the scores of these documents; what is asked for is as `operators.scores.plan_scores` has it.

    Raises:
        ScoreError: as `plan_scores`.
    """
    plan = plan_scores(connection, run_id, names, families=families, references=references, lake=lake)
    return planned_features(connection, plan, doc_ids)


def planned_features(connection: duckdb.DuckDBPyConnection, plan: ScorePlan, doc_ids: Ids) -> Features:
    """The scores of a plan for these documents, in its order."""
    sql = "select coalesce(max(tokens), 0), coalesce(max(documents), 0) from runs where run_id = $run_id"
    ((tokens, documents),) = connection.execute(sql, {"run_id": plan.run_id}).fetchall()
    computed, values = score_matrix(score_batches(connection, plan, slices_for(plan, tokens, documents)), doc_ids)
    family_of = {request.variant: request.card.family for request in plan.requests}
    place = {variant: column for column, variant in enumerate(computed)}
    variants = [variant for variant in family_of if variant in place]  # as planned, not as the scans came
    columns = values[:, [place[variant] for variant in variants]]
    return Features(doc_ids, tuple(variants), tuple(family_of[variant] for variant in variants), columns)
