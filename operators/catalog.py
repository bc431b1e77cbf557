"""The lake as SQL: the views `tokens documents rejects runs pairs`, the score macros, and read-only queries over them.

    <lake>/tokens/run_id=*/*.parquet -- parts with a receipt only --> tokens
    <lake>/{documents,rejects,pairs}/.../*.parquet -----------------> documents rejects pairs
    <lake>/runs/*.json ---------------------------------------------> runs
    operators/sql/*/*.sql ------------------------------------------> min_k(run, ...), auroc(scores), ...

A view lists the folder again at each query, so it sees the runs and parts written after it was made, in the catalog
file too. Every column the schema declares is there, NULL where a run did not keep it. The price: each query opens the
footers of all the parts it names (`union_by_name`), some 50 microseconds a part on a local disk; `connect(runs=...)`
names fewer. Leaving out parts without a receipt is a semi-join on the file's name, which prunes whole files and costs a
tenth of a plain scan.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from operators.scores import create_macros
from operators.storage import Storage
from schemas import DOCUMENTS, PAIRS, REJECTS, RUNS, TABLES, TOKENS, Column, Table, check_run_id

CATALOG_FILE = "lake.duckdb"

_PART_GLOB = "[0-9a-f]" * 32 + ".parquet"
_PARTITIONS: Mapping[str, tuple[str, ...]] = {
    t.name: tuple(c.name for c in t.columns if c.is_partition) for t in (TOKENS, DOCUMENTS, REJECTS, PAIRS)
}


# The ledger: where each column of `runs` lies in `<lake>/runs/<run_id>.json`.

_LEDGER_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **{name: ((name,),) for name in ("run_id", "state", "created_at", "finished_at", "seconds")},
    **{name: ((name,),) for name in ("assay_version", "config_digest")},
    "model": (("config", "model"),),
    "model_type": (("model", "type"),),
    "model_fingerprint": (("model", "fingerprint"),),
    "vocab_size": (("model", "vocab_size"),),
    "dtype": (("model", "dtype"), ("config", "dtype")),  # what was used, before what was asked for
    "device": (("model", "device"), ("config", "device")),
    "tokenizer_fingerprint": (("tokenizer", "fingerprint"),),
    "bos_prepended": (("tokenizer", "bos_prepended"),),
    **{name: (("config", name),) for name in ("context", "stride", "bos", "special_tokens", "precision", "features")},
    **{name: (("config", name),) for name in ("transform", "base_run", "engine")},
    **{name: (("totals", name),) for name in ("rows_in", "documents", "rejects", "tokens", "scored", "text_bytes")},
}


def runs_row(ledger: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `runs` that a run's ledger makes: every column of `schemas.RUNS`, None where the ledger is silent.

    Timestamps become aware datetimes in UTC. Equal, column by column, to what the `runs` view reads from the file.

    Raises:
        ValueError: the ledger has no `run_id` or no `state`, or a timestamp is not ISO 8601.
    """
    row = {column.name: _ledger_value(ledger, column) for column in RUNS.columns}
    missing = [column.name for column in RUNS.columns if not column.nullable and row[column.name] is None]
    if missing:
        raise ValueError(f"ledger has no {', '.join(missing)}; its keys: {', '.join(sorted(ledger)) or 'none'}")
    return row


def _ledger_value(ledger: Mapping[str, Any], column: Column) -> Any:
    for path in _LEDGER_PATHS[column.name]:
        value: Any = ledger
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return _as_column(value, column)
    return None


def _as_column(value: Any, column: Column) -> Any:
    if pa.types.is_timestamp(column.type):
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if pa.types.is_string(column.type) and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)  # as DuckDB prints JSON
    return value


def _ledger_sql(column: Column) -> str:
    """The same look-up in SQL, over a column `json`."""
    operator = "->" if pa.types.is_list(column.type) else "->>"
    found = [f"json {operator} {quote('$.' + '.'.join(path))}" for path in _LEDGER_PATHS[column.name]]
    return f"coalesce({', '.join(found)})::{column.sql_type}"


# Views


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def escape_glob(path: str) -> str:
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)


def _globs(root: str, table: Table, runs: Sequence[str] | None) -> str:
    """SQL list of the patterns that match a table's files, of some runs or of all."""
    folder = f"{escape_glob(root)}/{table.name}"
    if table is RUNS:
        patterns = [f"{folder}/{run}.json" for run in ("*" if runs is None else runs)]
    else:
        first, *others = _PARTITIONS[table.name]
        below = "".join(f"/{name}=*" for name in others)
        patterns = [f"{folder}/{first}={run}{below}/{_PART_GLOB}" for run in ("*" if runs is None else runs)]
    return "[" + ", ".join(quote(pattern) for pattern in patterns) + "]"


def _typed_nothing(table: Table, *more: str) -> str:
    """A SELECT of no rows that has every column of the table in its type: what a view falls back on."""
    columns = [f"null::{c.sql_type} as {_name(c.name)}" for c in table.columns]
    return f"select {', '.join([*columns, *more])} where false"


def _select_list(table: Table) -> str:
    stored = [f"{_name(c.name)}::{c.sql_type} as {_name(c.name)}" for c in table.columns]
    return ", ".join([*stored, *(f"{sql} as {_name(name)}" for name, sql in table.view_columns.items())])


