"""What takes a step over the units of a corpus where no model is scored: a loop here, or tasks of Ray.

units -> step -> tables, in no promised order
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import pyarrow as pa

from pipelines.claims import Claims, MemoryClaims
from pipelines.engines import UnitStep
from pipelines.units import Unit


class Surveyor(Protocol):
    """What an `Engine` has that needs no model; used within its context."""

    @property
    def claims(self) -> Claims: ...

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterable[pa.Table]: ...

    def may_restart(self, error: BaseException) -> bool: ...


class InlineSurveyor:
    """A plain loop in this process. What kills a reader ends the command: nobody is left to count its deaths."""

    def __init__(self) -> None:
        self.claims: Claims = MemoryClaims()

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        for unit in units:
            yield from step(unit)

    def may_restart(self, error: BaseException) -> bool:
        return False


def make_surveyor(engine: str, address: str | None) -> AbstractContextManager[Surveyor]:
    """The surveyor of an engine's name: `ray`, at `address` or RAY_ADDRESS or started here, or `inline`."""
    if engine == "inline":
        return nullcontext(InlineSurveyor())
    from pipelines.ray_engine import RaySurveyor

    return RaySurveyor(address, None)
