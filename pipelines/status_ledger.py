"""What `assay status` takes from a ledger, and of which types: one that another program has changed must not hide the
runs beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Moment = Annotated[str, AfterValidator(datetime.fromisoformat)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Attempt(_Part):
    started_at: Moment | None = None
    workers: Count | None = None


class _Survey(_Part):
    units: Count | None = None


class _Totals(_Part):
    documents: Count = 0
    tokens: Count = 0
    rejects: Count = 0


class _Config(_Part):
    limit: Count | None = None


class Ledger(_Part):
    """The fields that are read; a ledger of an earlier version may lack all but the state."""

    state: Literal["running", "interrupted", "failed", "finished"]
    created_at: Moment | None = None
    finished_at: Moment | None = None
    seconds: Annotated[float, Field(strict=True, ge=0)] | None = None
    attempt: _Attempt | None = None
    survey: _Survey | None = None
    totals: _Totals | None = None
    config: _Config | None = None
