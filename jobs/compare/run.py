"""`assay compare`: how corpora of a lake differ, each with each, and what each looks like. Kept under a name.

corpora (runs, conditions, values of a column) -> `measure` -> pairs -> `pair_rows`, Holm over all --> comparisons
                                                   \\-> quantiles and means of every corpus --> corpus_profiles
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.compare.measure import PIECES, Measured, measure
from jobs.compare.notes import (
    about_documents,
    about_runs,
    about_tests,
    check_tokens,
    fingerprint,
    no_states,
    same,
    shared_texts,
)
from jobs.compare.pairs import PERMUTATION, Pair, Row, pair_rows
from jobs.compare.request import CompareOptions, check_options, resolve
from jobs.query import check_lake, check_run
from operators.comparison.pieces import LEVEL, PIECE_BYTES
from operators.comparison.profiles import profile
from operators.comparison.reading import WORDS
from operators.evaluation.multiplicity import holm_adjusted
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.results import check_free, run_states
from pipelines.catalog import publish_result
from pipelines.progress import LINE_EVERY, write_line
from schemas.comparisons import COMPARISONS, CORPUS_PROFILES
from schemas.results import COMPARISON

DRAWS = 2000  # of a bootstrap interval of a mean


@dataclass(frozen=True)
class Compared:
    """Everything that was found: rows of both tables, and what is to be known of them."""

    options: CompareOptions
    names: Sequence[str]
    rows: Sequence[Row]
    profiles: Sequence[Row]
    facts: Mapping[str, Any]
    notes: Sequence[str]
    path: str


def run_compare(options: CompareOptions, fmt: str | None, output: Path | None, figure: Path | None) -> None:
    """Compare, keep, draw, and print or write what was found.

    Raises:
        ConfigError: the flags contradict each other, or the lake has no such run or documents.
        ResultError: the lake has a comparison of this name.
        QueryError: DuckDB refused a condition or failed on a statement.
    """
    from jobs.compare.report import draw_figure, show
    from jobs.figures import check_figure
    from jobs.output import choose_format

    chosen = choose_format(fmt, output)
    check_figure(figure)
    found = compare(options)
    if figure is not None:
        draw_figure(found, figure)
    show(found, chosen, output)


def compare(options: CompareOptions) -> Compared:
    """Compare all corpora with each other and keep the result.

    Raises:
        ConfigError, ResultError, QueryError: as `run_compare`.
    """
    check_options(options)
    check_lake(options.lake, options.storage_options)
    lake = Lake(options.lake, options.storage_options)
    check_free(lake, COMPARISON, options.name, options.overwrite)
    runs = [options.run_id] if options.run_id is not None else [each.run_id for each in options.corpora]
    for run_id in runs:
        check_run(options.lake, run_id, options.storage_options)
    states = run_states(lake, runs)
    ledgers = {run: lake.read_run(run) for run in states}
    check_tokens(options, ledgers)
    lack = no_states(options, ledgers) if options.depth is not False else None
    with reading(options.lake, options.storage_options) as connection:
        corpora, notes = resolve(options, connection)
        with_states = options.depth is not False and lack is None
        measured = measure(connection, corpora, options, with_states=with_states)
    rows = _rows(measured, options, same_tokenizer=same(ledgers, "tokenizer"))
    profiles = _profiles(measured, options)
    notes = [*notes, *about_runs(ledgers), *about_documents(measured, options), *about_tests(rows, options)]
    facts = _facts(measured, options, ledgers, notes, lack)
    tables = {
        COMPARISONS.name: _table(rows, COMPARISONS.arrow()),
        CORPUS_PROFILES.name: _table(profiles, CORPUS_PROFILES.arrow()),
    }
    path = publish_result(lake, COMPARISON, options.name, tables, settings=options.settings, facts=facts, states=states)
    shown = [*notes, *([f"note: {lack}"] if lack else [])]
    return Compared(options, [corpus.name for corpus in corpora], rows, profiles, facts, shown, path)


def _rows(measured: Measured, options: CompareOptions, *, same_tokenizer: bool) -> list[Row]:
    """Rows of every pair, with p-values adjusted over all of them; the rank-sum test is not among those."""
    rows, pairs, last_line = [], list(combinations(range(len(measured.corpora)), 2)), time.monotonic()
    for done, (i, j) in enumerate(pairs):
        if time.monotonic() - last_line > LINE_EVERY:
            last_line = time.monotonic()
            line = f"comparing: {done:,} of {len(pairs):,} pairs"
            write_line(line, {"pairs": done, "pairs_total": len(pairs)}, sys.stderr)
        rows += pair_rows(Pair(i, j, measured, options, same_tokenizer))
    tested = [row["p_value"] if row["test"] == PERMUTATION else None for row in rows]
    adjusted = holm_adjusted([np.nan if p is None else p for p in tested])
    return [row | {"p_adjusted": None if np.isnan(p) else float(p)} for row, p in zip(rows, adjusted, strict=True)]


def _profiles(measured: Measured, options: CompareOptions) -> list[Row]:
    rows = []
    for i, corpus in enumerate(measured.corpora):
        quantities = {name: values[measured.places[i]] for name, values in measured.quantities.items()}
        for name, values in (quantities | {PIECES: measured.pieces[i]}).items():
            rng = np.random.default_rng([options.seed, *(zlib.crc32(each.encode()) for each in (corpus.name, name))])
            for point in profile(values, confidence=options.confidence, draws=DRAWS, rng=rng):
                has_ends = not np.isnan(point.ends.low)
                rows.append({
                    "corpus": corpus.name, "quantity": name, "quantile": point.quantile, "value": point.value,
                    "value_low": point.ends.low if has_ends else None,
                    "value_high": point.ends.high if has_ends else None,
                    "confidence": options.confidence if has_ends else None, "n": point.n,
                })  # fmt: skip
    return rows


def _facts(
    measured: Measured,
    options: CompareOptions,
    ledgers: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    lack: str | None,
) -> dict[str, Any]:
    return {
        "corpora": [
            {"name": c.name, "run_id": c.run_id, "documents": len(c), "of": c.total, "without_text": without}
            for c, without in zip(measured.corpora, measured.without_text, strict=True)
        ],
        "shared_texts": [
            {"a": measured.corpora[i].name, "b": measured.corpora[j].name, "texts": shared_texts(measured, i, j)}
            for i, j in combinations(range(len(measured.corpora)), 2)
        ],
        "normalisation": WORDS,
        "tokenizers": {run: fingerprint(ledger, "tokenizer") for run, ledger in ledgers.items()},
        "models": {run: fingerprint(ledger, "model") for run, ledger in ledgers.items()},
        "piece_bytes": PIECE_BYTES,
        "zlib_level": LEVEL,
        "bootstrap_draws": DRAWS,
        "no_depth": None if lack is None else lack.partition("\n")[0],
        "notes": list(notes),
    }


def _table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows with every column that the table stores."""
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
