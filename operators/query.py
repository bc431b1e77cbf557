"""Read-only SQL of a stranger over a lake: it can read the lake and nothing else.

connect (fresh views) -> lock files, network, extensions and settings -> one statement that only reads -> rows
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import duckdb
import pyarrow as pa

from operators.catalog import connect_through, lake_files, open_storage, quote, root_of
from operators.duckdb_files import LakeFiles, escape_glob
from operators.memorization.view import MEMORIZED_SPANS
from operators.scores.wide import WIDE_SCORES
from operators.storage import Storage
from operators.storage.remote import redact
from schemas import TABLES

_EXPLAIN = re.compile(r"explain\s+(analyze\s+)?", re.IGNORECASE)
_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}


class QueryError(ValueError):
    """A query was refused or failed. The message is DuckDB's, with a hint on its last line where one helps."""


def query(
    lake: str | os.PathLike[str],
    sql: str,
    *,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    runs: Iterable[str] | None = None,
    macros: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Run one SELECT-like statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) of a stranger over the lake.

    It can read the lake and nothing else: other files, the network, extensions, settings and writing are shut off.
    `macros` makes the scores' macros, which takes a quarter of a second.

    Raises:
        QueryError: the statement is not one SELECT, or DuckDB refused it or failed on it.
        ObjectError: the storage failed.
    """
    with query_batches(
        lake, sql, parameters=parameters, runs=runs, macros=macros, storage_options=storage_options
    ) as reader:
        return reader.read_all()


@contextmanager
def query_batches(
    lake: str | os.PathLike[str],
    sql: str,
    *,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    runs: Iterable[str] | None = None,
    macros: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    batch_rows: int = 122_880,
) -> Iterator[pa.RecordBatchReader]:
    """As `query`, for results that may not fit in memory: `with query_batches(...) as reader` holds a batch at a time.

    Raises:
        QueryError, ObjectError: as `query`, on entering or while reading.
    """
    storage = open_storage(lake, storage_options)
    files = lake_files(storage)
    with connect_through(storage, files, runs, macros=macros) as connection:
        try:
            _lock(connection, storage)
            with _own_errors(files):
                relation = connection.sql(_one_select(connection, sql), params=parameters)
                reader = relation.to_arrow_reader(batch_rows)
        except PermissionError as error:  # by our file system: DuckDB's own check passes `..` in a URI
            raise QueryError(f"Permission Error: {error.filename}: {error.strerror}") from None
        except duckdb.Error as error:
            raise QueryError(redact(_explain(error), storage_options)) from None
        yield pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, files, storage_options))


def _own_errors(files: LakeFiles | None) -> AbstractContextManager[None]:
    return nullcontext() if files is None else files.own_errors()


def _batches(
    reader: pa.RecordBatchReader, files: LakeFiles | None, storage_options: Mapping[str, Any] | None
) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if files is not None and files.failure is not None:
            raise files.failure from None
        raise QueryError(redact(_explain(error), storage_options)) from None


def _lock(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Leave nothing to reach but the lake. DuckDB would still let COPY write into it: `_one_select` sees to that."""
    root = root_of(storage)
    # Both spellings: the files of the lake, and the patterns of our views, which DuckDB checks before it expands them.
    allowed = [f"{root}/", f"{escape_glob(root)}/"]
    connection.execute(f"set allowed_directories = [{', '.join(map(quote, dict.fromkeys(allowed)))}]")
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
    ("Table with name", "the tables here are " + ", ".join([*(t.name for t in TABLES), WIDE_SCORES, MEMORIZED_SPANS])),
    ("Function with name", "the scores: select function_name, comment from duckdb_functions() where comment <> ''"),
    ("Referenced column", "`describe tokens` (or another table) lists its columns"),
    ("have a column named", "`describe tokens` (or another table) lists its columns"),
)


def _explain(error: Exception) -> str:
    message = str(error)
    hint = next((hint for mark, hint in _HINTS if mark in message), None)
    return message if hint is None else f"{message}\nhint: {hint}"
