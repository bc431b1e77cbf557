"""Checks results that are kept under a name: layout, job, tables against their schemas, and the runs they are of.

job.json -> each table: schema, values, order, rows -> shares of a mixture -> states of the runs it was made from
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import PROGRESS_FOLDER, Lake
from operators.results import key_twice, result_folder, result_job_path, result_path
from operators.scores.origin import State
from operators.storage import is_temporary
from operators.verify.faults import Fault, Finding, Kind, placed_at
from operators.verify.origins import state_findings
from operators.verify.stored import table_findings
from schemas import MIXTURE_POSTERIORS, MIXTURES, Table
from schemas.results import RESULT_KINDS, ResultKind

_LAID_DOWN = 1e-6  # how far a sum of shares or of posteriors may be from 1


def result_faults(lake: Lake) -> Iterator[Fault]:
    """Faults of everything in the folders of named results; they belong to no run."""
    for kind in RESULT_KINDS:
        names: set[str] = set()
        for table in kind.tables:
            for entry in lake.storage.list(table.name):
                where = f"{table.name}/{entry.removesuffix('/')}"
                if (name := _name_of(kind, entry)) is not None:
                    names.add(name)
                elif entry == f"{PROGRESS_FOLDER}/" and table is kind.tables[0]:
                    message = f"left by an `{kind.verb}` that did not finish: the same command clears it"
                    yield Fault(Kind.TEMPORARY, "", where, message)
                else:
                    yield Fault(Kind.FOREIGN, "", where, "not part of a lake's layout")
        for name in sorted(names):
            yield from _layout_faults(lake, kind, name)
            yield from _result_faults(lake, kind, name)


def _name_of(kind: ResultKind, entry: str) -> str | None:
    """The result that a folder is of."""
    name = entry.removesuffix("/").removeprefix(f"{kind.name}=")
    if not entry.endswith("/") or entry != f"{kind.name}={name}/":
        return None
    try:
        return kind.check(name)
    except ValueError:
        return None


def _layout_faults(lake: Lake, kind: ResultKind, name: str) -> Iterator[Fault]:
    known = {result_job_path(kind, name), *(result_path(kind, table, name) for table in kind.tables)}
    for table in kind.tables:
        folder = result_folder(kind, table, name)
        for entry in lake.storage.list(folder):
            if is_temporary(entry):
                yield Fault(Kind.TEMPORARY, "", f"{folder}/{entry}", "left by a write that did not finish")
            elif f"{folder}/{entry}" not in known:
                yield Fault(Kind.FOREIGN, "", f"{folder}/{entry}", "not part of a lake's layout")


def _result_faults(lake: Lake, kind: ResultKind, name: str) -> Iterator[Fault]:
    where = result_job_path(kind, name)
    try:
        job = json.loads(lake.storage.read(where))
        rows, states = _counts(job["rows"]), _states(job["states"])
    except FileNotFoundError:
        message = f"is missing: the tables beside it are of an `{kind.verb}` that never ended; make it again"
        yield Fault(Kind.LEDGER, "", where, message)
        return
    except (ValueError, KeyError, TypeError) as error:
        yield Fault(Kind.LEDGER, "", where, f"is no job of a {kind.name}: {type(error).__name__}: {error}")
        return
    if job.get("name") != name:
        yield Fault(Kind.LEDGER, "", where, f"is the job of {kind.name} {job.get('name')!r}")
    if unknown := sorted(set(rows) - {table.name for table in kind.tables}):
        yield Fault(Kind.LEDGER, "", where, f"says that it wrote {', '.join(unknown)}, which a {kind.name} does not")
    for table in kind.tables:
        path = result_path(kind, table, name)
        if table.name in rows:
            missing = f"is missing, though the {kind.name} was written whole"
            yield from placed_at(lake, path, _table_findings(lake, path, table, rows[table.name]), missing=missing)
        elif lake.storage.exists(path):
            yield Fault(Kind.FOREIGN, "", path, f"is there, though the job says nothing of it: {where}")
    yield from placed_at(lake, where, state_findings(lake, states, kind.verb))


def _counts(rows: Any) -> Mapping[str, int]:
    if not isinstance(rows, dict) or not all(isinstance(n, int) for n in rows.values()):
        raise ValueError("rows are not counted by table")
    return rows


def _states(states: Any) -> Mapping[str, State]:
    if not isinstance(states, dict) or not all(isinstance(s, list) and len(s) == 2 for s in states.values()):
        raise ValueError("runs are not given with their states")
    return {run: (state[0], state[1]) for run, state in states.items()}


def _table_findings(lake: Lake, path: str, table: Table, n_rows: int) -> Iterator[Finding]:
    """Findings of one table, which is read whole: what a result holds fits the memory that made it."""
    tables: list[pa.Table] = []
    yield from table_findings(lake, table, path, lambda _: (), tables)
    for rows in tables:
        yield from _row_findings(table, rows, n_rows)


def _row_findings(table: Table, rows: pa.Table, n_rows: int) -> Iterator[Finding]:
    if len(rows) != n_rows:
        yield Kind.COUNT, f"{len(rows)} rows, its job says {n_rows}"
    if twice := key_twice(table, rows):
        yield Kind.DUPLICATE, twice
    if not rows.equals(rows.sort_by([(name, "ascending") for name in table.sorted_by])):
        yield Kind.ORDER, f"rows do not ascend by {', '.join(table.sorted_by)}"
    yield from _interval_findings(table, rows)
    if table is MIXTURES:
        yield from _sum_findings(rows, ["method"], "share")
    if table is MIXTURE_POSTERIORS:
        yield from _sum_findings(rows, ["method", "doc_id"], "posterior")


def _interval_findings(table: Table, rows: pa.Table) -> Iterator[Finding]:
    for low in (c.name for c in table.columns if c.name.endswith("_low")):
        high = f"{low.removesuffix('_low')}_high"
        if pc.any(pc.greater(rows[low], rows[high])).as_py():
            yield Kind.VALUE, f"{low} is above {high}"


def _sum_findings(rows: pa.Table, group: Iterable[str], share: str) -> Iterator[Finding]:
    """Shares of a whole come to 1 wherever all of them are there."""
    named = list(group)
    sums = rows.group_by(named).aggregate([(share, "sum"), (share, "count"), ([], "count_all")])
    whole = sums.filter(pc.equal(sums[f"{share}_count"], sums["count_all"]))
    off = np.abs(whole[f"{share}_sum"].to_numpy() - 1) > _LAID_DOWN
    if off.any():
        first = {name: whole[name].to_pylist()[int(off.argmax())] for name in named}
        yield Kind.TOTAL, f"{share} does not come to 1 in {int(off.sum())} of {len(whole)}, first {first}"
