"""Checks files of windows and of spans: schema, values, order, names, and whether their runs are as they were."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, Part
from operators.scores.origin import Origin
from operators.verify.faults import Fault, Finding, Kind, placed
from operators.verify.origins import origin_findings
from operators.verify.stored import schema_findings
from schemas import EXTRACTIONS, SPANS, Table

# What a file holds one of, and what orders its rows: a token of no bytes lets windows of two
# runs begin at one byte and position.
_TABLES: tuple[tuple[Table, str, tuple[str, ...]], ...] = (
    (EXTRACTIONS, "context", (*EXTRACTIONS.sorted_by, "scored_run")),
    (SPANS, "kind", SPANS.sorted_by),
)


def memorization_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    """Faults of every file of windows and of spans of a run; one row group is held at a time."""
    for table, what, order in _TABLES:
        for part in lake.parts(table.name, run_id):
            yield from placed(lake, part, _findings(lake, part, table, what, order))


def _findings(lake: Lake, part: Part, table: Table, what: str, order: tuple[str, ...]) -> Iterator[Finding]:
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        faults = schema_findings(table, file.schema_arrow, ())
        yield from faults
        if faults:
            return
        origin = yield from origin_findings(lake, part, file.schema_arrow, "assay memorization")
        if origin is None:
            return
        last: pa.Table | None = None
        for index in range(file.num_row_groups):
            rows = file.read_row_group(index)
            rows.validate(full=True)
            if not len(rows):
                continue
            where = f"row group {index}: "
            yield from ((kind, f"{where}{message}") for kind, message in _row_findings(table, rows, what, origin))
            if not _ascends(rows if last is None else pa.concat_tables([last, rows]), order):
                yield Kind.ORDER, f"{where}rows do not ascend by {', '.join(order)}"
            last = rows.slice(len(rows) - 1)


def _row_findings(table: Table, rows: pa.Table, what: str, origin: Origin) -> Iterator[Finding]:
    yield from ((Kind.VALUE, message) for message in table.validate(rows))
    others = sorted(set(pc.unique(rows[what]).to_pylist()) - {origin.family})
    if others:
        yield Kind.VALUE, f"{what} is {others}, and the file is of {origin.family!r}"
    if table is SPANS:
        if pc.any(pc.greater_equal(rows["n_misses"], rows["n_tokens"])).as_py():
            yield Kind.VALUE, "n_misses: no fewer than n_tokens"
        return
    unknown = sorted(set(pc.unique(rows["scored_run"]).to_pylist()) - set(origin.states))
    if unknown:
        yield Kind.VALUE, f"scored_run is {unknown}, of which it does not say that it was made from them"
    whole = pc.equal(rows["n_greedy"], rows["suffix_tokens"])
    if not pc.all(pc.equal(rows["is_extractable"], whole)).as_py():
        yield Kind.VALUE, "is_extractable: not where n_greedy = suffix_tokens"
    if pc.any(pc.greater(rows["n_greedy"], rows["suffix_tokens"])).as_py():
        yield Kind.VALUE, "n_greedy: more than suffix_tokens"


def _ascends(rows: pa.Table, order: tuple[str, ...]) -> bool:
    """Whether each row comes after the one before it; no two are alike."""
    is_after = np.zeros(max(len(rows) - 1, 0), np.bool_)
    is_same = ~is_after
    for name in order:
        values = _comparable(rows[name])
        is_after |= is_same & (values[1:] > values[:-1])
        is_same &= values[1:] == values[:-1]
    return bool(is_after.all())


def _comparable(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The values as numbers in the same order."""
    if not pa.types.is_string(column.type):
        numbers: npt.NDArray[np.int64] = column.to_numpy().astype(np.int64)
        return numbers
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = {name: place for place, name in enumerate(sorted(names))}
    ranks = np.array([places[name] for name in names], np.int64)
    found: npt.NDArray[np.int64] = ranks[encoded.indices.to_numpy()]
    return found
