"""Removes what unfinished writes left in a lake: temporary files, and tokens parts without a receipt. Nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from operators.lake import Lake
from operators.verify.layout import all_run_ids
from schemas import check_run_id


@dataclass(frozen=True)
class Repair:
    """`removed`: paths relative to the lake's root. `skipped`: runs left alone because something may write them."""

    removed: list[str]
    skipped: list[str]


def repair(lake: Lake, run_id: str | None = None) -> Repair:
    """Drop what unfinished writes left of one run, or of every run that has ended.

    Without `run_id`, a run whose ledger says "running", or says nothing that can be read, is skipped: to a run being
    written, its newest tokens part is one whose receipt is yet to come. Name such a run once it is known that nothing
    writes it: it was killed, and its ledger could not be changed any more.

    Raises:
        ValueError: `run_id` cannot be a run id, or the named run's folder leads out of the lake.
    """
    if run_id is not None:
        return Repair(lake.drop_orphans(check_run_id(run_id)), [])
    removed, skipped = [], []
    for each in all_run_ids(lake):
        try:
            has_ended = lake.read_run(each).get("state") in ("finished", "interrupted", "failed")
            removed += lake.drop_orphans(each) if has_ended else []
        except (FileNotFoundError, ValueError):
            has_ended = False
        if not has_ended:
            skipped.append(each)
    return Repair(removed, skipped)
