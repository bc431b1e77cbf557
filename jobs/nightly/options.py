"""What a nightly job is asked for beyond its scoring: the `nightly` block of a job file.

nightly:
  name: web                                # this and what follows: `pipelines.nightly.options`
  timezone: Europe/Berlin
  settle_seconds: 900
  retention: {nights: 30}
  scores: {families: [membership]}         # and the rest of what `jobs.nightly.watch` describes
  fail_on: [changed, contaminated]
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator

from jobs.nightly.watch import (
    BenchmarkOptions,
    ContaminationStep,
    EvaluationOptions,
    FindingId,
    ScoresOptions,
    WatchOptions,
)
from pipelines.nightly.options import NightOptions


def _named_once(benchmarks: tuple[BenchmarkOptions, ...]) -> tuple[BenchmarkOptions, ...]:
    for name, times in Counter(each.name for each in benchmarks).items():
        if times > 1:
            raise ValueError(f"{times} benchmarks are called {name!r}: their numbers could not be told apart")
    return benchmarks


class NightlyOptions(NightOptions):
    """The fields of `nightly`: those of a night, and what is measured of each and watched."""

    scores: ScoresOptions | None = None
    evaluation: EvaluationOptions | None = None
    benchmarks: Annotated[tuple[BenchmarkOptions, ...], AfterValidator(_named_once)] = ()
    contamination: ContaminationStep | None = None
    watch: WatchOptions = WatchOptions()
    fail_on: tuple[FindingId, ...] = ()
