"""Scores a corpus: `read -> tokenize -> score -> write`, with a ledger that says what happened and lets a run resume.

plan      everything checked before anything starts
ledger    <lake>/runs/<run_id>.json: state "running" before the first block
survey    rows of cut files and repeated ids, where there are any (`survey`)
engine    inline or ray; workers write parts, only one-row manifests come back, into the journal
settle    the lake holds what the journal names and nothing else of this run; what is missing is done again
ledger    totals; state "finished", "interrupted" or "failed"
catalog   <lake>/lake.duckdb rebuilt
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import PART_TABLES, Part
from operators.storage.remote import redact
from pipelines.catalog import refresh_catalog
from pipelines.causes import in_one_line
from pipelines.config import ConfigError
from pipelines.engines import Engine, make_engine
from pipelines.journal import Journal
from pipelines.ledger import fix_layout, now, opening_ledger
from pipelines.logs import Sayer, log_place
from pipelines.meters import RunMeter
from pipelines.plan import Plan
from pipelines.probe import dying_unit
from pipelines.progress import Counts, Progress
from pipelines.steps import SCORER_METADATA, Task
from pipelines.work import Work
from pipelines.work_left import WorkLeft

log = logging.getLogger(__name__)

MAX_STALLS = 3  # rounds in a row that bring no block
FIRST_PAUSE = 2.0  # seconds before the machinery is started again; doubles with every stall


class RunError(RuntimeError):
    """A run stopped before its end; the lake holds what was done, and the same command resumes it."""


def score_corpus(
    plan: Plan, engine: AbstractContextManager[Engine] | None = None, journal: Journal | None = None
) -> dict[str, Any]:
    """Run a plan to its end and return the ledger. A run that is already finished is returned as it is.

    `engine`, `journal`: others than the plan's own, for a simulation.

    Raises:
        RunError: a worker failed, too many records were rejected, or records were lost between reading and writing.
        KeyboardInterrupt: after the ledger says "interrupted".
    """
    lake, run_id = plan.lake, plan.config.run_id
    journal = Journal.open(lake, run_id) if journal is None else journal
    if plan.finished and _is_whole(plan, journal):
        return plan.previous or {}
    ledger = opening_ledger(plan)
    started = time.monotonic()
    spent = ledger["seconds"] = ledger["seconds"] + _uncounted(plan, journal)
    begun = False  # before that nothing in the lake may change: the cluster may not be there at all
    try:
        with log_place(run=run_id), terminable():
            with engine or make_engine(plan) as working, terminable():
                begun = True
                _begin(plan, working, ledger, journal)
                _score(plan, working, ledger, journal)
            with terminable():  # without the engine: over very many parts this takes long, and needs no worker
                totals = _settle(plan, journal)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        ledger |= {"state": "interrupted" if interrupted else "failed", "seconds": spent + time.monotonic() - started}
        ledger |= {"error": None if interrupted else redact(in_one_line(error))}
        with contextlib.suppress(OSError):  # the storage may be what failed; the first error is the one to show
            if begun:
                journal.flush()
                lake.write_run(run_id, ledger)
        if interrupted or isinstance(error, RunError | ConfigError) or not isinstance(error, Exception):
            raise
        raise RunError(in_one_line(error)) from error
    ledger |= {"totals": totals, "seconds": spent + time.monotonic() - started}
    ledger |= {"state": "finished", "finished_at": now()}
    lake.write_run(run_id, ledger)
    refresh_catalog(plan.lake)
    return ledger


def _uncounted(plan: Plan, journal: Journal) -> float:
    """Seconds of an attempt that was killed before it could write how long it took: until its last block."""
    previous = plan.previous or {}
    began = (previous.get("attempt") or {}).get("started_at")
    if previous.get("state") != "running" or not began:
        return 0.0
    last = pc.max(journal.rows()["at"]).as_py()
    return 0.0 if last is None else max(0.0, (last - datetime.fromisoformat(began)).total_seconds())


def _is_whole(plan: Plan, journal: Journal) -> bool:
    """Whether the lake still lists every part of a finished run."""
    units = ((plan.previous or {}).get("survey") or {}).get("units")
    whole = len(journal.done().finished) == units
    if not whole:
        log.warning("run %s is finished, but parts of it are gone: they are made again", plan.config.run_id)
    return whole


def _begin(plan: Plan, engine: Engine, ledger: dict[str, Any], journal: Journal) -> None:
    """Say that the run is under way, and drop a journal that does not belong to it."""
    if plan.config.overwrite:
        plan.lake.remove_run(plan.config.run_id)
    resources = engine.resources
    ledger |= {"attempt": {"started_at": now(), "workers": resources.actors}}
    if not fix_layout(plan, ledger, workers=resources.most_actors, on_gpu=resources.gpus > 0):
        journal.clear()
        plan.listing.write(plan.lake, plan.config.run_id)
    journal.forget_lost()
    plan.lake.write_run(plan.config.run_id, ledger)


def _score(plan: Plan, engine: Engine, ledger: dict[str, Any], journal: Journal) -> None:
    """Do what is left until nothing is."""
    work = Work.of(plan, engine, ledger)
    stalls = 0
    while True:
        done = len(journal)
        failure: Exception | None = None
        try:
            tasks = work.left(journal)
            if not tasks:
                return
            _attempt(plan, engine, ledger, journal, tasks)
        except Exception as error:
            if (unit := dying_unit(error)) is not None:
                work.probe(journal, unit)
                continue
            if not engine.may_restart(error):
                raise
            failure = error
        journal.forget_lost()
        stalls = 0 if len(journal) > done else stalls + 1
        if stalls >= MAX_STALLS:
            raise failure or RunError("parts vanish as they are written: does something else clean this lake?")
        if failure is not None:
            log.warning("%s; starting again what is left", in_one_line(failure))
            time.sleep(FIRST_PAUSE * 2**stalls)


def _attempt(plan: Plan, engine: Engine, ledger: dict[str, Any], journal: Journal, tasks: Sequence[Task]) -> None:
    before, meter = journal.known().counts, RunMeter.start(plan.config.run_id)
    try:
        blocks = engine.score(tasks, ledger["layout"]["block_bytes"])
        with _progress(plan, engine, journal, tasks, before) as progress, closing(blocks) as manifests:
            for row in _rows(manifests, ledger):
                journal.add(row)
                progress(row)
                meter.observe(row, progress.share, progress.left)
                _check_rejects(plan, before, progress.counts, finished=False)
    finally:
        meter.finish()
        journal.flush()


def _progress(plan: Plan, engine: Engine, journal: Journal, tasks: Sequence[Task], before: dict[str, int]) -> Progress:
    limit = plan.config.limit
    records = None if limit is None else limit - before["rows_in"]
    work = WorkLeft.of([task.unit for task in tasks], shares=journal.shares(), records=records)
    return Progress(work, workers=engine.resources.actors)


def _rows(manifests: Iterable[pa.Table], ledger: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of manifests. What workers warned of is said, what they found out about the model kept."""
    facts: dict[str, Any] = {}
    has_warned, say = False, Sayer()
    for manifest in manifests:
        say(manifest)
        metadata = manifest.schema.metadata or {}
        if SCORER_METADATA in metadata and not facts:
            facts = json.loads(metadata[SCORER_METADATA])
            ledger["model"] |= facts
        for row in manifest.to_pylist():
            if row["unlexed"] and not has_warned:  # a column that names no language would be found out too late
                has_warned = True
                log.warning(
                    "comments of %d of %d documents in a block cannot be told: their language is unknown, or they are "
                    "too long or too slow to lex; in_comment is NULL there, and documents.comment_tokens",
                    row["unlexed"],
                    row["documents"],
                )
            yield row


