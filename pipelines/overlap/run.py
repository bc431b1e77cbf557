"""Finds a benchmark in a corpus: verbatim n-grams of its items, where they are, and what to cut out of the corpus.

    plan        everything checked before anything starts
    index       benchmark -> items -> index of their n-grams, once, brought to every node
    units       corpus -> units -> receipts: read -> match; workers write them, only rows of counts come back
    tables      receipts -> overlap_items, overlap_spans, decontamination, each whole; job.json last
    catalog     <lake>/lake.duckdb rebuilt; the record of the way goes

Killed at any moment it goes on from the receipts that are there: units are compared again or not at all, and what a
receipt holds is added up once, at the end.

Memory does not grow with the corpus. Measured on a million items of 30 words (322 MB, 18 million n-grams), inline: 0.3
GB while the index is made, 0.2 GB while blocks are compared, 0.5 GB while tables are written; beside that up to 1.1 GB
of the index is mapped from the disk, once a node, which the system takes back where it is short.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators.lake import overlap_job_path
from operators.overlap import BenchmarkIndex, OverlapError, Totals
from pipelines.catalog import refresh_catalog
from pipelines.causes import in_one_line
from pipelines.claims import StoredClaims
from pipelines.config import ConfigError
from pipelines.ledger import now
from pipelines.overlap.index import IndexPlace, drop_on_nodes
from pipelines.overlap.items import INDEX, benchmark_rejects, make_index
from pipelines.overlap.job import BENCHMARK, CORPUS
from pipelines.overlap.match import Matching, MatchStep
from pipelines.overlap.plan import OverlapPlan
from pipelines.overlap.record import Record, clear_temporaries, drop_progress, drop_tables, made_of_else, write_json
from pipelines.overlap.tables import Added, NothingReadError, write_tables
from pipelines.plan import digest, package_versions
from pipelines.previous import ResumeError
from pipelines.probe import dying_unit
from pipelines.progress import Counts, Progress, said
from pipelines.score import FIRST_PAUSE, MAX_STALLS, RunError, terminable
from pipelines.surveyors import InlineSurveyor, Surveyor, make_surveyor
from pipelines.work_left import WorkLeft

log = logging.getLogger(__name__)


def compare(plan: OverlapPlan) -> dict[str, Any]:
    """Run a plan to its end and return what `job.json` then says. One that is finished is returned as it is.

    Raises:
        ConfigError: the benchmark holds no item, or none with the answer asked for.
        ResumeError: the benchmark's items are no longer those of the earlier attempt.
        RunError: a worker failed, or no document of the corpus could be read.
    """
    name, lake = plan.job.name, plan.lake
    clear_temporaries(lake, name)
    if plan.finished is not None:
        if plan.record is not None:  # killed after the last write
            _leave(plan)
        else:
            drop_progress(lake, name)  # killed while the record went
        return plan.finished
    if plan.job.overwrite:
        drop_tables(lake, name)
    if plan.record is None:
        drop_progress(lake, name)  # and what no record speaks for
    record = plan.record or Record(plan.scratch, plan.identity)
    place = IndexPlace(plan.scratch, plan.index_digest)
    started = time.monotonic()
    try:
        try:
            said = _compare(plan, record, place, started)
        finally:
            place.drop()
    except (ConfigError, ResumeError, RunError) as error:
        if isinstance(error, NothingReadError):
            drop_progress(lake, name)
        raise
    except OverlapError as error:
        raise ConfigError(str(error)) from error
    except Exception as error:
        raise RunError(in_one_line(error)) from error
    _leave(plan)
    return said


def _leave(plan: OverlapPlan) -> None:
    """What is done once the job is written: the catalog, and the record goes."""
    refresh_catalog(plan.lake)
    drop_progress(plan.lake, plan.job.name)


def _compare(plan: OverlapPlan, record: Record, place: IndexPlace, started: float) -> dict[str, Any]:
    spent = record.seconds
    try:
        with _index(plan, record, place) as index:
            n_units = _match(plan, record, place)
            with tempfile.TemporaryDirectory(prefix="assay-overlap-") as folder:
                rejected = benchmark_rejects(place.folder)
                added = write_tables(
                    plan.lake, plan.scratch, plan.job.name, n_units, Totals(index), rejected, Path(folder)
                )
            said = _job(plan, index, added, n_units, len(rejected), spent + time.monotonic() - started)
    except BaseException:
        with contextlib.suppress(OSError):  # the storage may be what failed; the first error is the one to show
            record.seconds = spent + time.monotonic() - started
            if record.index is not None:
                record.write()
        raise
    write_json(plan.lake, overlap_job_path(plan.job.name), said)
    return said


@contextlib.contextmanager
def _index(plan: OverlapPlan, record: Record, place: IndexPlace) -> Iterator[BenchmarkIndex]:
    """The index of the benchmark, open in this process: of an earlier attempt, or made now."""
    make = place.download if place.is_stored() else (lambda to: make_index(plan.job, plan.benchmark, plan.scratch, to))
    folder = place.build(make)
    with BenchmarkIndex.open(folder / INDEX, verify=True) as index:
        if record.index not in (None, index.digest):
            changes = ["benchmark: other items than before: a file was rewritten, or this Python knows another Unicode"]
            raise made_of_else(plan.job.name, plan.lake.root, changes)
        if record.index is None:
            plan.corpus.write(plan.scratch, CORPUS)
            plan.benchmark.write(plan.scratch, BENCHMARK)
            record.index = index.digest
            record.write()
        if plan.job.corpus.engine != "inline":
            place.store()
        yield index


def _match(plan: OverlapPlan, record: Record, place: IndexPlace) -> int:
    """Compare the units that are left until none is; how many units there are."""
    job = plan.job
    with _surveyor(plan) as surveyor:
        options = job.corpus.storage_options
        step = MatchStep(job.read_options(CORPUS), job.options, place, options, surveyor.claims)
        matching = Matching(step, surveyor, plan.corpus, record)
        try:
            _until_done(plan, matching)
        finally:
            if job.corpus.engine != "inline":
                drop_on_nodes(place)
    return len(matching.units)


@contextlib.contextmanager
def _surveyor(plan: OverlapPlan) -> Iterator[Surveyor]:
    """What takes the steps over the units. The claims of the inline one are kept, for a process that dies with it."""
    reading = plan.job.corpus
    with terminable(), make_surveyor(reading.engine, reading.address) as surveyor, terminable():
        if not isinstance(surveyor, InlineSurveyor):
            yield surveyor
            return
        claims = surveyor.claims = StoredClaims(plan.scratch, CORPUS, digest(plan.identity))
        try:
            yield surveyor
        finally:
            claims.clear()


def _until_done(plan: OverlapPlan, matching: Matching) -> None:
    """Begin again where machinery failed, without files that kill their reader."""
    stalls = 0
    while True:
        done = len(matching.done)
        try:
            left = matching.left()
            if not left:
                return
            work = WorkLeft.of(left, records=plan.job.corpus.limit, measure="text_bytes")
            with Progress(work, counts=MatchCounts(), verb="comparing") as progress:
                matching.attempt(left, lambda row: progress({**row, "tokens": 0, "scored": 0, "is_last": True}))
        except Exception as error:
            if (unit := dying_unit(error)) is not None:
                matching.probe(unit)
                continue
            stalls = 0 if len(matching.done) > done else stalls + 1
            if stalls >= MAX_STALLS or not matching.surveyor.may_restart(error):
                raise
            log.warning("%s; starting again what is left", in_one_line(error))
            time.sleep(FIRST_PAUSE * 2**stalls)


@dataclass
class MatchCounts(Counts):
    """`hits`: documents with a match."""

    hits: int = 0

    def add(self, manifest: dict[str, Any]) -> None:
        super().add(manifest)
        self.hits += int(manifest["hit_documents"])

    def describe(self, left: float | None) -> str:
        rejects = f", {self.rejects:,} rejected" if self.rejects else ""
        rate = self.text_bytes / 1e6 / max(self.seconds, 1e-9)
        return f"{self.documents:,} documents{rejects}, {self.hits:,} with a match, {rate:,.1f} MB/s{said(left)}"


def _job(
    plan: OverlapPlan, index: BenchmarkIndex, added: Added, n_units: int, n_rejected: int, seconds: float
) -> dict[str, Any]:
    """What is kept of the job beside its tables."""
    job = plan.job
    return {
        "overlap": job.name,
        "state": "finished",
        "finished_at": now(),
        "seconds": seconds,
        "assay_version": package_versions()["corpus-assay"],
        "versions": package_versions(),
        "identity": plan.identity,
        "index_digest": index.digest,
        "options": job.options.settings,
        "corpus": {"input": list(job.corpus.input), "limit": job.corpus.limit, "engine": job.corpus.engine},
        "benchmark": {"input": list(job.benchmark.input), "answer_column": job.answer_column},
        "totals": {
            "items": index.n_items,
            "items_rejected": n_rejected,
            "items_without_ngrams": index.n_short,
            "ngrams": index.n_grams,
            "units": n_units,
            **{name: int(n) for name, n in sorted(added.counts.items())},
        },
        "rejects": {CORPUS: added.corpus.to_json(), BENCHMARK: added.benchmark.to_json()},
    }
