"""What a night's refresh found: its numbers, benchmarks in its shards, verdicts, and what could not be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.nights.read import Number


@dataclass(frozen=True)
class BenchmarkFound:
    """Items of a benchmark, and how many of them tonight's shards hold; `examples`: keys of some."""

    name: str
    overlap: str
    n_items: int
    n_found: int
    max_items: int
    examples: tuple[str, ...] = ()

    @property
    def exceeds(self) -> bool:
        return self.n_found > self.max_items


@dataclass(frozen=True)
class Lack:
    """Something that was asked for and could not be refreshed, and why; the message says what to do."""

    what: str
    why: str


@dataclass(frozen=True)
class Refreshed:
    """`thresholds`: points of roll-ups that this and later nights are held against. `verdicts`: one a benchmark, as
    `assay contamination --format json` has them. `documents`, `rejects`, `tokens`, `reasons`: of the run."""

    numbers: tuple[Number, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    benchmarks: tuple[BenchmarkFound, ...] = ()
    verdicts: tuple[Mapping[str, Any], ...] = ()
    lacking: tuple[Lack, ...] = ()
    notes: tuple[str, ...] = ()
    documents: int = 0
    rejects: int = 0
    tokens: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
