"""Detectors that learn from labelled documents: trained out of fold, kept as safetensors and a card, then applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import pyarrow as pa

__all__ = ["apply"]


def apply(
    detector_folder: str,
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    *,
    references: Sequence[str] = (),
    force: bool = False,
    lake: str = "LAKE",
    storage_options: dict[str, Any] | None = None,
) -> pa.Table:
    """Log-odds of label 1 of a run's documents, as rows of `scores`: see `operators.detectors.application.apply`."""
    from operators.detectors.application import apply as applied  # torch and DuckDB wait until they are wanted

    return applied(
        detector_folder,
        connection,
        run_id,
        references=references,
        force=force,
        lake=lake,
        storage_options=storage_options,
    )
