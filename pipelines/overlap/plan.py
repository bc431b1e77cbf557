"""Checks an overlap against the world it runs in: the files of both sides, the tokenizer, and what the lake has.

    job -> list both sides -> fingerprint the tokenizer -> compare with what the lake has of this name -> OverlapPlan

Everything that can be wrong is found here, before anything is read or a worker is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from operators.lake import Lake, overlap_job_path
from operators.shards import InputError
from pipelines import units
from pipelines.config import ConfigError, ScoreConfig
from pipelines.overlap.items import load_for_overlap
from pipelines.overlap.job import BENCHMARK, CORPUS, OverlapJob
from pipelines.overlap.record import Record, check_same, read_json, scratch_lake
from pipelines.plan import digest
from pipelines.previous import Listing, list_input

LAYOUT_VERSION = 1  # of receipts and of how units are cut: receipts of another one are of other units
_READING = ("text_column", "text_template", "id_column", "max_document_bytes")


@dataclass(frozen=True)
class OverlapPlan:
    """A validated job. `finished`: what the lake says of a finished overlap of this identity, None where there is none;
    `record`: what an earlier attempt left, None for a new overlap."""

    job: OverlapJob
    lake: Lake
    corpus: Listing
    benchmark: Listing
    identity: dict[str, Any]
    finished: dict[str, Any] | None
    record: Record | None

    @property
    def scratch(self) -> Lake:
        """The lake in the lake that holds the record."""
        return scratch_lake(self.lake, self.job.name)

    @property
    def index_digest(self) -> str:
        """What the index is made of, modification times included: files that were touched are read again."""
        parts = {name: value for name, value in self.identity.items() if not name.startswith(CORPUS)}
        return digest({**parts, "tags": [shard.tag for shard in self.benchmark.shards]})

    @property
    def n_bytes(self) -> int:
        """Stored bytes of the corpus (compressed where they are)."""
        return sum(shard.n_bytes for shard in self.corpus.shards)


def plan_overlap(job: OverlapJob, corpus: Listing | None = None) -> OverlapPlan:
    """Check a job, gathering every fault of its inputs and its tokenizer. `corpus`: these very files, instead of what
    the job names now: to look up each of a hundred thousand names in an object store takes an hour.

    Raises:
        ConfigError: a side that names nothing that can be read, or a tokenizer that is none.
        ResumeError: the lake has an overlap of this name that compares something else.
        ObjectError: the storage of the lake failed.
    """
    faults: list[str] = []
    corpus = _listing(job.corpus, CORPUS, faults) if corpus is None else corpus
    benchmark = _listing(job.benchmark, BENCHMARK, faults)
    fingerprint = _fingerprint(job, faults)
    if faults or corpus is None or benchmark is None:
        raise ConfigError("\n".join(faults))
    lake = Lake(job.corpus.lake, job.corpus.storage_options)
    identity = dict(_identity(job, corpus, benchmark, fingerprint))
    finished, record = (None, None) if job.overwrite else _previous(job, lake, identity, corpus, benchmark)
    return OverlapPlan(job, lake, corpus, benchmark, identity, finished, record)


def _listing(reading: ScoreConfig, side: str, faults: list[str]) -> Listing | None:
    try:
        return list_input(reading)
    except InputError as error:
        faults.append(f"--{side}: {error}")
        return None


def _fingerprint(job: OverlapJob, faults: list[str]) -> str | None:
    if job.tokenizer is None:
        return None
    try:
        return load_for_overlap(job.tokenizer).fingerprint
    except (ValueError, OSError) as error:
        faults.append(f"--tokenizer: {error}")
        return None


def _identity(
    job: OverlapJob, corpus: Listing, benchmark: Listing, fingerprint: str | None
) -> Iterator[tuple[str, Any]]:
    """What decides the tables."""
    for side, reading, listing in ((CORPUS, job.corpus, corpus), (BENCHMARK, job.benchmark, benchmark)):
        yield f"{side}_listing", listing.digest
        yield from ((f"{side}_{name}", getattr(reading, name)) for name in _READING)
    yield f"{BENCHMARK}_answer_column", job.answer_column
    yield from job.options.settings.items()
    yield "tokenizer_fingerprint", fingerprint
    yield "layout", [LAYOUT_VERSION, units.UNIT_BYTES, units.UNIT_FILES, units.PIECE_BYTES]


def _previous(
    job: OverlapJob, lake: Lake, identity: dict[str, Any], corpus: Listing, benchmark: Listing
) -> tuple[dict[str, Any] | None, Record | None]:
    """What the lake has of this name: a finished overlap, or the record of one under way."""
    scratch = scratch_lake(lake, job.name)
    finished, record = read_json(lake, overlap_job_path(job.name)), Record.read(scratch)
    if finished is not None:
        before = finished.get("identity") or {}
    elif record is not None:
        before = record.identity
    else:
        return None, None
    sides = {
        side: (None if finished else Listing.read(scratch, side), listing)
        for side, listing in ((CORPUS, corpus), (BENCHMARK, benchmark))
    }
    check_same(job.name, lake.root, before, identity, sides)
    return finished, record
