"""The catalog's tables in memory, for score files that are run on rows of one's own.

with score_tables.tables() as connection:
    score_tables.insert(connection, "tokens", [{"run_id": "r", "doc_id": 1, "position": 0, "logprob": None}])
    create_macros(connection)
"""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from schemas import TABLES


def tables() -> duckdb.DuckDBPyConnection:
    """Every table of `schemas`, empty, the columns of its view included."""
    connection = duckdb.connect()
    for table in TABLES:
        columns = [f"{c.name} {c.sql_type}" for c in table.columns]
        columns += [f"{name} float generated always as ({sql})" for name, sql in table.view_columns.items()]
        connection.execute(f"create table {table.name} ({', '.join(columns)})")
    return connection


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    declared = {t.name: t for t in TABLES}[table]
    schema = pa.schema([(name, declared[name].type) for name in rows[0]])
    connection.register("new", pa.Table.from_pylist(rows, schema=schema))
    connection.execute(f"insert into {table} by name from new")
    connection.unregister("new")
