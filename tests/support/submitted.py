"""A submitted job as a job server describes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobs.submission.client import Job


def submitted(**more: Any) -> Job:
    """A job of scoring that runs, but for what is given."""
    fields: dict[str, Any] = {
        "id": "score-monday-1", "state": "RUNNING", "verb": "score", "lake": "l", "run_id": "monday", "key": "k",
        "started": datetime(2026, 11, 21, tzinfo=UTC), "ended": None, "message": "", "exit_code": None,
    }  # fmt: skip
    return Job(**(fields | more))
