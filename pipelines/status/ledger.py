"""What `assay status` takes from a ledger, and of which types: one that another program has changed must not hide the
runs beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from operators.lake import Lake


def _moment(text: Any) -> datetime:
    """ISO 8601, in UTC where it names no zone."""
    if not isinstance(text, str):
        raise ValueError("a moment in ISO 8601 was expected")
    moment = datetime.fromisoformat(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None


Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
_Absent = BeforeValidator(lambda value: {} if value is None else value)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Attempt(_Part):
    """The last one. `workers`: how many blocks it works on at once, about."""

    started_at: Moment | None = None
    workers: Count | None = None


class Survey(_Part):
    """`units`: parts of the input; None before they are cut."""

    units: Count | None = None


class Totals(_Part):
    """Of a finished run."""

    documents: Count = 0
    tokens: Count = 0
    rejects: Count = 0


class Config(_Part):
    """The fields of the job, all of them; those that are read are named."""

    model_config = ConfigDict(extra="allow")

    limit: Count | None = None
    features: tuple[str, ...] | None = None


class Ledger(_Part):
    """The fields that are read; a ledger of an earlier version may lack all but the state. `seconds`: of the attempts
    before the one under way; of one that was killed until its last block, counted when the next one begins."""

    state: Literal["running", "interrupted", "failed", "finished"]
    created_at: Moment | None = None
    finished_at: Moment | None = None
    seconds: Annotated[float, Field(strict=True, ge=0)] | None = None
    attempt: Annotated[Attempt, _Absent] = Attempt()
    survey: Annotated[Survey, _Absent] = Survey()
    totals: Annotated[Totals, _Absent] = Totals()
    config: Annotated[Config, _Absent] = Config()
    error: Any = None

    @classmethod
    def read(cls, lake: Lake, run_id: str) -> Ledger:
        """The ledger of a run.

        Raises:
            FileNotFoundError: the lake has no such run. ValueError: its ledger cannot be read; the message names the
            field.
        """
        try:
            return cls.model_validate(lake.read_run(run_id))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
        except RecursionError as error:
            raise ValueError(str(error)) from None

    @property
    def started(self) -> float | None:
        """When the last attempt began, in seconds since 1970."""
        moment = self.attempt.started_at or self.created_at
        return None if moment is None else moment.timestamp()
