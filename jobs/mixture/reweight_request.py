"""What `assay mixture doremi` and `select` are asked for, against what the lake has: runs that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jobs.figures import check_figure
from jobs.memorization.request import check_name
from jobs.mixture.reweight_output import Keeping
from jobs.output import choose_format
from jobs.query import check_lake
from operators.mixtures.reweight_estimates import Estimated, Resampling
from operators.mixtures.reweight_losses import (
    DOMAIN,
    UNNAMED,
    Components,
    Tally,
    check_runs,
    documents_apart,
)
from operators.scores.companions import FINISHED, Neighbourhood
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

FEW_DOCUMENTS = (
    30  # below, intervals fall short of their level: `operators.mixtures.reweight_estimates` says by how much
)


@dataclass(frozen=True)
class ReweightOptions:
    """What both verbs are asked. `runs`: proxies in order, or the one current model."""

    keeping: Keeping
    runs: Sequence[str]
    reference: str
    by: str = DOMAIN
    resampling: Resampling = field(default_factory=Resampling)
    figure: Path | None = None


def prepared(options: ReweightOptions, fmt: str | None, output: Path | None) -> str:
    """The format to print in, after every check that needs no token."""
    chosen = choose_format(fmt, output)
    check_figure(options.figure)
    check_lake(options.keeping.lake, options.keeping.storage_options)
    options.keeping.check()
    for run_id in (*options.runs, options.reference):
        check_name(options.keeping.there, run_id)
    check_runs(options.runs, options.reference)
    return chosen


def check_comparable(connection: duckdb.DuckDBPyConnection, options: ReweightOptions) -> Iterator[str]:
    """Refuse runs of different tokenizers and such as are not finished; warn of what else sets runs apart.

    Raises:
        ConfigError, ScoreError: they cannot be compared.
    """
    settings = _settings_of(connection)
    for run_id in options.runs:
        around = Neighbourhood(connection, run_id, [options.reference])
        run, reference = around.run, around[options.reference]
        if run.state != FINISHED:
            raise ConfigError(f"run {run_id} is {run.state}, not finished: the command that began it resumes it")
        tokenizers = {run.tokenizer_fingerprint, reference.tokenizer_fingerprint}
        if len(tokenizers) > 1:
            raise ConfigError(
                f"runs {run_id} and {options.reference} have different tokenizers: losses compare token by token only "
                "under one; `assay mixture fit` compares by byte"
            )
        differs = [name for name in settings[run_id] if settings[run_id][name] != settings[options.reference][name]]
        if differs:
            said = ", ".join(f"{n} {settings[run_id][n]} and {settings[options.reference][n]}" for n in differs)
            yield f"warning: runs {run_id} and {options.reference} were scored in different contexts ({said})"
        only_run, only_reference = documents_apart(connection, run_id, options.reference)
        if only_run or only_reference:
            yield (
                f"warning: {only_run:,} documents are in run {run_id} alone and {only_reference:,} in run "
                f"{options.reference} alone: they are left out"
            )


def _settings_of(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    rows = connection.execute("select run_id, context, stride, transform from runs").fetchall()
    return {run_id: dict(zip(("context", "stride", "transform"), others, strict=True)) for run_id, *others in rows}


def tally_notes(run_id: str, reference: str, tally: Tally) -> Iterator[str]:
    """What became of a run's tokens, where not all of them count."""
    if missing := tally.scored - tally.paired:
        yield (
            f"note: {missing:,} of {tally.scored:,} scored tokens of run {run_id} have no prediction in run "
            f"{reference} and are left out"
        )
    if tally.infinite:
        yield f"warning: {tally.infinite:,} tokens of run {run_id} have no finite excess loss and are left out"
    if not tally.paired:
        yield f"warning: no token of run {run_id} has a prediction in run {reference}"


def component_notes(
    components: Components, n_documents: npt.NDArray[np.int64], estimate: Estimated
) -> tuple[list[str | None], list[str]]:
    """By component why not to trust its numbers, and what to say of all."""
    of_each: list[str | None] = [None] * len(components.names)
    for i, (n, low) in enumerate(zip(n_documents.tolist(), estimate.low.tolist(), strict=True)):
        if n <= 1:
            of_each[i] = "one document: its spread is not known" if n else "no token that both runs predict"
        elif low != low:
            of_each[i] = "the same in every resample: no interval"
        elif n < FEW_DOCUMENTS:
            of_each[i] = f"{n} documents: the interval may be too narrow"
    said = []
    if UNNAMED in components.names:
        said.append(f"note: documents without a {components.by} are a component of their own, {UNNAMED}")
    return of_each, said
