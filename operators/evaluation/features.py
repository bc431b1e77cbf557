"""The scores of a run's documents as a matrix, a row per document: what learns from many scores starts here.

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
from operators.scores import plan_scores, score_batches

Ids = npt.NDArray[np.int64]

TOKENS_AT_ONCE = 20_000_000  # of a range of documents: half a gigabyte for the scores that rank tokens


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
    family_of = {request.variant: request.card.family for request in plan.requests}
    found = connection.execute("select tokens from runs where run_id = $run_id", {"run_id": run_id}).fetchall()
    slices = -(-sum(tokens or 0 for (tokens,) in found) // TOKENS_AT_ONCE) or 1
    computed, values = score_matrix(score_batches(connection, plan, slices), doc_ids)
    place = {variant: column for column, variant in enumerate(computed)}
    variants = [variant for variant in family_of if variant in place]  # as planned, not as the scans came
    columns = values[:, [place[variant] for variant in variants]]
    return Features(doc_ids, tuple(variants), tuple(family_of[variant] for variant in variants), columns)
