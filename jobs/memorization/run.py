"""`assay memorization`: what a model would write of a run's documents by itself, kept in the lake and reported.

    run, and its runs of strict windows --> windows: strict | in the document --> `extractions` --> rates by group
                                        --> spans: verbatim | near verbatim   --> `spans`       --> longest, with text
                                        --> canaries among their candidates   --> exposure

What a run lacks for a part of it is said with the command that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.memorization.missing import Lack, about_run, missing_lists, missing_windows
from jobs.memorization.request import COPIES, MemorizationOptions, check_context, check_name, group_columns, strict_runs
from jobs.query import check_lake
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.memorization.kept import KeptRows, drop_extractions, keep_extractions, keep_spans
from operators.memorization.ranges import slices_for
from operators.memorization.rates import (
    GroupRates,
    SpanRates,
    count_documents,
    greedy_rates,
    load,
    sampled_rates,
    span_rates,
    unknown_windows,
)
from operators.memorization.view import memorized_sql
from operators.memorization.windows_runs import WindowsRun, windows_runs
from operators.score_cards import load_scores
from pipelines.config import ConfigError
from schemas.extractions import DOCUMENT, STRICT
from schemas.spans import NEAR_VERBATIM, VERBATIM

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class ContextRates:
    """Extraction in one context: over all windows, by samples and chance, and by column and group.

    `without`: documents of the run that have no complete window, and are in no rate. `unknown`: windows whose
    probability of being sampled is not known.
    """

    context: str
    scored_runs: tuple[str, ...]
    every: GroupRates
    sampled: Mapping[tuple[int, float], GroupRates]
    unknown: int
    without: int
    groups: Mapping[str, Sequence[GroupRates]]


@dataclass(frozen=True)
class KindRates:
    """Documents with a span of one kind: over all, and by column and group; and its longest spans."""

    kind: str
    spans: int
    every: SpanRates
    groups: Mapping[str, Sequence[SpanRates]]
    longest: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Memorized:
    """Everything that was found. `exposure`: a row a canary, None where it was not asked for."""

    options: MemorizationOptions
    contexts: Sequence[ContextRates]
    kinds: Sequence[KindRates]
    exposure: Sequence[Mapping[str, Any]] | None
    kept: Sequence[KeptRows]
    missing: Sequence[Lack]
    notes: Sequence[str]


def run_memorization(options: MemorizationOptions, fmt: str | None, output: Path | None) -> None:
    """Search, keep and print or write what was found; `fmt` None: as the name of `output` ends, else a table.

    Raises:
        ConfigError: no such lake, run or column, or runs that are no strict windows of it.
        QueryError: DuckDB failed on a statement.
    """
    from jobs.memorization.report import show
    from jobs.output import choose_format

    chosen = choose_format(fmt, output)
    if chosen == "csv":
        raise ConfigError("--output: a name that ends in .json, or another for the table as text")
    show(memorization(options), chosen, output)


def memorization(options: MemorizationOptions) -> Memorized:
    """Search a run, keep its windows and spans, and gather all numbers.

    Raises:
        ConfigError, QueryError: as `run_memorization`.
    """
    check_lake(options.lake, options.storage_options)
    lake = Lake(options.lake, options.storage_options)
    check_name(lake, options.run_id)
    ledger = lake.read_run(options.run_id)
    check_context(options.run_id, ledger)
    with reading(options.lake, options.storage_options) as connection:
        columns = group_columns(connection, options)
        every = windows_runs(connection, options.run_id)
        strict = strict_runs(lake, options, every)
        notes = list(about_run(connection, options.run_id, options.search, ledger))
        missing = [
            *missing_windows(options.lake, options.run_id, options.search, every, strict),
            *missing_lists(options.lake, options.run_id, options.search, ledger),
        ]
        kept = _keep(lake, connection, options, strict, ledger)
        if not strict and drop_extractions(lake, options.run_id, STRICT):
            notes.append("note: strict windows that the lake had of this run were of another length: they are gone")
        load(connection, options.run_id, columns)
        contexts = [_context(connection, options, STRICT, [run.run_id for run in strict], columns)] if strict else []
        contexts.append(_context(connection, options, DOCUMENT, [options.run_id], columns))
        kinds = [_kind(connection, options, each, columns) for each in kept if each.what in (VERBATIM, NEAR_VERBATIM)]
        exposure = None if options.canaries is None else _exposure(connection, options, columns)
    return Memorized(options, contexts, kinds, exposure, kept, missing, notes)


# Searching and counting


def _keep(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    options: MemorizationOptions,
    strict: Sequence[WindowsRun],
    ledger: Mapping[str, Any],
) -> list[KeptRows]:
    totals = ledger.get("totals")
    run_id, search, kept = options.run_id, options.search, []
    tokens = int(totals.get("tokens", 0)) if isinstance(totals, dict) else 0
    slices = slices_for(tokens, min(search.stride, max(1, search.suffix // max(1, len(strict)))))
    if strict:
        names = [run.run_id for run in strict]
        kept.append(keep_extractions(lake, connection, run_id, STRICT, names, search, slices))
    kept.append(keep_extractions(lake, connection, run_id, DOCUMENT, [run_id], search, slices))
    return kept + [keep_spans(lake, connection, run_id, kind, search, slices) for kind in (VERBATIM, NEAR_VERBATIM)]


def _context(
    connection: duckdb.DuckDBPyConnection,
    options: MemorizationOptions,
    context: str,
    runs: Sequence[str],
    columns: Sequence[str],
) -> ContextRates:
    pairs = [(n, p) for p in options.chances for n in options.samples]
    (every,) = greedy_rates(connection, context)
    return ContextRates(
        context,
        tuple(runs),
        every,
        {(n, p): sampled_rates(connection, context, n, p) for n, p in pairs},
        unknown_windows(connection, context),
        count_documents(connection) - every.documents.n,
        {name: greedy_rates(connection, context, i) for i, name in enumerate(columns)},
    )


def _kind(
    connection: duckdb.DuckDBPyConnection, options: MemorizationOptions, kept: KeptRows, columns: Sequence[str]
) -> KindRates:
    run_id, kind = options.run_id, kept.what
    return KindRates(
        kind,
        kept.rows,
        span_rates(connection, run_id, kind)[0],
        {name: span_rates(connection, run_id, kind, i) for i, name in enumerate(columns)},
        _longest(connection, options, kind),
    )


def _longest(connection: duckdb.DuckDBPyConnection, options: MemorizationOptions, kind: str) -> list[dict[str, Any]]:
    """The longest spans of a kind with their text; of the near-verbatim ones those that are not verbatim."""
    sql = f"""
        with longest as (
          select *
          from spans
          where run_id = $run_id and kind = $kind and (n_misses > 0 or kind = '{VERBATIM}')
          order by n_tokens desc, doc_id, position
          limit $most
        )
        select kind, n_tokens, n_misses, key, source, "row", byte_start, n_bytes, label, domain, text, logprob_sum
        from ({memorized_sql("longest")})
    """
    bound = {"run_id": options.run_id, "kind": kind, "most": options.limit}
    found: list[dict[str, Any]] = connection.sql(sql, params=bound).to_arrow_table().to_pylist()
    return found


def _exposure(
    connection: duckdb.DuckDBPyConnection, options: MemorizationOptions, columns: Sequence[str]
) -> list[dict[str, Any]]:
    card = load_scores()["exposure"]
    copies = options.copies_column or (COPIES if COPIES in columns else None)
    value = "null::varchar" if copies is None else "d.attributes[$copies::varchar]"
    sql = f"""
        select e.candidates, d.key, {value} as copies, e.logprob_sum, e.rank, e.n_candidates, e.exposure_bits,
          e.most_bits, e.p_value
        from ({card.body}) e
        join documents d on d.run_id = e.run_id and d.doc_id = e.doc_id
        order by exposure_bits desc nulls last, d.key
    """
    bound = card.bind(run_id=options.run_id, grouping=options.canaries)
    rows = connection.sql(sql, params=bound if copies is None else {**bound, "copies": copies}).to_arrow_table()
    found: list[dict[str, Any]] = rows.to_pylist()
    return found
