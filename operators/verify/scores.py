"""Checks files of scores: schema, values, order, names, and whether they are of the runs and counts as they are now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, Part
from operators.scores.origin import Origin
from operators.verify.faults import Fault, Finding, Int64, Kind, placed
from operators.verify.origins import origin_findings
from operators.verify.stored import schema_findings
from schemas import SCORES


def score_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    """Faults of every file of scores of a run; one row group is held at a time."""
    for part in lake.parts(SCORES.name, run_id):
        yield from placed(lake, part, _findings(lake, part))


def _findings(lake: Lake, part: Part) -> Iterator[Finding]:
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        faults = schema_findings(SCORES, file.schema_arrow, ())
        yield from faults
        if faults:
            return
        origin = yield from origin_findings(lake, part, file.schema_arrow, "assay scores")
        if origin is not None:
            yield from _row_findings(file, origin)


def _row_findings(file: pa.parquet.ParquetFile, origin: Origin) -> Iterator[Finding]:
    last: tuple[int, str] | None = None
    seen: set[str] = set()
    families: set[str] = set()
    for index in range(file.num_row_groups):
        rows = file.read_row_group(index)
        rows.validate(full=True)
        where = f"row group {index}: "
        yield from ((Kind.VALUE, f"{where}{message}") for message in SCORES.validate(rows))
        if pc.any(pc.is_nan(rows["value"])).as_py():
            yield Kind.VALUE, f"{where}value: NaN, which is written as NULL"
        if not rows.num_rows:
            continue
        seen |= set(pc.unique(rows["variant"]).to_pylist())
        families |= set(pc.unique(rows["family"]).to_pylist())
        if not _ascends(rows, last):
            yield Kind.ORDER, f"{where}rows do not ascend by doc_id and variant"
        last = (rows["doc_id"][-1].as_py(), rows["variant"][-1].as_py())
    if unknown := sorted(seen - set(origin.variants)):
        yield Kind.VALUE, f"holds variants {unknown}, which it does not say it has"
    if others := sorted(families - {origin.family}):
        yield Kind.VALUE, f"holds the families {others}, and is of {origin.family!r}"


def _ascends(rows: pa.Table, last: tuple[int, str] | None) -> bool:
    """Whether keys ascend, from the last one of the row group before on; no key is there twice."""
    ids: Int64 = rows["doc_id"].to_numpy()
    encoded = rows["variant"].combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = {name: place for place, name in enumerate(sorted(names))}
    place = np.array([places[name] for name in names])[encoded.indices.to_numpy()]
    follows = (ids[1:] > ids[:-1]) | ((ids[1:] == ids[:-1]) & (place[1:] > place[:-1]))
    first = (int(ids[0]), str(rows["variant"][0].as_py()))
    return bool(np.all(follows)) and (last is None or first > last)
