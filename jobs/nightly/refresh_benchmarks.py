"""Benchmarks and a night: which of their items tonight's shards hold, and the verdicts on runs of them.

tonight's shards, benchmark -> `assay overlap`, kept as <night>-<benchmark> -> items over the rule
runs of benchmarks          -> `assay contamination` with everything that the lake holds by now
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from jobs.nightly.refreshed import BenchmarkFound
from jobs.nightly.watch import BenchmarkOptions
from operators.contamination.overlap import parse_rule
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.nights.estimate import counted_share
from operators.nights.measures import OVERLAP_ITEMS
from operators.nights.read import Number
from operators.shards import Shard
from pipelines.config import ConfigError
from pipelines.nightly.night import night_id
from schemas.nights import BENCHMARK

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from pipelines.nightly.night import Night

_EXAMPLES = 5
# Fields of a job's scoring that say how its files are read, by the flag of `assay overlap`.
_READ = {
    "format": "corpus_format",
    "text_column": "corpus_text_column",
    "text_template": "corpus_text_template",
    "id_column": "corpus_id_column",
    "max_document_bytes": "max_document_bytes",
}

_FOUND = """
select key, case when $share::double is null then n_seen > 0 else share_seen >= $share::double end as is_found
from overlap_items
where overlap = $overlap and part = 'all' and n_ngrams > 0
order by coalesce(share_seen, 0) desc, key
"""


def benchmarks_found(
    options: NightlyOptions,
    benchmark: BenchmarkOptions,
    lake: Lake,
    night: Night,
    engine: Mapping[str, Any],
    text: Mapping[str, Any],
    shards: Sequence[Shard],
) -> BenchmarkFound | None:
    """Compare tonight's shards with a benchmark; one that is finished is read. None where there are no shards.

    Items without an n-gram cannot be found and are not counted. What an attempt saw that died is compared again where
    it has changed.

    Raises:
        ConfigError, ResumeError: the benchmark cannot be read as asked, or changes meanwhile; or no shard can be read.
        RunError, OSError: the comparison failed.
    """
    from jobs.overlap.run import overlap_job
    from pipelines.overlap.plan import plan_overlap
    from pipelines.overlap.run import compare
    from pipelines.overlap.tables import NothingReadError
    from pipelines.previous import Listing, ResumeError

    if not shards:
        return None
    name = overlap_name(options, night.date, benchmark)
    flags: dict[str, Any] = {
        "name": name,
        "lake": lake.root,
        "storage_options": lake.storage_options,
        "corpus": tuple(shard.uri for shard in shards),
        "benchmark": benchmark.input,
        "input_column": benchmark.input_column,
        "input_template": benchmark.input_template,
        "answer_column": benchmark.answer_column,
        "id_column": benchmark.id_column,
        "ngram": benchmark.ngram,
        **engine,
        **{flag: text[field] for field, flag in _READ.items() if field in text},
    }
    given = {flag: value for flag, value in flags.items() if value is not None}
    corpus = Listing(tuple(shards))
    try:
        plan = plan_overlap(overlap_job(given), corpus)
    except ResumeError:  # shards or benchmark are not what they were at an attempt that died, or was given up
        plan = plan_overlap(overlap_job({**given, "overwrite": name}), corpus)
    try:
        compare(plan)
    except NothingReadError as error:  # no attempt will fare better: the night goes on without
        raise ConfigError(str(error)) from error
    share = parse_rule(benchmark.rule).share
    with reading(lake.root, lake.storage_options) as connection:
        rows = connection.execute(_FOUND, {"overlap": name, "share": share}).fetchall()
    found = [key for key, is_found in rows if is_found]
    return BenchmarkFound(benchmark.name, name, len(rows), len(found), benchmark.max_items, tuple(found[:_EXAMPLES]))


def overlap_name(options: NightlyOptions, day: date, benchmark: BenchmarkOptions) -> str:
    """What the comparison of a night's shards with a benchmark is kept as."""
    return f"{night_id(options.name, day)}-{benchmark.name}"


def forget_benchmarks(options: NightlyOptions, lake: Lake, day: date) -> None:
    """Drop what a night that is given up has compared, or begun to."""
    from pipelines.overlap.record import clear_temporaries, drop_progress, drop_tables

    for benchmark in options.benchmarks:
        name = overlap_name(options, day, benchmark)
        clear_temporaries(lake, name)
        drop_tables(lake, name)
        drop_progress(lake, name)


def overlap_number(found: BenchmarkFound) -> Number | None:
    """The share of a benchmark's items that were found; None of a benchmark without items."""
    estimate = counted_share(found.n_found, found.n_items)
    return None if estimate is None else Number(OVERLAP_ITEMS, BENCHMARK, found.name, "share", estimate)


def verdicts(options: NightlyOptions, lake: Lake) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """The verdicts on the benchmarks asked for, as JSON has them, and notes.

    Raises:
        ConfigError, QueryError, ScoreError: as `jobs.contamination.run.contamination`.
    """
    from jobs.contamination.report import as_json
    from jobs.contamination.request import ContaminationOptions
    from jobs.contamination.run import contamination

    asked = options.contamination
    if asked is None:
        return (), ()
    request = ContaminationOptions(
        lake.root, asked.benchmarks, overlaps=asked.overlaps, clean=asked.clean, clean_where=asked.clean_where,
        alpha=asked.alpha, require=asked.require, scores=asked.scores, seed=asked.seed,
        storage_options=lake.storage_options,
    )  # fmt: skip
    found = as_json(contamination(request))
    return tuple(found["benchmarks"]), tuple(found["notes"])
