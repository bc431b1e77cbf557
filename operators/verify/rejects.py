"""Checks rejects parts: name, order and reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa

from operators.lake import Lake, Part, rejects_part_name
from operators.verify.faults import Fault, Finding, Kind, placed
from operators.verify.stored import table_findings
from schemas import REJECTS, Reason


def reject_faults(lake: Lake, part: Part, totals: Counter[str], readable: list[Part]) -> Iterator[Fault]:
    """Faults of a rejects part; adds to `totals`, and to `readable` where it could be read."""
    tables: list[pa.Table] = []
    yield from placed(lake, part, table_findings(lake, REJECTS, part.path, lambda _: (), tables))
    for rejects in tables:
        readable.append(part)
        totals["rejects"] += rejects.num_rows
        yield from placed(lake, part, _reject_findings(part, rejects))


def _reject_findings(part: Part, rejects: pa.Table) -> Iterator[Finding]:
    records = list(zip(rejects["source"].to_pylist(), rejects["row"].to_pylist(), strict=True))
    if rejects_part_name(records) != part.name:
        yield Kind.NAME, f"its records make the name {rejects_part_name(records)}"
    if any(after <= before for before, after in pairwise(records)):
        yield Kind.ORDER, "records do not ascend by source and row"
    unknown = sorted(set(rejects["reason"].to_pylist()) - set(Reason))
    if unknown:
        yield Kind.REASON, f"unknown reasons {unknown}"