def _parquet_view(root: str, table: Table, runs: Sequence[str] | None) -> str:
    hive_types = ", ".join(f"{quote(name)}: VARCHAR" for name in _PARTITIONS[table.name])
    rows = f"""
        {_typed_nothing(table, "null::VARCHAR as filename")}
        union all by name
        select * from read_parquet({_globs(root, table, runs)}, union_by_name := true, allow_empty := true,
            filename := true, hive_partitioning := true, hive_types := {{{hive_types}}})"""
    where = ""
    if table is TOKENS:
        twin = r"regexp_replace(file, '/documents/([^/]+/[^/]+)$', '/tokens/\1')"
        where = f"where filename in (select {twin} from glob({_globs(root, DOCUMENTS, runs)}))"
    return f"create or replace view {table.name} as select {_select_list(table)} from ({rows}) {where}"


def _runs_view(root: str, runs: Sequence[str] | None) -> str:
    columns = ", ".join(f"{_ledger_sql(c)} as {_name(c.name)}" for c in RUNS.columns)
    rows = f"""
        select null::JSON as json where false
        union all by name
        select * from read_json_objects({_globs(root, RUNS, runs)}, format := 'unstructured', allow_empty := true,
            maximum_object_size := 268435456)"""
    return f"create or replace view {RUNS.name} as select {columns} from ({rows})"


def _create_catalog(connection: duckdb.DuckDBPyConnection, root: str, runs: Sequence[str] | None) -> None:
    """Views, macros and comments.

    DuckDB binds the body of a macro when it is made, and binding a view opens every footer of the lake. So the macros
    are made over empty stand-ins for the views, and the views take their place afterwards.
    """
    for table in TABLES:
        connection.execute(f"create view {table.name} as select {_select_list(table)} from ({_typed_nothing(table)})")
    create_macros(connection)
    for table in TABLES:
        view = _runs_view(root, runs) if table is RUNS else _parquet_view(root, table, runs)
        connection.execute(view)
        _comment(connection, table)


def _comment(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    grain = f"one row: {table.row}; key ({', '.join(table.key)})"
    connection.execute(f"comment on view {table.name} is {quote(grain)}")
    comments = {c.name: c.comment for c in table.columns} | dict(table.view_columns)
    for name, comment in comments.items():
        connection.execute(f"comment on column {table.name}.{_name(name)} is {quote(comment)}")


# Connections


def connect(
    lake: str | os.PathLike[str],
    *,
    runs: Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with fresh views and macros; for code that is trusted. Close it when done.

    `lake` is a folder or an fsspec URI (read through fsspec, with `storage_options`). `runs` limits every view to the
    runs named, which saves listing and opening the parts of all others.

    Raises:
        FileNotFoundError: a local `lake` is not a folder. A folder without tables gives empty views.
        ValueError: no or unsound `runs`; or the path has a folder named `<column>=...` or a backslash, so that DuckDB
            would read other things.
    """
    storage = open_storage(lake, storage_options)
    chosen = None if runs is None else [check_run_id(run) for run in runs]
    if chosen == []:
        raise ValueError("runs: name at least one, or leave it out for all")
    connection = duckdb.connect()
    try:
        _configure(connection, storage)
        _create_catalog(connection, root_of(storage), chosen)
    except BaseException:
        connection.close()
        raise
    return connection


def write_catalog(lake: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> str:
    """Rebuild `<lake>/lake.duckdb`, views and macros only, and return its path. It appears whole or not at all.

    The views hold the lake's absolute path: rebuild after moving the lake. Open the file itself, or `USE` it after
    ATTACH, for macros look names up in the current database.

    Raises:
        FileNotFoundError, ValueError: as `connect`.
    """
    storage = open_storage(lake, storage_options)
    with tempfile.TemporaryDirectory(prefix="assay-catalog-") as folder:
        path = Path(folder) / CATALOG_FILE
        with duckdb.connect(str(path)) as connection:
            _configure(connection, storage)
            _create_catalog(connection, root_of(storage), None)
        storage.delete(f"{CATALOG_FILE}.wal")  # left by a shell that was killed; it belongs to the old file
        storage.write(CATALOG_FILE, path.read_bytes())
    return storage.uri(CATALOG_FILE)


def open_storage(lake: str | os.PathLike[str], options: Mapping[str, Any] | None) -> Storage:
    storage = Storage(os.fspath(lake), dict(options or {}))
    if storage.is_local and not Path(storage.root).is_dir():
        raise FileNotFoundError(f"no lake at {storage.root}: not a folder")
    columns = {c.name for table in TABLES for c in table.columns}
    clashes = [part for part in storage.root.split("/") if part.partition("=")[1] and part.split("=")[0] in columns]
    if clashes:
        raise ValueError(f"lake path {storage.root}: rename {clashes}, which Parquet readers take for columns")
    if "\\" in storage.root:
        raise ValueError(f"lake path {storage.root}: DuckDB's patterns cannot name a backslash, rename the folder")
    return storage


def root_of(storage: Storage) -> str:
    return storage.root.rstrip("/")


def _configure(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Settings that every connection of ours shares: no name ever means a Python variable, clocks are UTC."""
    if not storage.is_local:
        # fsspec remembers listings unless told otherwise, and would hide parts written since.
        fresh = Storage(storage.root, {**storage.options, "use_listings_cache": False})
        connection.register_filesystem(fresh.filesystem)
    connection.execute("set python_enable_replacements = false")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"set temp_directory = {quote(str(Path(tempfile.gettempdir()) / 'assay-duckdb'))}")
