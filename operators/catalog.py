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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class QueryError(ValueError):
    """A query was refused or failed. The message is DuckDB's, with a hint on its last line where one helps."""


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
    found = [f"json {operator} {_quote('$.' + '.'.join(path))}" for path in _LEDGER_PATHS[column.name]]
    return f"coalesce({', '.join(found)})::{column.sql_type}"


# Views


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _escape_glob(path: str) -> str:
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)


def _globs(root: str, table: Table, runs: Sequence[str] | None) -> str:
    """SQL list of the patterns that match a table's files, of some runs or of all."""
    folder = f"{_escape_glob(root)}/{table.name}"
    if table is RUNS:
        patterns = [f"{folder}/{run}.json" for run in ("*" if runs is None else runs)]
    else:
        first, *others = _PARTITIONS[table.name]
        below = "".join(f"/{name}=*" for name in others)
        patterns = [f"{folder}/{first}={run}{below}/{_PART_GLOB}" for run in ("*" if runs is None else runs)]
    return "[" + ", ".join(_quote(pattern) for pattern in patterns) + "]"


def _typed_nothing(table: Table, *more: str) -> str:
    """A SELECT of no rows that has every column of the table in its type: what a view falls back on."""
    columns = [f"null::{c.sql_type} as {_name(c.name)}" for c in table.columns]
    return f"select {', '.join([*columns, *more])} where false"


def _select_list(table: Table) -> str:
    stored = [f"{_name(c.name)}::{c.sql_type} as {_name(c.name)}" for c in table.columns]
    return ", ".join([*stored, *(f"{sql} as {_name(name)}" for name, sql in table.view_columns.items())])


def _parquet_view(root: str, table: Table, runs: Sequence[str] | None) -> str:
    hive_types = ", ".join(f"{_quote(name)}: VARCHAR" for name in _PARTITIONS[table.name])
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
    connection.execute(f"comment on view {table.name} is {_quote(grain)}")
    comments = {c.name: c.comment for c in table.columns} | dict(table.view_columns)
    for name, comment in comments.items():
        connection.execute(f"comment on column {table.name}.{_name(name)} is {_quote(comment)}")


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
    storage = _storage(lake, storage_options)
    chosen = None if runs is None else [check_run_id(run) for run in runs]
    if chosen == []:
        raise ValueError("runs: name at least one, or leave it out for all")
    connection = duckdb.connect()
    try:
        _configure(connection, storage)
        _create_catalog(connection, _root(storage), chosen)
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
    storage = _storage(lake, storage_options)
    with tempfile.TemporaryDirectory(prefix="assay-catalog-") as folder:
        path = Path(folder) / CATALOG_FILE
        with duckdb.connect(str(path)) as connection:
            _configure(connection, storage)
            _create_catalog(connection, _root(storage), None)
        storage.delete(f"{CATALOG_FILE}.wal")  # left by a shell that was killed; it belongs to the old file
        storage.write(CATALOG_FILE, path.read_bytes())
    return storage.uri(CATALOG_FILE)


def _storage(lake: str | os.PathLike[str], options: Mapping[str, Any] | None) -> Storage:
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


def _root(storage: Storage) -> str:
    return storage.root.rstrip("/")


def _configure(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Settings that every connection of ours shares: no name ever means a Python variable, clocks are UTC."""
    if not storage.is_local:
        # fsspec remembers listings unless told otherwise, and would hide parts written since.
        fresh = Storage(storage.root, {**storage.options, "use_listings_cache": False})
        connection.register_filesystem(fresh.filesystem)
    connection.execute("set python_enable_replacements = false")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"set temp_directory = {_quote(str(Path(tempfile.gettempdir()) / 'assay-duckdb'))}")


# Read-only queries

_EXPLAIN = re.compile(r"explain\s+(analyze\s+)?", re.IGNORECASE)
_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}


def query(
    lake: str | os.PathLike[str],
    sql: str,
    *,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    runs: Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Run one SELECT-like statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) of a stranger over the lake.

    It can read the lake and nothing else: other files, the network, extensions, settings and writing are shut off.

    Raises:
        QueryError: the statement is not one SELECT, or DuckDB refused it or failed on it.
    """
    with query_batches(lake, sql, parameters=parameters, runs=runs, storage_options=storage_options) as reader:
        return reader.read_all()


@contextmanager
def query_batches(
    lake: str | os.PathLike[str],
    sql: str,
    *,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    runs: Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    batch_rows: int = 122_880,
) -> Iterator[pa.RecordBatchReader]:
    """As `query`, for results that may not fit in memory: `with query_batches(...) as reader` holds a batch at a time.

    Raises:
        QueryError: as `query`, on entering or while reading.
    """
    with connect(lake, runs=runs, storage_options=storage_options) as connection:
        try:
            _lock(connection, _storage(lake, storage_options))
            relation = connection.sql(_one_select(connection, sql), params=parameters)
            reader = relation.to_arrow_reader(batch_rows)
        except duckdb.Error as error:
            raise QueryError(_explain(error)) from error
        yield pa.RecordBatchReader.from_batches(reader.schema, _batches(reader))


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise QueryError(_explain(error)) from error


def _lock(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Leave nothing to reach but the lake. DuckDB would still let COPY write into it: `_one_select` sees to that."""
    root = _root(storage)
    # Both spellings: the files of the lake, and the patterns of our views, which DuckDB checks before it expands them.
    allowed = [f"{root}/", f"{_escape_glob(root)}/"]
    connection.execute(f"set allowed_directories = [{', '.join(map(_quote, dict.fromkeys(allowed)))}]")
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the statement if it only reads.

    Its type alone does not say so: to DuckDB `with x as (copy ... to 'file') from x` is a SELECT. So the parse tree is
    searched for nodes other than those that read.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"expected one statement, found {len(statements)}")
    text = statements[0].query
    prefix = _EXPLAIN.match(text)
    body = text[prefix.end() :] if prefix else text
    tree = connection.execute("select json_serialize_sql($sql)", {"sql": body}).fetchall()[0][0]
    serialized = json.loads(tree)
    if serialized["error"] or set(_node_types(serialized["statements"])) - _READING_NODES:
        raise QueryError("only statements that read are run here: SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN")
    return text


def _node_types(tree: Any) -> Iterator[str]:
    """The types of all query nodes in a serialized statement."""
    if isinstance(tree, dict):
        kind = tree.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE"):
            yield kind
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _node_types(child)


_HINTS = (
    ("Table with name", "the tables here are " + ", ".join(table.name for table in TABLES)),
    ("Function with name", "the scores: select function_name, comment from duckdb_functions() where comment <> ''"),
    ("Referenced column", "`describe tokens` (or another table) lists its columns"),
    ("have a column named", "`describe tokens` (or another table) lists its columns"),
)


def _explain(error: Exception) -> str:
    message = str(error)
    hint = next((hint for mark, hint in _HINTS if mark in message), None)
    return message if hint is None else f"{message}\nhint: {hint}"
