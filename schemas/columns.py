"""What a column and a table are: the records from which every other description of the lake derives.

A `Column` says once what a number is: Arrow type, unit, range, direction, formula and source. Arrow schemas, the
catalog's SQL comments, the README's column table and `validate` are all computed from it, so they cannot disagree.
A changed definition is a new column name, never an edit here: old Parquet stays readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

CORE = "core"
# Kept by runs of a kind, of themselves, and no features to choose:
PROMPT = "prompt"  # with --prompt-column
COMMENTS = "comments"  # with --language or --language-column


@dataclass(frozen=True)
class Column:
    """One column. `unit` is part of the definition and is never chosen by a flag.

    `higher_means` names the direction where the column is itself a score (`None` where it is not).
    `minimum` and `maximum` are inclusive bounds on every non-null value, or on every element of a list column.
    """

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    nullable: bool = False
    group: str = CORE
    minimum: float | None = None
    maximum: float | None = None
    higher_means: str | None = None
    formula: str = ""
    source: str = ""
    is_partition: bool = False
    is_later: bool = False  # parts of versions before it was there lack it, and are sound; views read it as NULL

    @property
    def comment(self) -> str:
        """One line of plain text: what `COMMENT ON COLUMN` and the README print."""
        parts = [self.description]
        if self.formula:
            parts.append(self.formula)
        if self.unit:
            parts.append(f"[{self.unit}]")
        if self.higher_means:
            parts.append(f"higher = {self.higher_means}")
        if self.source:
            parts.append(f"({self.source})")
        return "; ".join(parts)

    @property
    def arrow(self) -> pa.Field:
        metadata = {"description": self.description, "unit": self.unit, "formula": self.formula, "source": self.source}
        return pa.field(self.name, self.type, nullable=self.nullable, metadata={k: v for k, v in metadata.items() if v})

    @property
    def sql_type(self) -> str:
        """The DuckDB type that reads this column."""
        return _sql_type(self.type)


_SQL_NAMES = {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


def _sql_type(arrow: pa.DataType) -> str:
    if pa.types.is_map(arrow):
        return f"MAP({_sql_type(arrow.key_type)}, {_sql_type(arrow.item_type)})"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"{_sql_type(arrow.value_type)}[]"
    return _SQL_NAMES[arrow]


@dataclass(frozen=True)
class Table:
    """One table of the lake: what a row is, its key, its sort order, and its columns in reading order."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    sorted_by: tuple[str, ...] = ()
    view_columns: Mapping[str, str] = field(default_factory=dict)  # name -> SQL computed by the view

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        missing = [k for k in (*self.key, *self.sorted_by) if k not in names]
        if missing or len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: duplicate columns, or key and order name no column: {missing}")

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name} has no column {name!r}")

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.group for c in self.columns))

    def group(self, name: str) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.group == name)

    def arrow(self, groups: Iterable[str] = (CORE,), *, with_partitions: bool = False) -> pa.Schema:
        """The declared Arrow schema of a stored file.

        Partition columns (`run_id`) live in the folder name of a stored file and are left out unless asked for.
        """
        wanted = {CORE, *groups}
        unknown = wanted - set(self.groups)
        if unknown:
            raise ValueError(f"table {self.name} has no column group {sorted(unknown)}; it has {list(self.groups)}")
        fields = [c.arrow for c in self.columns if c.group in wanted and (with_partitions or not c.is_partition)]
        return pa.schema(fields, metadata={"assay.table": self.name})

    def markdown(self) -> str:
        """The table as Markdown: what README shows."""
        head = f"**`{self.name}`**: one row is {self.row}; key `({', '.join(self.key)})`.\n\n"
        lines = ["| column | type | unit | what |", "|---|---|---|---|"]
        for c in self.columns:
            group = "" if c.group == CORE else f" *({c.group})*"
            what = "; ".join(filter(None, (c.description, f"`{c.formula}`" if c.formula else "", c.source)))
            lines.append(f"| `{c.name}`{group} | {c.sql_type} | {c.unit} | {what.replace('|', chr(92) + '|')} |")
        lines += [f"| `{name}` *(view)* | | | `{sql}` |" for name, sql in self.view_columns.items()]
        return head + "\n".join(lines) + "\n"

    def validate(self, table: pa.Table) -> list[str]:
        """Every fault of `table` against the declaration: types, nulls and ranges. An empty list means sound."""
        faults = []
        declared = {c.name: c for c in self.columns}
        for name in table.column_names:
            if name not in declared:
                faults.append(f"{self.name}.{name}: not a column of this table")
        for column in self.columns:
            if column.name in table.column_names:
                faults += _column_faults(self.name, column, table[column.name])
            elif column.group == CORE and not column.is_partition:
                faults.append(f"{self.name}.{column.name}: missing")
        return faults


def _column_faults(table: str, column: Column, values: pa.ChunkedArray) -> list[str]:
    where = f"{table}.{column.name}"
    if values.type != column.type:
        return [f"{where}: type {values.type}, declared {column.type}"]
    faults = []
    if not column.nullable and values.null_count:
        faults.append(f"{where}: {values.null_count} nulls in a column declared NOT NULL")
    if column.minimum is None and column.maximum is None:
        return faults
    flat = pc.list_flatten(values) if pa.types.is_list(column.type) else values
    bounds = pc.min_max(flat)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if column.minimum is not None and low is not None and not low >= column.minimum:
        faults.append(f"{where}: {low} is below {column.minimum}")
    if column.maximum is not None and high is not None and not high <= column.maximum:
        faults.append(f"{where}: {high} is above {column.maximum}")
    if pa.types.is_floating(flat.type) and pc.any(pc.is_nan(flat)).as_py():
        faults.append(f"{where}: NaN")
    return faults
