"""Finds the runs of strict windows of a run's documents, and those of them that a search can use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from operators.memorization.search import Search
from operators.scores.companions import FINISHED
from operators.transform import TransformError, parse_transform

WINDOWS = "windows"


@dataclass(frozen=True)
class WindowsRun:
    """One run of strict windows. `is_same_model`: whether its model is that of its base run."""

    run_id: str
    state: str
    prefix: int
    suffix: int
    offset: int
    features: tuple[str, ...]
    is_same_model: bool

    def fault(self, search: Search) -> str | None:
        """Why a search cannot use it; None where it can."""
        if self.state != FINISHED:
            return f"run {self.run_id} is {self.state}: its `assay score` command goes on where it stopped"
        if not self.is_same_model:
            return f"run {self.run_id} is by another model"
        if (self.prefix, self.suffix) != (search.prefix, search.suffix):
            return f"run {self.run_id} has prefixes of {self.prefix} and suffixes of {self.suffix} tokens"
        return None


def windows_runs(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[WindowsRun]:
    """Every run of strict windows of this run's documents, by name, finished or not."""
    rows = connection.execute(
        """
        select w.run_id, w.state, w.transform, w.features, w.model_fingerprint is not distinct from b.model_fingerprint
        from runs w
        join runs b on b.run_id = w.base_run
        where w.base_run = $run_id
        order by w.run_id
        """,
        {"run_id": run_id},
    ).fetchall()
    found = []
    for name, state, spec, features, is_same_model in rows:
        try:
            transform = parse_transform(spec or "")
        except TransformError:
            continue
        if transform.name == WINDOWS:
            prefix, suffix, offset = (transform.number(key) for key in ("prefix", "suffix", "offset"))
            kept = tuple(features or ())
            found.append(WindowsRun(name, state, prefix, suffix, offset, kept, is_same_model))
    return found


def one_for_each_offset(runs: Iterable[WindowsRun], search: Search) -> list[WindowsRun]:
    """Of the runs that a search can use, one for each offset, so that no window comes twice: one with top-k lists where
    these are asked for, else the one that begins first, which has all windows of the others."""
    chosen: dict[int, WindowsRun] = {}
    for run in sorted(
        runs, key=lambda run: (bool(search.top_k) and "topk" not in run.features, run.offset, run.run_id)
    ):
        if run.fault(search) is None:
            chosen.setdefault(run.offset % search.suffix, run)
    return [chosen[offset] for offset in sorted(chosen)]
