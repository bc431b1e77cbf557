"""Scores a corpus: `read -> tokenize -> score -> write`, with a ledger that says what happened and lets a run resume.

plan      everything checked before anything starts
ledger    <lake>/runs/<run_id>.json: state "running" before the first block
engine    ray or inline; workers write parts, only one-row manifests come back
ledger    totals from the receipts themselves; state "finished", "interrupted" or "failed"
catalog   <lake>/lake.duckdb rebuilt
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipelines.engines import ENGINES
from pipelines.plan import Plan, digest, package_versions
from pipelines.progress import Counts, Progress
from pipelines.steps import SCORER_METADATA

log = logging.getLogger(__name__)

_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit): ")  # how a traceback in text ends


class RunError(RuntimeError):
    """A run stopped before its end; the lake holds what was done, and the same command resumes it."""


def score_corpus(plan: Plan) -> dict[str, Any]:
    """Run a plan to its end and return the ledger. A run that is already finished is returned as it is.

    Raises:
        RunError: a worker failed, or records were lost between reading and writing.
        KeyboardInterrupt: after the ledger says "interrupted".
    """
    if plan.finished:
        return plan.previous or {}
    run_id = plan.config.run_id
    plan.lake.drop_orphans(run_id)
    before = plan.lake.totals(run_id) if plan.previous else {}
    ledger = _opening_ledger(plan)
    plan.lake.write_run(run_id, ledger)
    started = time.monotonic()
    spent = float(ledger.get("seconds") or 0.0)
    try:
        with Progress(_share(plan, before)) as progress, closing(ENGINES[plan.config.engine](plan)) as manifests:
            _follow(manifests, progress, ledger, warn=plan.config.engine != "inline")
        totals = _totals(plan, before, progress.counts)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        ledger |= {"state": "interrupted" if interrupted else "failed", "seconds": spent + time.monotonic() - started}
        plan.lake.write_run(run_id, ledger)
        if interrupted or isinstance(error, RunError) or not isinstance(error, Exception):
            raise
        raise RunError(_cause(error)) from error
    ledger |= {"totals": totals, "seconds": spent + time.monotonic() - started}
    ledger |= {"state": "finished", "finished_at": _now()}
    plan.lake.write_run(run_id, ledger)
    _refresh_catalog(plan)
    return ledger


def _follow(manifests: Iterable[pa.Table], progress: Progress, ledger: dict[str, Any], *, warn: bool) -> None:
    """`warn`: say what workers found out about the model; an operator in this process has said it already."""
    for manifest in manifests:
        metadata = manifest.schema.metadata or {}
        if SCORER_METADATA in metadata and "device" not in ledger["model"]:
            facts = json.loads(metadata[SCORER_METADATA])
            ledger["model"] |= facts
            if warn:
                _warn(facts)
        for row in manifest.to_pylist():
            progress(row)


def _warn(facts: dict[str, Any]) -> None:
    if not facts["packed"]:
        log.warning("this model's segments cannot be packed: they run one at a time, exact but slower")
    if not facts["separate"]:
        log.warning(
            "this model's head cannot be separated: its own logits are taken, rounded as it rounds them, slowly"
        )


def _opening_ledger(plan: Plan) -> dict[str, Any]:
    previous = plan.previous or {}
    config = plan.config
    effective = {**config.public(), "context": plan.windows.context, "stride": plan.windows.stride}
    return {
        "run_id": config.run_id,
        "state": "running",
        "created_at": previous.get("created_at") or _now(),
        "finished_at": None,
        "seconds": previous.get("seconds") or 0.0,
        "assay_version": package_versions()["corpus-assay"],
        "versions": package_versions(),
        "identity": plan.identity,
        "config_digest": digest(plan.identity),
        "config": {**effective, "transform": None, "base_run": None},
        "model": {**plan.model_facts},
        "tokenizer": {**plan.tokenizer_facts},
        "totals": None,
    }


def _totals(plan: Plan, before: dict[str, int], counts: Counts) -> dict[str, int]:
    """Totals from the receipts, checked against what the readers counted."""
    totals = plan.lake.totals(plan.config.run_id)
    repeated = plan.lake.repeated_documents(plan.config.run_id)
    if repeated:
        raise RunError(
            f"{repeated:,} documents of different shards share an id with another: ids must be unique in the whole "
            "input. Give another --id-column (or none) and another --run-id; this run does not verify"
        )
    rows_in = before.get("documents", 0) + before.get("rejects", 0) + counts.rows_in
    if rows_in != totals["documents"] + totals["rejects"]:
        raise RunError(
            f"{rows_in:,} records were read, but the lake holds {totals['documents']:,} documents and "
            f"{totals['rejects']:,} rejects: run `assay verify`, and report this as a defect"
        )
    return {**totals, "rows_in": rows_in}


def _share(plan: Plan, before: dict[str, int]) -> Any:
    """Share of the input done, by bytes of text against stored bytes; unknown where files are compressed."""
    packed = any(s.shard.format == "parquet" or s.shard.uri.endswith((".gz", ".zst")) for s in plan.sources)

    def share(counts: Counts) -> float | None:
        if plan.config.limit is not None:
            return min(0.99, (counts.documents + counts.rejects) / plan.config.limit)
        if packed:
            return None
        total = plan.n_bytes - before.get("text_bytes", 0)
        return min(0.99, counts.text_bytes / total) if total > 0 else None

    return share


def _refresh_catalog(plan: Plan) -> None:
    from operators.catalog import write_catalog

    write_catalog(plan.lake.root, plan.lake.storage_options)


def _cause(error: BaseException) -> str:
    """What a worker raised, in one line: Ray wraps it several times over, and hangs an empty SystemException on it."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "cause", None) or cause.__cause__, BaseException):
        if inner is cause or not str(inner).strip():
            break
        cause = inner
    lines = str(cause).strip().splitlines() or [""]
    said = next((line for line in reversed(lines) if _RAISED.match(line)), lines[0]).strip()
    said = re.sub(r"^[\w.]*\.(?=\w+: )", "", said)  # the class without its module
    return said if _RAISED.match(said) else f"{type(cause).__name__}: {said}".rstrip(": ")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
