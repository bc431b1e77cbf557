"""The lake as SQL: a view of every table of `schemas`, the score macros, and read-only queries over them.

    <lake>/tokens/run_id=*/*.parquet -- parts with a receipt only --> tokens
    <lake>/{documents,rejects,...}/.../*.parquet -------------------> documents rejects pairs scores frequencies
    scores, a column per card --------------------------------------> wide_scores
    spans and their documents' texts -------------------------------> memorized_spans
    domain_fit and the models of its runs --------------------------> model_domain
    documents that the last night of a nightly job says are current -> nightly_documents
    <lake>/runs/*.json ---------------------------------------------> runs
    operators/sql/*/*.sql ------------------------------------------> min_k(run, ...), auroc(scores), ...

A view lists the folder again at each query, so it sees the runs and parts written after it was made, in the catalog
file too. Every column the schema declares is there, NULL where a run did not keep it. DuckDB is told the columns, so it
opens no part to find them out (`union_by_name` opens all): a query reads footers and columns of the runs it names, and
nothing else. The price: it lists the parts of all runs, a thousand a request in an object store; `connect(runs=...)`
lists fewer. Leaving out parts without a receipt is a semi-join on the file's name, which prunes whole files and costs a
tenth of a plain scan. In the same way a score's macro leaves out all of them where roll-ups answer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from operators.duckdb_files import LakeFiles, escape_glob
from operators.ledger import ledger_sql
from operators.memorization.view import MEMORIZED_SPANS, memorized_comments, memorized_sql
from operators.mixtures.model_domain import MODEL_DOMAIN, ROW, model_domain_comments, model_domain_sql
from operators.nightly_documents import NIGHTLY_DOCUMENTS, nightly_documents_comments, nightly_documents_sql
from operators.nightly_documents import ROW as ROW_OF_NIGHTS
from operators.scores import create_macros
from operators.scores.wide import WIDE_SCORES, wide_comments, wide_sql
from operators.storage import Storage
from schemas import (
    COMPARISON_TABLES,
    DECONTAMINATION,
    DOCUMENTS,
    DOMAIN_FIT,
    EXTRACTIONS,
    FREQUENCIES,
    MIXTURE_CURVES,
    MIXTURE_POSTERIORS,
    MIXTURES,
    NIGHT_LIST_TABLES,
    NIGHT_TABLES,
    OVERLAP_ITEMS,
    OVERLAP_SPANS,
    PAIRS,
    REJECTS,
    RUNS,
    SCORES,
    SPANS,
    TABLES,
    TOKENIZER_TABLES,
    TOKENS,
    VOCABULARY_FIT,
    Column,
    Table,
    check_run_id,
)

CATALOG_FILE = "lake.duckdb"

_PART_GLOB = "[0-9a-f]" * 32 + ".parquet"
_PARTITIONS: Mapping[str, tuple[str, ...]] = {
    t.name: tuple(c.name for c in t.columns if c.is_partition) for t in TABLES if t is not RUNS
}

_OF_RUNS = ("run_id", "p_run")  # first partitions that are runs; other tables are kept under names of their own

# Rows that DuckDB is to expect when it decides which side of a join to hold in memory: only their order matters.
_EXPECTED_ROWS = {
    TOKENS.name: 10**9,
    PAIRS.name: 10**9,
    SCORES.name: 10**7,
    EXTRACTIONS.name: 10**7,
    SPANS.name: 10**6,
    OVERLAP_ITEMS.name: 10**6,
    OVERLAP_SPANS.name: 10**6,
    DECONTAMINATION.name: 10**6,
    DOCUMENTS.name: 10**6,
    MIXTURE_POSTERIORS.name: 10**6,
    FREQUENCIES.name: 10**5,
    VOCABULARY_FIT.name: 10**5,
    REJECTS.name: 10**4,
    **dict.fromkeys((t.name for t in (DOMAIN_FIT, MIXTURES, MIXTURE_CURVES)), 10**3),
    **dict.fromkeys((t.name for t in (*COMPARISON_TABLES, *TOKENIZER_TABLES)), 10**3),
    **dict.fromkeys((t.name for t in (*NIGHT_TABLES, *NIGHT_LIST_TABLES)), 10**5),
}
_NO_ROWS = "limit (select 0)"

# What `tokens` is made of, in a schema of its own: rows with the name of their file, and the names that have a receipt.
_PARTS = "parts"
_TOKENS_OF_PARTS, _RECEIPTS = f"{_PARTS}.tokens_by_file", f"{_PARTS}.receipts"


@dataclass(frozen=True)
class _Computed:
    """A view over other views: its SELECT, what a row is, and what each column is."""

    name: str
    row: str
    sql: Callable[[], str]
    comments: Callable[[], Mapping[str, str]]


_COMPUTED = (
    _Computed(
        WIDE_SCORES,
        "one document of one run with its stored scores, a column a card; key (run_id, doc_id)",
        wide_sql,
        wide_comments,
    ),
    _Computed(
        MEMORIZED_SPANS,
        f"{SPANS.row}, with its text; the longest first; key ({', '.join(SPANS.key)})",
        memorized_sql,
        memorized_comments,
    ),
    _Computed(MODEL_DOMAIN, ROW, model_domain_sql, model_domain_comments),
    _Computed(NIGHTLY_DOCUMENTS, ROW_OF_NIGHTS, nightly_documents_sql, nightly_documents_comments),
)


# Views


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _globs(root: str, table: Table, runs: Sequence[str] | None) -> str:
    """SQL list of the patterns that match a table's files, of some runs or of all."""
    folder = f"{escape_glob(root)}/{table.name}"
    if table is not RUNS and _PARTITIONS[table.name][0] not in _OF_RUNS:
        runs = None
    if table is RUNS:
        patterns = [f"{folder}/{run}.json" for run in ("*" if runs is None else runs)]
    else:
        first, *others = _PARTITIONS[table.name]
        below = "".join(f"/{name}=*" for name in others)
        patterns = [f"{folder}/{first}={run}{below}/{_PART_GLOB}" for run in ("*" if runs is None else runs)]
    return "[" + ", ".join(quote(pattern) for pattern in patterns) + "]"


