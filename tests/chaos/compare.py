"""Compares the lake of a disturbed run with that of an undisturbed one, row by row and bit by bit.

lost       rows of the undisturbed lake that the other has not
doubled    rows that are there more than once
different  rows of the same key with other values
added      rows that the undisturbed lake has not
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake, Part
from operators.verify import verify
from schemas import DOCUMENTS, REJECTS, TOKENS

COUNTS = ("lost", "doubled", "different", "added")


@dataclass(frozen=True)
class Rows:
    """A run's three tables: tokens parts without a receipt do not count."""

    tokens: pa.Table
    documents: pa.Table
    rejects: pa.Table


def read(lake: Lake, run_id: str) -> Rows:
    return Rows(
        _table(lake, lake.readable_tokens(run_id), TOKENS.arrow()),
        _table(lake, lake.parts(DOCUMENTS.name, run_id), DOCUMENTS.arrow()),
        _table(lake, lake.parts(REJECTS.name, run_id), REJECTS.arrow()),
    )


def _table(lake: Lake, parts: list[Part], schema: pa.Schema) -> pa.Table:
    tables = [pq.read_table(lake.uri(part), partitioning=None) for part in parts]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def differences(expected: Rows, found: Rows) -> dict[str, Counter[str]]:
    """`COUNTS` of rows by table."""
    return {
        "tokens": _token_differences(expected.tokens, found.tokens),
        "documents": _differences(expected.documents, found.documents, ("doc_id",)),
        "rejects": _differences(expected.rejects, found.rejects, ("source", "row")),
    }


def _differences(expected: pa.Table, found: pa.Table, key: tuple[str, ...]) -> Counter[str]:
    wanted, _ = _by_key(expected, key)
    got, doubled = _by_key(found, key)
    return Counter(
        lost=len(wanted.keys() - got.keys()),
        doubled=doubled,
        different=sum(wanted[k] != got[k] for k in wanted.keys() & got.keys()),
        added=len(got.keys() - wanted.keys()),
    )


def _by_key(table: pa.Table, key: tuple[str, ...]) -> tuple[dict[Hashable, dict[str, Any]], int]:
    rows = table.to_pylist()
    keyed = {tuple(row[name] for name in key): row for row in rows}
    return keyed, len(rows) - len(keyed)


def _token_differences(expected: pa.Table, found: pa.Table) -> Counter[str]:
    wanted, _ = _first_of_each(expected)
    got, doubled = _first_of_each(found)
    wanted_keys, got_keys = _keys(wanted), _keys(got)
    common, here, there = np.intersect1d(wanted_keys, got_keys, assume_unique=True, return_indices=True)
    same = np.ones(len(common), bool)
    for name in wanted.column_names:
        same &= _same(wanted[name].take(pa.array(here)), got[name].take(pa.array(there)))
    return Counter(
        lost=len(wanted_keys) - len(common),
        doubled=doubled,
        different=int((~same).sum()),
        added=len(got_keys) - len(common),
    )


def _first_of_each(table: pa.Table) -> tuple[pa.Table, int]:
    keys = _keys(table)
    _, first = np.unique(keys, return_index=True)
    return table.take(pa.array(first)), len(keys) - len(first)


def _keys(table: pa.Table) -> npt.NDArray[np.void]:
    keys = np.empty(len(table), [("doc_id", np.int64), ("position", np.int32)])
    for name in keys.dtype.names or ():
        keys[name] = table[name].to_numpy()
    return keys


def _same(left: pa.ChunkedArray, right: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Equal value by value, NULL equal to NULL."""
    equal = pc.fill_null(pc.equal(left, right), False).to_numpy()
    both = pc.and_(pc.is_null(left), pc.is_null(right)).to_numpy()
    return np.asarray(equal | both, bool)


def remains(lake: Lake, run_id: str) -> list[str]:
    """What `verify` finds wrong, and what unfinished writes left."""
    left = [*lake.temporaries(run_id), *(part.path for part in lake.orphans(run_id))]
    return [*map(str, verify(lake)), *(f"{path}: left behind" for path in left)]
