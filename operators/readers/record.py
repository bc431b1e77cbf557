"""What every reader yields: a record of named raw values, or the fault that kept it from being read.

- `Record`: one input record, of which nothing but its format was checked.
- `RejectedError`: the record is no document; it becomes a reject, its shard goes on.
- `UnreadableError`: the shard breaks off here; one reject, the rows before it are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.rejects import Reason

DETAIL_CHARS = 200
_NAMES_SHOWN = 20


class Fault(NamedTuple):
    """Why a record is a reject."""

    reason: Reason
    detail: str


class RejectedError(Exception):
    """This record is no document."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class UnreadableError(Exception):
    """Nothing can be read from record `row` on; -1 where that is the first."""

    def __init__(self, row: int, detail: str) -> None:
        super().__init__(row, detail)
        self.row = row if row > 0 else -1
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Record:
    """`row`: 0-based, -1 for the file as a whole. `fields`: raw values by column, where strings may still be bytes."""

    row: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | None = None

    def checked(self) -> Mapping[str, Any]:
        """The fields.

        Raises:
            RejectedError: they could not be read.
        """
        if self.fault is not None:
            raise RejectedError(*self.fault)
        return self.fields


@dataclass(frozen=True, slots=True)
class Printed:
    """A value of a type that JSON does not have, as text: an attribute, but no string to score."""

    text: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for a nested value with a string of invalid UTF-8 in it."""

    detail: str


def find(fields: Mapping[str, Any], path: str) -> Any:
    """The value of a column path: a field of just that name, else one step into an object for each `.`.

    A null on the way gives None.

    Raises:
        KeyError: there is no such field.
    """
    if path in fields or "." not in path:
        return fields[path]
    value: Any = fields
    for name in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[name]
    return value


def clip(detail: str) -> str:
    """One line of at most `DETAIL_CHARS` code points that UTF-8 can hold."""
    # Cut first: a library's message may echo a megabyte.
    line = " ".join(detail[: 4 * DETAIL_CHARS].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= DETAIL_CHARS else line[: DETAIL_CHARS - 3] + "..."


def listed(names: Sequence[str]) -> str:
    """The first of a record's or file's columns, for the detail of a reject."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return (", ".join(name[:40] for name in names[:_NAMES_SHOWN]) or "none") + more
