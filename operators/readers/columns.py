"""Finds the columns asked for in an Arrow schema: a column of that name, else a field within a struct."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.readers.record import UnreadableError, listed


@dataclass(frozen=True)
class Leaf:
    """A column: the name it was asked for by, and the names of the fields that lead to it, none where it is missing."""

    name: str
    path: tuple[str, ...]

    @property
    def dotted(self) -> str:
        """What Parquet calls it."""
        return ".".join(self.path)

    def of(self, batch: Any) -> Any:
        """The array of this column; null where its parent is, and throughout where it is missing."""
        if not self.path:
            return pa.nulls(batch.num_rows)
        column = batch.column(batch.schema.get_field_index(self.path[0]))
        return pc.struct_field(column, list(self.path[1:])) if len(self.path) > 1 else column


def find_leaves(schema: pa.Schema, columns: Sequence[str], required: Collection[str]) -> list[Leaf]:
    """The leaves that `columns` name, in this order.

    Raises:
        UnreadableError: one of `required` is missing, or a column is there more than once.
    """
    names = schema.names
    leaves = [Leaf(column, _path(schema, names, column)) for column in columns]
    missing = [leaf.name for leaf in leaves if not leaf.path and leaf.name in required]
    if missing:
        raise UnreadableError(-1, f"no column {', '.join(map(repr, missing))}; the file has: {listed(names)}")
    repeated = [leaf.name for leaf in leaves if leaf.path and names.count(leaf.path[0]) > 1]
    if repeated:
        raise UnreadableError(-1, f"more than one column {', '.join(map(repr, repeated))}")
    return leaves


def _path(schema: pa.Schema, names: list[str], column: str) -> tuple[str, ...]:
    """The fields that lead to `column`; none where it is missing."""
    if column in names:
        return (column,)
    path = tuple(column.split("."))
    if path[0] not in names:
        return ()
    kind = schema.field(names.index(path[0])).type
    for depth, name in enumerate(path[1:], 1):
        if pa.types.is_null(kind):  # what some writers make of a struct that is null throughout
            return path[:depth]
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return ()
        kind = kind.field(name).type
    return path
