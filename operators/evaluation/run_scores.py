"""The scores of a run as a matrix over chosen documents: computed from the lake, and learned ones as they are stored.

plan_scores --> planned_features (`features`) --------------------> names [F], values [N, F]
`scores`, family learned, of the run as it is now --> score_matrix ---^

Learned scores that were kept of an earlier state of the run are left out and named: documents may have changed since.
"""

from __future__ import annotations

import shlex
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
from operators.evaluation.features import planned_features
from operators.evaluation.matrix import score_matrix
from operators.lake import Lake, Part
from operators.query import QueryError
from operators.scores import Missing, plan_scores
from operators.scores.kept import LEARNED
from operators.scores.origin import Origin, parse_origin, run_state
from operators.storage.remote import redact
from schemas import SCORES

# Families of which a higher value says "positive". Others are oriented, too, but not towards a label: ask for them.
FAMILIES = ("membership", "detection", LEARNED)


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
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    doc_ids: npt.NDArray[np.int64],
    *,
    names: Sequence[str] = (),
    families: Sequence[str] = (),
    references: Sequence[str] = (),
) -> RunScores:
    """Scores of documents, by name and by family; those of `FAMILIES` where neither is asked for.

    `connection` is one from `reading`.

    Raises:
        ScoreError: as `plan_scores`.
        OSError, ValueError: the run has no sound ledger, or the storage failed.
    """
    wanted = tuple(families) or (() if names else FAMILIES)
    stored = _stored(connection, run_id)
    learned = [each for each in stored if LEARNED in wanted or each in names]
    stale = _stale(lake, run_id, learned)
    none = [LEARNED] * (LEARNED in families and not learned)
    plan = plan_scores(
        connection,
        run_id,
        [each for each in names if each not in stored],
        families=[each for each in wanted if each != LEARNED],
        references=references,
        lake=lake.root,
    )
    command = f"assay scores {shlex.quote(lake.root)} --run-id {run_id} --detector FOLDER"
    missing = (
        *plan.missing,
        *(Missing(each, LEARNED, "its scores are of the run as it was before", command) for each in stale),
        *(Missing(each, LEARNED, "no detector's scores are kept for the run", command) for each in none),
    )
    learned = [each for each in learned if each not in stale]
    computed = planned_features(connection, plan, doc_ids)
    if not learned:
        return RunScores(computed.variants, computed.values, missing)
    sql = "select doc_id, variant, value from scores where run_id = $run_id and list_contains($variants, variant)"
    rows = connection.sql(sql, params={"run_id": run_id, "variants": learned}).to_arrow_table()
    more, values = score_matrix(rows, doc_ids)
    return RunScores((*computed.variants, *more), np.hstack([computed.values, values]), missing)


def _stored(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """Variants of learned scores that the lake keeps for the run."""
    sql = "select distinct variant from scores where run_id = $run_id and family = $family order by variant"
    return [name for (name,) in connection.execute(sql, {"run_id": run_id, "family": LEARNED}).fetchall()]


def _stale(lake: Lake, run_id: str, variants: Sequence[str]) -> list[str]:
    """Those of learned scores that were made from the run as it was before, or do not say from which state of it."""
    if not variants:
        return []
    state = run_state(lake.read_run(run_id))
    stale = []
    for variant in variants:
        name = Origin(LEARNED, (variant,), {}, detector=variant).part_name
        try:
            with lake.storage.parquet(Part(SCORES.name, run_id, name).path) as file:
                is_current = parse_origin(file.schema_arrow).states.get(run_id) == state
        except (FileNotFoundError, ValueError, pa.ArrowException):
            is_current = False
        stale += [] if is_current else [variant]
    return stale