def _check_rejects(plan: Plan, before: dict[str, int], counts: Counts | None, *, finished: bool) -> None:
    limit = plan.config.reject_limit
    if limit is None:
        return
    found = {
        name: before[name] + (getattr(counts, name) if counts else 0) for name in ("rejects", "rows_in", "unreadable")
    }
    # A prefix's documents are left out on purpose: by the end these are all of them, before it some, or none yet.
    found["rejects"] = max(0, found["rejects"] - len(plan.prefix.keys if plan.prefix else ()))
    files = len(plan.listing.shards)
    if not limit.allows_files(found["unreadable"], files):
        what = f"{found['unreadable']:,} of {files:,} files could not be read to their end"
    elif not limit.allows(found["rejects"], found["rows_in"], finished=finished):
        what = f"{found['rejects']:,} of {found['rows_in']:,} records were rejected"
    else:
        return
    raise RunError(
        f"{what}, more than --max-rejects {limit} allows; "
        f'`assay sql {plan.lake.root} "select reason, detail, count(*) from rejects group by all"` shows why. '
        "The same command with a higher --max-rejects goes on"
    )


def _settle(plan: Plan, journal: Journal) -> dict[str, int]:
    """Drop every part of this run that the journal does not name, check the counts, and return the totals.

    Such parts are what a killed attempt left without a receipt, or wrote of a block that came out otherwise later.
    """
    lake, run_id = plan.lake, plan.config.run_id
    listed = journal.list_parts()
    totals = journal.done(listed).counts
    if totals != journal.known().counts:
        raise RunError(
            "parts that were there a moment ago are gone: does something else clean this lake? "
            "The same command makes them again"
        )
    if totals["rows_in"] != totals["documents"] + totals["rejects"]:
        raise RunError(
            f"{totals['rows_in']:,} records were read, but the lake holds {totals['documents']:,} documents and "
            f"{totals['rejects']:,} rejects: run `assay verify`, and report this as a defect"
        )
    for table in PART_TABLES:  # receipts first: a tokens part without one counts for nothing
        lake.delete(Part(table, run_id, name).path for name in journal.strays(table, listed[table]))
    if lake.storage.is_local:
        lake.delete(lake.temporaries(run_id))
    repeated = lake.repeated_documents(run_id)
    if repeated:
        raise RunError(
            f"{repeated:,} documents share a doc_id with another: a 63-bit hash of their keys collided. Give the "
            "records ids with --id-column, which are compared before scoring, and another --run-id"
        )
    _check_rejects(plan, totals, None, finished=True)
    return {name: count for name, count in totals.items() if name != "unreadable"}


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, with which schedulers take a machine back, ends a run as Ctrl-C does. Ray sets a handler of its own when
    it starts, so this is entered before and after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