def _typed_nothing(table: Table) -> str:
    """A SELECT of no rows that has every column of the table in its type: what a view falls back on."""
    return f"select {', '.join(f'null::{c.sql_type} as {_name(c.name)}' for c in table.columns)} where false"


def _declared(table: Table) -> str:
    """The columns of a part, as `read_parquet(schema := ...)` takes them: found by name, cast, NULL where missing."""
    columns = (
        f"{quote(c.name)}: {{name: {quote(c.name)}, type: {quote(c.sql_type)}, default_value: null}}"
        for c in table.columns
        if not c.is_partition
    )
    return f"map {{{', '.join(columns)}}}"


def _stored_nothing(table: Table) -> str:
    """No rows, in the types of a part's columns and its file's name; and how many rows the planner is to expect.

    DuckDB takes the number of rows from footers. Without, it expects one row of each table, and a join of tokens and
    documents may hold the tokens in memory. A limit that it cannot see through keeps the estimate and drops the rows.
    """
    columns = [f"null::{c.sql_type} as {_name(c.name)}" for c in table.columns if not c.is_partition]
    return f"select {', '.join(columns)}, null::VARCHAR as filename from range({_EXPECTED_ROWS[table.name]}) {_NO_ROWS}"


def _column(column: Column) -> str:
    name = _name(column.name)
    if column.is_partition:  # a filter on it becomes one on the name, and leaves out whole files before any is opened
        return f"regexp_extract(filename, {quote(f'/{column.name}=([^/]+)/')}, 1) as {name}"
    return name


def _parquet_view(root: str, table: Table, runs: Sequence[str] | None) -> str:
    columns = [_column(c) for c in table.columns]
    columns += [f"{sql} as {_name(name)}" for name, sql in table.view_columns.items()]
    rows = f"""
        ({_stored_nothing(table)})
        union all by name
        select * from read_parquet({_globs(root, table, runs)}, schema := {_declared(table)}, filename := true,
            allow_empty := true)"""
    if table is TOKENS:
        return f"create or replace view {_TOKENS_OF_PARTS} as select {', '.join(columns)}, filename from ({rows})"
    return f"create or replace view {table.name} as select {', '.join(columns)} from ({rows})"


def _receipts_view(root: str, runs: Sequence[str] | None) -> str:
    """The tokens parts that have a receipt."""
    twin = r"regexp_replace(file, '/documents/([^/]+/[^/]+)$', '/tokens/\1')"
    return f"create or replace view {_RECEIPTS} as select {twin} as filename from glob({_globs(root, DOCUMENTS, runs)})"


def _tokens(unwanted: str) -> str:
    """The rows of `tokens`, or none where the condition holds: then no name matches, and DuckDB opens no part."""
    names = f"select case when {unwanted} then '' else filename end from {_RECEIPTS}"
    return f"select * exclude (filename) from {_TOKENS_OF_PARTS} where filename in ({names})"


def _runs_view(root: str, runs: Sequence[str] | None) -> str:
    columns = ", ".join(f"{ledger_sql(c)} as {_name(c.name)}" for c in RUNS.columns)
    rows = f"""
        select null::JSON as json where false
        union all by name
        select * from read_json_objects({_globs(root, RUNS, runs)}, format := 'unstructured', allow_empty := true,
            maximum_object_size := 268435456)"""
    return f"create or replace view {RUNS.name} as select {columns} from ({rows})"


