"""Cuts a search into ranges of doc_id, and leaves out columns that it does not need."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from operators.scores.compute import DOC_IDS
from schemas import TOKENS
from schemas.tokens import EXTREMES, TOPK

SLICE_TOKENS = 8_000_000  # of a range: it holds some 50 bytes for each token that is missed
WINDOW_TOKENS = 4  # that take as much memory as a window, some 300 bytes while it is looked for


def slices_for(tokens: int, stride: int) -> int:
    """How many ranges to take of a run with so many tokens, and a window every `stride` of them, so that memory stays
    bounded."""
    return max(1, -(-tokens * (stride + WINDOW_TOKENS) // (stride * SLICE_TOKENS)))


def doc_id_ranges(slices: int) -> Iterator[tuple[int, int]]:
    """First doc_id of each range, ascending, and the one behind its last.

    Raises:
        ValueError: fewer than one slice.
    """
    if slices < 1:
        raise ValueError(f"slices: {slices}, expected 1 or more")
    width = -(-DOC_IDS // slices)
    for start in range(0, DOC_IDS, width):
        yield start, min(start + width, DOC_IDS)


def columns_for_greedy(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """What to select of a run's tokens to know the greedy choice: not the top-k lists where `top1_id` says it.

    A statement that may look at the lists reads them, which costs more than all else that it reads.
    """
    sql = "select list_contains(features, $group) from runs where run_id = $run_id"
    found = connection.execute(sql, {"group": EXTREMES, "run_id": run_id}).fetchall()
    if not found or not found[0][0]:
        return "*"
    nothing = ", ".join(f"null::{c.sql_type} as {c.name}" for c in TOKENS.group(TOPK))
    return f"* replace ({nothing})"
