"""`assay contamination`: is a benchmark in what a model was trained on? One verdict each, from all evidence there is.

    benchmarks --> sets of items --> evidence of each (`gather`) --> Holm over all p-values --> verdicts --> report

Exit code 3 where a verdict is one that `fail_on` names; other errors end as in every verb.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.contamination.gather import Gatherer
from jobs.contamination.request import FAIL_ON, ContaminationOptions
from jobs.contamination.sets import Sets, read_sets
from jobs.dataset_inference import HeldOut, about_runs
from jobs.query import check_lake, check_run
from operators.contamination.evidence import EXCHANGEABILITY, NO_EVIDENCE
from operators.contamination.verdict import Verdict, judge, n_tests
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.scores.companions import FINISHED, Run, read_runs
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

FAILED = 3  # exit code of a gate that closes


@dataclass(frozen=True)
class Report:
    """What was found. `sets` and `verdicts` are in the order of the benchmarks; `tests`: p-values corrected for each
    other; `notes` start with `warning` or `note`."""

    options: ContaminationOptions
    sets: tuple[Sets, ...]
    verdicts: tuple[Verdict, ...]
    tests: int
    notes: tuple[str, ...]

    @property
    def has_failed(self) -> bool:
        """Whether an outcome is one that the caller wants to fail on."""
        closing = FAIL_ON[self.options.fail_on] if self.options.fail_on else ()
        return any(verdict.outcome in closing for verdict in self.verdicts)


def run_contamination(options: ContaminationOptions, fmt: str | None, output: Path | None) -> int:
    """Judge, print or write the report, and return the exit code: 0, or 3 where the gate closes.

    Raises:
        ConfigError, QueryError, ScoreError: as `contamination`.
    """
    from jobs.contamination.report import choose, show

    chosen = choose(fmt, output)
    report = contamination(options)
    show(report, chosen, output)
    return FAILED if report.has_failed else 0


def contamination(options: ContaminationOptions) -> Report:
    """The verdict on every benchmark.

    Raises:
        ConfigError: no such lake, run or overlap; a set is empty or both hold the same text; runs of two models; or a
            run that is a transformed one.
        QueryError: the condition failed.
    """
    check_lake(options.lake, options.storage_options)
    clean = () if options.clean is None else (options.clean,)
    for run_id in (*options.benchmarks, *clean):
        check_run(options.lake, run_id, options.storage_options)
    lake = Lake(options.lake, options.storage_options)
    with reading(options.lake, options.storage_options) as connection:
        runs = read_runs(connection)
        notes = [*_about_runs(connection, options, runs)]
        sets, evidence, clean_run = [], {}, HeldOut()
        for benchmark in options.benchmarks:
            ledger = lake.read_run(benchmark)
            notes += _about_rejects(benchmark, ledger)
            sets.append(read_sets(connection, options, benchmark))
            notes += sets[-1].notes()
            config = ledger.get("config")
            own = config if isinstance(config, dict) else {}
            gatherer = Gatherer(options, connection, runs, sets[-1], own, clean_run)
            evidence[benchmark] = gatherer.evidence()
            notes += gatherer.notes
    tests, verdicts = n_tests(evidence), judge(evidence, alpha=options.alpha, require=options.require)
    notes += _about_resolution(verdicts, tests, options.alpha)
    return Report(options, tuple(sets), verdicts, tests, tuple(dict.fromkeys(notes)))


def _about_runs(
    connection: duckdb.DuckDBPyConnection, options: ContaminationOptions, runs: Mapping[str, Run]
) -> Iterator[str]:
    """Warnings about the runs named.

    Raises:
        ConfigError: one was transformed, or the clean one is of another model.
    """
    for flag, name in (*(("--benchmark", name) for name in options.benchmarks), ("--clean", options.clean)):
        if name is not None and runs[name].base_run is not None:
            raise ConfigError(f"{flag} {name}: it is a transformed run; name the run that it came from")
    for benchmark in options.benchmarks:
        if options.clean is not None:
            yield from about_runs(connection, benchmark, options.clean)
        elif runs[benchmark].state != FINISHED:
            yield (
                f"warning: run {benchmark} is {runs[benchmark].state}: only what is scored so far is in these numbers"
            )


def _about_rejects(benchmark: str, ledger: Mapping[str, Any]) -> Iterator[str]:
    totals = ledger.get("totals")
    rejects = totals.get("rejects") if isinstance(totals, dict) else None
    if rejects:
        yield f"note: {rejects:,} records of {benchmark} were rejected when it was scored, and are not judged"


def _about_resolution(verdicts: Sequence[Verdict], tests: int, alpha: float) -> Iterator[str]:
    """Where a permutation test found what it can at most, and the correction leaves nothing of it."""
    for row in (row for verdict in verdicts for row in verdict.evidence):
        is_least = row.resolution is not None and row.p_value == row.resolution
        if row.kind == EXCHANGEABILITY and row.verdict == NO_EVIDENCE and is_least:
            yield (
                f"warning: no drawn order does better in {row.test}, but of so few p cannot fall below "
                f"{row.resolution:.2g}, too much among {tests} tests: draw {math.ceil(tests / alpha):,} or more "
                "(--permutations)"
            )
