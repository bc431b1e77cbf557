"""A run's ledger, `<lake>/runs/<run_id>.json`: what the run is made of, how its blocks are cut, and how it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipelines import units
from pipelines.plan import Plan, digest, package_versions

LAYOUT_VERSION = 1  # of how units and blocks are cut; a journal of another one names other blocks


def opening_ledger(plan: Plan) -> dict[str, Any]:
    """The ledger with which an attempt begins: of a resumed run, with what earlier attempts found out."""
    previous = plan.previous or {}
    config = plan.config
    effective = {**config.public(), "context": plan.windows.context, "stride": plan.windows.stride}
    return {
        "run_id": config.run_id,
        "state": "running",
        "created_at": previous.get("created_at") or now(),
        "finished_at": None,
        "error": None,
        "seconds": previous.get("seconds") or 0.0,
        "assay_version": package_versions()["corpus-assay"],
        "versions": package_versions(),
        "identity": plan.identity,
        "config_digest": digest(plan.identity),
        "config": effective,
        "prefix": _prefix(plan),
        "model": {**(previous.get("model") or {}), **plan.model_facts},
        "tokenizer": {**plan.tokenizer_facts},
        "layout": previous.get("layout"),
        "survey": previous.get("survey"),
        "dying": previous.get("dying"),
        "totals": None,
    }


def _prefix(plan: Plan) -> dict[str, Any] | None:
    """What is fed before every window, whose it is, and how many tokens of a document a window has left."""
    if plan.prefix is None:
        return None
    windows = plan.document_windows
    return {
        **plan.prefix.identity,
        "keys": list(plan.prefix.keys),
        "token_ids": list(plan.prefix.token_ids),
        "context": windows.context,
        "stride": windows.stride,
    }


def fix_layout(plan: Plan, ledger: dict[str, Any], *, workers: int, on_gpu: bool) -> bool:
    """Settle in the ledger how units and blocks are cut: as the first attempt did, whatever machine this one has.

    Returns whether that is how an earlier attempt cut them, so that its journal holds.
    """
    cut = {
        "version": LAYOUT_VERSION,
        "unit_bytes": units.UNIT_BYTES,
        "unit_files": units.UNIT_FILES,
        "piece_bytes": units.PIECE_BYTES,
    }
    before = ledger["layout"] or {}
    if {name: before.get(name) for name in cut} == cut:
        return plan.previous is not None
    block_bytes = plan.block_bytes(workers, on_gpu=on_gpu)
    ledger |= {"layout": {**cut, "block_bytes": block_bytes}, "survey": None, "dying": None}
    return False


def now() -> str:
    """The moment, in UTC and ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
