"""Keeps results under a name of the user's: the tables of one kind, and a job that says what they were made from.

    <lake>/<table>/<kind>=<name>/<digest of the name>.parquet       one object a table, replaced as a whole
    <lake>/<first table of the kind>/<kind>=<name>/job.json         written last: the receipt of them all

job.json holds `settings` (what was asked), `facts` (what was found besides the tables), `states` (of the runs it was
made from: a config digest and when it was finished) and `rows` by table. A job that is missing, or does not fit its
tables, is of a write that did not finish: `assay verify` says so, and the same command makes them again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_128_hexdigest

from operators.lake import Lake
from operators.scores.origin import State, run_state
from schemas import Table
from schemas.results import ResultKind

ROW_GROUP_ROWS = 1 << 18


class ResultError(ValueError):
    """A result cannot be kept under this name."""


def result_folder(kind: ResultKind, table: Table, name: str) -> str:
    """Where one table of a result lies, relative to the lake's root.

    Raises:
        ValueError: a table of another kind, or a name that cannot be a folder's.
    """
    if table not in kind.tables:
        raise ValueError(f"table {table.name!r} is not of a {kind.name}")
    return f"{table.name}/{kind.name}={kind.check(name)}"


def result_path(kind: ResultKind, table: Table, name: str) -> str:
    """The object of one table of a result, relative to the lake's root."""
    return f"{result_folder(kind, table, name)}/{xxh3_128_hexdigest(name.encode())}.parquet"


def result_job_path(kind: ResultKind, name: str) -> str:
    """Where the job of a result lies, relative to the lake's root."""
    return f"{result_folder(kind, kind.tables[0], name)}/job.json"


def check_free(lake: Lake, kind: ResultKind, name: str, overwrite: str | None) -> None:
    """Refuse a name that is taken, unless `overwrite` repeats it. Call before the work, which `keep_result` ends.

    Raises:
        ResultError: the lake has a result of that name, `overwrite` is another one, or it cannot be a folder's.
    """
    try:
        kind.check(name)
    except ValueError as error:
        raise ResultError(f"--name: {error}") from None
    if overwrite not in (None, name):
        raise ResultError(f"--overwrite: it names {overwrite!r}, the {kind.name} is {name!r}: repeat the name there")
    if overwrite is None and lake.storage.exists(result_job_path(kind, name)):
        raise ResultError(
            f"{lake.root} has a {kind.name} {name!r}: choose another --name, or replace it with --overwrite {name}"
        )


def run_states(lake: Lake, runs: Iterable[str]) -> dict[str, State]:
    """Which state each run is in, for `keep_result`. Read before the rows are: a run replaced meanwhile is then found.

    Raises:
        FileNotFoundError, ValueError: a run has no sound ledger.
    """
    return {run: run_state(lake.read_run(run)) for run in sorted(set(runs))}


def keep_result(
    lake: Lake,
    kind: ResultKind,
    name: str,
    tables: Mapping[str, pa.Table],
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    states: Mapping[str, State] | None = None,
) -> str:
    """Write the tables of a result and then its job; what the lake had under this name is replaced.

    `tables`: by table's name, with the columns of its schema but the partition, in any order of columns and rows;
    a nullable one that is left out is NULL.
    A table of the kind that is not given is removed. Values are checked against the schema before anything is written.
    `settings` and `facts` are JSON without NaN and without secrets.

    Returns:
        the path of the first table, relative to the lake's root.

    Raises:
        ValueError: the first table is missing, an unknown one is given, or rows break the schema or its key.
        OSError: the storage failed; the job is gone then, so nobody takes what is left for whole.
    """
    known = {table.name: table for table in kind.tables}
    if kind.tables[0].name not in tables or not set(tables) <= set(known):
        raise ValueError(f"a {kind.name} has tables {', '.join(known)}; given were {', '.join(tables) or 'none'}")
    ready = {table: _arranged(known[table], rows) for table, rows in tables.items()}
    job = {
        "name": kind.check(name),
        "settings": settings,
        "facts": facts or {},
        "states": {run: list(state) for run, state in (states or {}).items()},
        "rows": {table: rows.num_rows for table, rows in ready.items()},
    }
    text = f"{json.dumps(job, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()
    lake.storage.delete(result_job_path(kind, name))
    with tempfile.TemporaryDirectory(prefix="assay-result-") as scratch:
        for table in reversed(kind.tables):
            path = result_path(kind, table, name)
            if table.name not in ready:
                lake.storage.delete(path)
                lake.storage.delete_empty_folder(path.rpartition("/")[0])
                continue
            local = Path(scratch) / table.name
            pq.write_table(ready[table.name], local, compression="zstd", row_group_size=ROW_GROUP_ROWS,
                           write_page_checksum=True)  # fmt: skip
            lake.storage.write_file(path, local)
    lake.storage.write(result_job_path(kind, name), text)
    return result_path(kind, kind.tables[0], name)


def _arranged(table: Table, rows: pa.Table) -> pa.Table:
    """Rows as they are stored: declared columns in their types, sorted, sound."""
    schema = table.arrow()
    missing = {field.name for field in schema if not field.nullable} - set(rows.column_names)
    unknown = set(rows.column_names) - set(schema.names)
    if missing or unknown:
        raise ValueError(f"{table.name}: columns missing {sorted(missing)}, unknown {sorted(unknown)}")
    given = set(rows.column_names)
    columns = [
        rows[field.name].cast(field.type) if field.name in given else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    arranged = pa.table(columns, schema=schema).sort_by([(name, "ascending") for name in table.sorted_by])
    if faults := [*table.validate(arranged), *_not_numbers(table, arranged)]:
        raise ValueError("; ".join(faults))
    if twice := key_twice(table, arranged):
        raise ValueError(f"{table.name}: {twice}")
    return arranged


def key_twice(table: Table, rows: pa.Table) -> str:
    """What is wrong where two rows of a stored table, in its order, have one key; empty where none have.

    Rows of one key stand side by side where the order begins with it, which costs a bit a row; a hash table of the
    posteriors of a million documents would take hundreds of megabytes.
    """
    key = [name for name in table.key if name in rows.column_names]
    if set(key) == set(table.sorted_by[: len(key)]) and not any(table[name].nullable for name in key):
        same = [pc.equal(rows[name].slice(1), rows[name].slice(0, max(0, len(rows) - 1))) for name in key]
        is_twice = bool(pc.any(reduce(pc.and_, same)).as_py())
    else:
        is_twice = rows.select(key).group_by(key).aggregate([]).num_rows != len(rows)
    return f"two rows of one key ({', '.join(key)})" if is_twice else ""


def _not_numbers(table: Table, rows: pa.Table) -> list[str]:
    """Columns without bounds, which `validate` does not look into: what cannot be said is NULL, never NaN."""
    free = (c for c in table.columns if c.minimum is None and c.maximum is None and c.name in rows.column_names)
    floats = (c.name for c in free if pa.types.is_floating(c.type))
    return [f"{table.name}.{name}: NaN" for name in floats if pc.any(pc.is_nan(rows[name])).as_py()]
