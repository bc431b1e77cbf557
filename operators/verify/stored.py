"""Checks one Parquet file against the declared table: schema, types, ranges, and the checksum of every page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from operators.lake import Lake
from operators.verify.faults import Finding, Kind
from schemas import Table


def table_findings(
    lake: Lake, declared: Table, path: str, groups_of: Callable[[pa.Schema], Iterable[str]], tables: list[pa.Table]
) -> Iterator[Finding]:
    """Findings of a file that is read whole; appends its table to `tables` where its schema is the declared one."""
    with lake.storage.parquet(path, verify_checksums=True) as file:
        faults = schema_findings(declared, file.schema_arrow, groups_of(file.schema_arrow))
        yield from faults
        if faults:
            return
        table = file.read()
    table.validate(full=True)
    tables.append(table)
    yield from ((Kind.VALUE, message) for message in declared.validate(table))


def schema_findings(table: Table, schema: pa.Schema, groups: Iterable[str]) -> list[Finding]:
    """How a file's schema differs from `table` with these column groups: names, order, types, NOT NULL, units.

    Of a column's metadata only the unit must be as declared today: it is part of the definition, while descriptions
    may be put in other words and old lakes must stay sound. That there is one must hold: other writers drop metadata.
    A column that came to a table later may be missing, all else may not.
    """
    declared = table.arrow(groups)
    expected = pa.schema([f for f in declared if f.name in schema.names or not table[f.name].is_later])
    faults = []
    if (schema.metadata or {}).get(b"assay.table") != table.name.encode():
        faults.append(f"not marked as a part of {table.name}")
    missing = [name for name in expected.names if name not in schema.names]
    odd = [f.name for f in schema if f.name not in expected.names or not _is_as_declared(f, expected.field(f.name))]
    if missing or odd:
        faults.append(f"missing {missing}, not as declared {odd}")
    elif schema.names != expected.names:
        faults.append("columns in another order, or twice")
    return [(Kind.SCHEMA, f"not the schema of {table.name}: {'; '.join(faults)}")] if faults else []


def _is_as_declared(found: pa.Field, declared: pa.Field) -> bool:
    metadata = found.metadata or {}
    same_unit = metadata.get(b"unit") == declared.metadata.get(b"unit")
    return found.equals(declared) and same_unit and b"description" in metadata
