"""What a lake shows of itself after something was written: its catalog, made anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from operators.lake import Lake
from operators.results import keep_result
from operators.scores.origin import State
from schemas.results import ResultKind


def refresh_catalog(lake: Lake) -> None:
    """Make `<lake>/lake.duckdb` anew, so that it knows of every table that is there."""
    from operators.catalog import write_catalog  # DuckDB: where nothing is kept nothing needs it

    write_catalog(lake.root, lake.storage_options)


def publish_result(
    lake: Lake,
    kind: ResultKind,
    name: str,
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    states: Mapping[str, State] | None = None,
) -> str:
    """Keep a result under its name, as `operators.results.keep_result` does, and refresh the catalog.

    Returns:
        the path of its first table, relative to the lake's root.

    Raises:
        ValueError, OSError: as `keep_result`.
    """
    path = keep_result(lake, kind, name, tables, settings=settings, facts=facts, states=states)
    refresh_catalog(lake)
    return path
