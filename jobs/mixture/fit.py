"""`assay mixture fit`: how well the models of some runs predict each domain, kept in the lake, printed and drawn.

    run -> documents by domain -> `domain_fit`       \\
        -> tokens by type -----> `vocabulary_fit`     > report: a table a run, the matrix of runs and domains, notes
    runs -> same documents? same settings? ----------/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.figures import check_figure
from jobs.mixture.fit_notes import RunFacts, about_runs, run_facts
from jobs.output import choose_format
from jobs.query import check_lake, check_run
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.mixtures.fit import FitSettings, TooManyDomainsError, domain_fit
from operators.mixtures.fit_kept import keep_fit
from operators.mixtures.fit_read import document_blocks
from operators.mixtures.fit_vocabulary import vocabulary_fit
from operators.scores.origin import run_state
from pipelines.catalog import refresh_catalog
from pipelines.config import ConfigError
from schemas import DOMAIN_FIT, VOCABULARY_FIT

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class FitOptions:
    """What is asked for, as the flags of `assay mixture fit` say it."""

    lake: str
    run_ids: Sequence[str]
    settings: FitSettings = field(default_factory=FitSettings)
    vocabulary: bool = True
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RunFit:
    """One run: what its ledger says, its rows of `domain_fit`, and of `vocabulary_fit` where that was asked for."""

    facts: RunFacts
    domains: pa.Table
    vocabulary: pa.Table | None
    kept: tuple[str, ...]

    @property
    def run_id(self) -> str:
        return self.facts.run_id


@dataclass(frozen=True)
class Fitted:
    """Everything that was found, in the order of the runs asked for."""

    options: FitOptions
    runs: Sequence[RunFit]
    notes: Sequence[str]


def fit_settings(**values: Any) -> FitSettings:
    """The settings that flags give.

    Raises:
        ConfigError: it says all that is wrong.
    """
    try:
        return FitSettings(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def run_fit(options: FitOptions, fmt: str | None, output: Path | None, figure: Path | None, drawn: str) -> None:
    """Fit, keep, draw and print; `fmt` None: as the name of `output` ends, else a table. `drawn`: what the figure
    shows, `fit` or `share`.

    Raises:
        ConfigError: no such lake or run, or files that cannot be written.
        QueryError: DuckDB failed on a statement.
    """
    from jobs.mixture.fit_report import draw, show

    check_figure(figure)
    chosen = choose_format(fmt, output)
    found = fit(options)
    if figure is not None:
        draw(found, figure, drawn)
    show(found, chosen, output)


def fit(options: FitOptions) -> Fitted:
    """Fit every run, keep the rows, and rebuild the catalog.

    Raises:
        ConfigError, QueryError: as `run_fit`.
    """
    check_lake(options.lake, options.storage_options)
    runs = list(dict.fromkeys(options.run_ids))
    for run_id in runs:
        check_run(options.lake, run_id, options.storage_options)
    lake = Lake(options.lake, options.storage_options)
    with reading(options.lake, options.storage_options) as connection:
        fits = [_fit_run(lake, connection, run_id, options) for run_id in runs]
    refresh_catalog(lake)
    return Fitted(options, fits, list(about_runs([(each.facts, each.domains) for each in fits])))


def _fit_run(lake: Lake, connection: duckdb.DuckDBPyConnection, run_id: str, options: FitOptions) -> RunFit:
    ledger = lake.read_run(run_id)
    state, settings = run_state(ledger), options.settings
    facts = run_facts(connection, run_id, ledger)
    try:
        domains = domain_fit(document_blocks(connection, run_id), settings)
    except TooManyDomainsError as error:
        raise ConfigError(f"--run-id {run_id}: {error}") from None
    kept = [keep_fit(lake, DOMAIN_FIT, run_id, domains, settings=asdict(settings), state=state)]
    vocabulary = None
    if options.vocabulary:
        vocabulary = vocabulary_fit(lake, run_id, settings.confidence)
        of_types = {"confidence": settings.confidence}
        kept.append(keep_fit(lake, VOCABULARY_FIT, run_id, vocabulary, settings=of_types, state=state))
    return RunFit(facts, domains, vocabulary, tuple(kept))
