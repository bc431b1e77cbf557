"""Finds the columns asked for in an Arrow schema: a column of that name, else a field within a struct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.readers.record import UnreadableError, listed


@dataclass(frozen=True)
class Leaf:
    """A column: the name it was asked for by, and the names of the fields that lead to it."""

    name: str
    path: tuple[str, ...]

    @property
    def dotted(self) -> str:
        """What Parquet calls it."""
        return ".".join(self.path)

    def of(self, batch: Any) -> Any:
        """The array of this column; null where its parent is."""
        column = batch.column(batch.schema.get_field_index(self.path[0]))
        return pc.struct_field(column, list(self.path[1:])) if len(self.path) > 1 else column


def find_leaves(schema: pa.Schema, columns: Sequence[str]) -> list[Leaf]:
    """The leaves that `columns` name.

    Raises:
        UnreadableError: one of them is not there exactly once.
    """
    names = schema.names
    paths = {column: _path(schema, names, column) for column in columns}
    missing = [column for column, path in paths.items() if path is None]
    if missing:
        raise UnreadableError(-1, f"no column {', '.join(map(repr, missing))}; the file has: {listed(names)}")
    leaves = [Leaf(column, path) for column, path in paths.items() if path is not None]
    repeated = [leaf.name for leaf in leaves if names.count(leaf.path[0]) > 1]
    if repeated:
        raise UnreadableError(-1, f"more than one column {', '.join(map(repr, repeated))}")
    return leaves


def _path(schema: pa.Schema, names: list[str], column: str) -> tuple[str, ...] | None:
    if column in names:
        return (column,)
    path = tuple(column.split("."))
    if path[0] not in names:
        return None
    kind = schema.field(names.index(path[0])).type
    for depth, name in enumerate(path[1:], 1):
        if pa.types.is_null(kind):  # what some writers make of a struct that is null throughout
            return path[:depth]
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return None
        kind = kind.field(name).type
    return path
