"""What a nightly job is asked to measure, refresh and watch: the parts of its `nightly` block that come after scoring.

nightly:
  name: web
  scores: {families: [membership]}
  evaluation: {scores: [min_k], cluster: source}
  benchmarks:
    - {name: mmlu, input: ['mmlu/*.jsonl'], input_column: question, answer_column: answer}
  contamination: {benchmarks: [mmlu-run], clean: fresh-run}
  watch: {alpha: 0.01, tokenizer: true}
  fail_on: [changed, contaminated]
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import check_run_id
from schemas.overlaps import check_overlap

# What a summary may find. `fail_on` names those that end the command with exit code 3.
FindingId = Literal["changed", "contaminated", "incomplete", "rejects", "missed"]
FINDINGS: dict[FindingId, str] = {
    "changed": "a number is unlike the nights before, or its level changed or drifts, and no night before said so",
    "contaminated": "benchmark items in tonight's shards, or a verdict of contamination",
    "incomplete": "something that was asked for could not be refreshed",
    "rejects": "more records were rejected than `watch.max_rejects` allows",
    "missed": "nights before this one did not take place",
}

_Run = Annotated[str, AfterValidator(check_run_id)]
_Overlap = Annotated[str, AfterValidator(check_overlap)]
_Names = tuple[str, ...]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoresOptions(_Block):
    """Scores that are kept for each night's run, as `assay scores` does; their means are watched."""

    families: _Names = ()
    scores: _Names = ()
    references: tuple[_Run, ...] = ()


class EvaluationOptions(_Block):
    """`assay evaluate` of each night's run, where its documents have both labels; AUROCs are watched.

    `label`: SQL over `documents` that gives 1, 0 or NULL. `cluster`: `source`, `domain` or a kept column.
    """

    families: _Names = ()
    scores: _Names = ()
    references: tuple[_Run, ...] = ()
    label: str = "label"
    cluster: str | None = None


class BenchmarkOptions(_Block):
    """A benchmark that tonight's new shards are compared with, as `assay overlap` does.

    `max_items`: as many items may be found, by `rule`, before that is a finding.
    """

    name: _Overlap
    input: Annotated[_Names, Field(min_length=1)]
    input_column: str | None = None
    input_template: str | None = None
    answer_column: str | None = None
    id_column: str | None = None
    ngram: Annotated[int, Field(ge=1, le=100)] = 13
    rule: str = "share:0.8"
    max_items: Annotated[int, Field(ge=0)] = 0


class ContaminationStep(_Block):
    """`assay contamination` over runs of benchmarks that are in the lake, with everything that is there by tonight."""

    benchmarks: Annotated[tuple[_Run, ...], Field(min_length=1)]
    overlaps: tuple[_Overlap, ...] = ()
    clean: _Run | None = None
    clean_where: str | None = None
    scores: _Names = ()
    require: _Names = ()
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: Annotated[int, Field(ge=0)] = 0


class WatchOptions(_Block):
    """How nights are compared.

    alpha: chance of any finding of change in a night where nothing changes, all numbers taken together, where nights
    are independent of each other and scatter normally (else more: pipelines/nightly/NIGHTS.md).
    nights: at most so many nights before are looked at. domains: of a night, those with the most bytes, each watched.
    tokenizer: count tokens of one byte, which scans the column of their lengths. repeats: look for texts of earlier
    nights, of `repeats_nights` runs at most. draws: orders of nights drawn for p-values of changes.
    max_rejects: share of records above which rejects are a finding.
    """

    alpha: Annotated[float, Field(ge=0.0005, lt=0.5)] = 0.01
    nights: Annotated[int, Field(ge=10, le=2000)] = 365
    domains: Annotated[int, Field(ge=0, le=200)] = 20
    tokenizer: bool = True
    repeats: bool = True
    repeats_nights: Annotated[int, Field(ge=0, le=366)] = 30
    draws: Annotated[int, Field(ge=199, le=100_000)] = 1999
    seed: Annotated[int, Field(ge=0)] = 0
    max_rejects: Annotated[float, Field(ge=0, le=1)] = 0.1
