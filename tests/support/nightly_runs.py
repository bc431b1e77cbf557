"""A nightly job over a folder of small JSONL shards, run in this process; what follows scoring is counted, not done.

corpus = Corpus(folder)
corpus.put("a", 0, 4)                       four documents, from the first text on
nightly(lake, model, corpus).run(FIRST)
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import runs
import small

from jobs.nightly.options import NightlyOptions
from jobs.nightly.run import Nightly, Outcome
from operators.lake import Lake
from operators.shards import Shard
from pipelines.nightly.night import STATES, Night

NAME = "web"
FIRST = date(2026, 11, 1)


@dataclass
class Corpus:
    """Shards of records with ids; every write is a moment later than the one before."""

    folder: Path
    tick: int = 1_700_000_000

    def put(self, shard: str, first: int, n: int = 2) -> str:
        """Write a shard with records `first` to `first + n - 1`."""
        texts = small.stdlib_texts(120)
        lines = [{"id": f"id-{i}", "text": texts[i % len(texts)]} for i in range(first, first + n)]
        path = self.folder / f"{shard}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.tick += 10
        os.utime(path, (self.tick, self.tick))
        return str(path)

    def drop(self, shard: str) -> None:
        (self.folder / f"{shard}.jsonl").unlink()


def three_shards(folder: Path) -> Corpus:
    """Records 0 to 5; the name of one shard would match another's as a glob."""
    made = Corpus(folder)
    for first, shard in ((0, "a"), (2, "b [0-9]*"), (4, "b 5")):
        made.put(shard, first)
    return made


@dataclass(frozen=True)
class PlainSummary:
    """A summary of nothing but what it was given."""

    content: Mapping[str, Any]
    exit_code: int = 0

    def json(self) -> dict[str, Any]:
        return dict(self.content)

    def html(self) -> str:
        return "<!doctype html><title>night</title>"

    def markdown(self) -> str:
        return f"# night {self.content['night_of']}"


@dataclass
class Steps:
    """Stands for what follows scoring; notes each call. `failing`: raised once by the step named."""

    refreshed: list[str] = field(default_factory=list)
    summed: list[str] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    exit_code: int = 0

    def refresh(self, options: Any, lake: Lake, night: Night, *, shards: list[Shard], **_: Any) -> dict[str, Any]:
        if error := self.failing.pop("refresh", None):
            raise error
        self.refreshed.append(night.date.isoformat())
        return {"shards": sorted(Path(shard.uri).stem for shard in shards)}

    def summarise(self, options: Any, lake: Lake, night: Night, refreshed: dict[str, Any]) -> PlainSummary:
        if error := self.failing.pop("summarise", None):
            raise error
        self.summed.append(night.date.isoformat())
        return PlainSummary({"night_of": night.date.isoformat(), **refreshed}, self.exit_code)


def states(outcome: Outcome) -> dict[str, int]:
    """How many shards a night found in each state that there were any in."""
    found: dict[str, int] = outcome.summary["night"]["shards"]
    assert set(found) == set(STATES)
    return {state: n for state, n in found.items() if n}


def keys(lake: Path, run: str) -> list[str]:
    """The keys of a run's documents, sorted."""
    return sorted(runs.rows(lake, "documents", run)["key"].to_pylist())


def ids(*numbers: int) -> list[str]:
    return sorted(f"id-{n}" for n in numbers)


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def fields(lake: Path | str, model: Path, corpus: Corpus | str, **more: Any) -> dict[str, Any]:
    """The fields of scoring."""
    inputs = corpus if isinstance(corpus, str) else str(corpus.folder)
    return {
        "model": str(model), "input": [inputs], "lake": str(lake), "engine": "inline", "context": 64,
        "id_column": "id", **more,
    }  # fmt: skip


def nightly(
    lake: Path | str, model: Path, corpus: Corpus | str, steps: Steps | None = None, *, also: Any = None, **options: Any
) -> Nightly:
    """`also`: more fields of scoring; `options`: of the nightly block."""
    steps = steps or Steps()
    asked = NightlyOptions(**{"name": NAME, "settle_seconds": 0, "lease_seconds": 30, **options})
    asked_fields = fields(lake, model, corpus, **(also or {}))
    return Nightly(asked, asked_fields, say=lambda _: None, refresh=steps.refresh, summarise=steps.summarise)