def _create_catalog(
    connection: duckdb.DuckDBPyConnection,
    root: str,
    runs: Sequence[str] | None,
    files: LakeFiles | None,
    *,
    macros: bool = True,
) -> None:
    """Views, macros and comments.

    DuckDB binds the body of a macro when it is made, and binding a view lists the lake. So the macros, and `tokens`
    over its parts, are made over empty stand-ins for the views, and the views take their place afterwards.
    """
    connection.execute("begin transaction")  # one, for a file is synced after each
    connection.execute(f"create schema {_PARTS}")
    connection.execute(f"create view {_RECEIPTS} as select null::VARCHAR as filename where false")
    for table in TABLES:
        name, more = table.name, "".join(f", {sql} as {_name(name)}" for name, sql in table.view_columns.items())
        if table is TOKENS:
            name, more = _TOKENS_OF_PARTS, f"{more}, null::VARCHAR as filename"
        connection.execute(f"create view {name} as select *{more} from ({_typed_nothing(table)})")
    connection.execute(f"create view {TOKENS.name} as {_tokens('false')}")
    if macros:
        create_macros(connection, _tokens)
    for computed in _COMPUTED:
        connection.execute(f"create view {computed.name} as {computed.sql()}")
        _comment(connection, computed.name, computed.row, computed.comments())
    with files.own_errors() if files is not None else nullcontext():
        for table in TABLES:
            view = _runs_view(root, runs) if table is RUNS else _parquet_view(root, table, runs)
            connection.execute(view)
            comments = {c.name: c.comment for c in table.columns} | dict(table.view_columns)
            _comment(connection, table.name, f"{table.row}; key ({', '.join(table.key)})", comments)
        connection.execute(_receipts_view(root, runs))
    connection.execute("commit")


def _comment(connection: duckdb.DuckDBPyConnection, view: str, row: str, comments: Mapping[str, str]) -> None:
    """Say what one row of a view is, and each of its columns."""
    connection.execute(f"comment on view {view} is {quote(f'one row: {row}')}")
    for name, comment in comments.items():
        connection.execute(f"comment on column {view}.{_name(name)} is {quote(comment)}")


# Connections


def connect(
    lake: str | os.PathLike[str],
    *,
    runs: Iterable[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    macros: bool = True,
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with fresh views and macros; for code that is trusted. Close it when done.

    `lake` is a folder or an fsspec URI (read through fsspec, with `storage_options`). `runs` limits every view to the
    runs named, which saves listing and opening the parts of all others. `macros`: whether `from min_k(...)` is to work;
    without, a connection is made in a quarter of the time, and gives `score_table` all it needs.

    Raises:
        FileNotFoundError: a local `lake` is not a folder. A folder without tables gives empty views.
        ValueError: no or unsound `runs`; or the path has a folder named `<column>=...` or a backslash, so that DuckDB
            would read other things.
        ObjectError: the storage failed. Queries on the connection raise DuckDB's error with that as its text.
    """
    storage = open_storage(lake, storage_options)
    return connect_through(storage, lake_files(storage), runs, macros=macros)


def lake_files(storage: Storage) -> LakeFiles | None:
    """What DuckDB reads a lake through: None for a local one, which it reads by itself."""
    return None if storage.is_local else LakeFiles(storage)


def connect_through(
    storage: Storage, files: LakeFiles | None, runs: Iterable[str] | None = None, *, macros: bool = True
) -> duckdb.DuckDBPyConnection:
    """As `connect`, for a caller that keeps the `files` to ask them what failed (`LakeFiles.own_errors`)."""
    chosen = None if runs is None else [check_run_id(run) for run in runs]
    if chosen == []:
        raise ValueError("runs: name at least one, or leave it out for all")
    connection = duckdb.connect()
    try:
        _configure(connection, files)
        _create_catalog(connection, root_of(storage), chosen, files, macros=macros)
    except BaseException:
        connection.close()
        raise
    return connection


def write_catalog(lake: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> str:
    """Rebuild `<lake>/lake.duckdb`, views and macros only, and return its path. It appears whole or not at all.

    The views hold the lake's absolute path: rebuild after moving the lake. Open the file itself, or `USE` it after
    ATTACH, for macros look names up in the current database.

    The file of a lake in an object store holds no credentials; who opens it brings them. In a DuckDB shell, which
    reads S3 by its extension httpfs: `create secret (type s3, provider credential_chain); attach
    's3://bucket/lake/lake.duckdb' as lake (read_only); use lake`. In Python, without the extension: copy the file,
    open it read-only, and `connection.register_filesystem(lake_files(open_storage("s3://bucket/lake", options)))`.

    Raises:
        FileNotFoundError, ValueError, ObjectError: as `connect`.
    """
    storage = open_storage(lake, storage_options)
    with tempfile.TemporaryDirectory(prefix="assay-catalog-") as folder:
        path = Path(folder) / CATALOG_FILE
        with duckdb.connect(str(path)) as connection:
            files = lake_files(storage)
            _configure(connection, files)
            _create_catalog(connection, root_of(storage), None, files)
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


def _configure(connection: duckdb.DuckDBPyConnection, files: LakeFiles | None) -> None:
    """Settings that every connection of ours shares: no name ever means a Python variable, clocks are UTC."""
    if files is not None:
        connection.register_filesystem(files)
    connection.execute("set python_enable_replacements = false")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"set temp_directory = {quote(str(Path(tempfile.gettempdir()) / 'assay-duckdb'))}")
