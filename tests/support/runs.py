"""Runs of the small model for tests: a job with defaults, run inline, and what the lake then holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake
from pipelines.config import ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

WITH_COLUMNS = {"id_column": "id", "label_column": "label", "domain_column": "domain"}


def config(model: Path, corpus: Path | str, lake: Path | str, run_id: str = "run", **more: Any) -> ScoreConfig:
    fields: dict[str, Any] = {
        "model": str(model), "input": str(corpus), "lake": str(lake), "run_id": run_id, "engine": "inline",
        "context": 64,
    }  # fmt: skip
    return ScoreConfig.parse(**{**fields, **more})


def run(*args: Any, **more: Any) -> dict[str, Any]:
    return score_corpus(make_plan(config(*args, **more)))


def rows(lake: Path | str, table: str, run_id: str = "run", order: str = "doc_id") -> pa.Table:
    """Every row of a table of the run, sorted."""
    store = Lake(str(lake))
    parts = [pq.read_table(store.uri(part), partitioning=None) for part in store.parts(table, run_id)]
    whole = pa.concat_tables(parts)
    keys = [(name, "ascending") for name in (order, "position", "row") if name in whole.column_names]
    return whole.sort_by(keys).combine_chunks()
