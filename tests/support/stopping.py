"""Work that is stopped at a bad moment: at a write, or by machinery that fails once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from operators.storage import Storage
from pipelines.engines import UnitStep
from pipelines.surveyors import InlineSurveyor
from pipelines.units import Unit

_WRITES = ("write", "write_file")  # of a `Storage`: all that makes an object of a lake appear


class Stop(BaseException):
    """Stands for a SIGKILL: nothing of ours runs after it."""


@contextmanager
def killed_at_write(n: int, *, after: bool) -> Iterator[None]:
    """Ends what runs within as a kill would: at the n-th object written to the lake, just before or after it is there,
    and no later one appears. Fails where fewer are written."""
    left = iter(range(n))

    def dying(original: Any) -> Any:
        def write_or_die(self: Storage, path: str, data: bytes | memoryview | Path) -> None:
            if next(left, None) is None:
                if after:
                    original(self, path, data)
                raise Stop
            original(self, path, data)

        return write_or_die

    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        for name in _WRITES:
            patch.setattr(Storage, name, dying(getattr(Storage, name)))
        yield
        pytest.fail(f"nothing wrote {n + 1} objects")


@contextmanager
def writes_counted() -> Iterator[list[str]]:
    """The paths of the objects that are written within, as they are written."""
    written: list[str] = []

    def noting(original: Any) -> Any:
        def noted(self: Storage, path: str, data: bytes | memoryview | Path) -> None:
            written.append(path)
            original(self, path, data)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in _WRITES:
            patch.setattr(Storage, name, noting(getattr(Storage, name)))
        yield written


class Failing(InlineSurveyor):
    """Fails once, after the first unit that a step of this kind was taken over has been handed on."""

    def __init__(self, kind: type, error: Exception) -> None:
        super().__init__()
        self.kind = kind
        self.error: Exception | None = error
        self.surveyed: list[int] = []

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        for place, unit in enumerate(units):
            if isinstance(step, self.kind):
                if place == 1 and self.error is not None:
                    error, self.error = self.error, None
                    raise error
                self.surveyed.append(unit.index)
            yield from step(unit)

    def may_restart(self, error: BaseException) -> bool:
        return isinstance(error, ConnectionError)
