"""Checks files of domain fit and vocabulary fit: schema, values, order, names, and whether their run is as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, Part
from operators.verify.faults import Fault, Finding, Kind, placed
from operators.verify.origins import origin_findings
from operators.verify.stored import schema_findings
from schemas import DOMAIN_FIT, VOCABULARY_FIT, Table
from schemas.fits import ALL, DOMAIN, MACRO

_COUNTS = ("n_documents", "n_undefined", "n_tokens", "n_fed", "n_bytes", "n_words")
_SHARES = ("token_share", "byte_share")
_INTERVALS = {
    DOMAIN_FIT.name: ("token_share", "bits_per_byte", "perplexity"),
    VOCABULARY_FIT.name: ("mean_loss",),
}
_ROUNDING = 1e-9


def fit_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    """Faults of every file of domain fit and of vocabulary fit of a run; one file is held at a time."""
    for table in (DOMAIN_FIT, VOCABULARY_FIT):
        for part in lake.parts(table.name, run_id):
            yield from placed(lake, part, _findings(lake, part, table))


def _findings(lake: Lake, part: Part, table: Table) -> Iterator[Finding]:
    with lake.storage.parquet(part.path, verify_checksums=True) as file:
        faults = schema_findings(table, file.schema_arrow, ())
        yield from faults
        if faults:
            return
        origin = yield from origin_findings(lake, part, file.schema_arrow, "assay mixture fit")
        rows = file.read()
    rows.validate(full=True)
    if origin is not None and origin.family != table.name:
        yield Kind.NAME, f"it says that it is of {origin.family!r}"
    yield from ((Kind.VALUE, message) for message in table.validate(rows))
    for name in _INTERVALS[table.name]:
        yield from _interval_findings(rows, name)
    yield from _domain_findings(rows.to_pylist()) if table is DOMAIN_FIT else _vocabulary_findings(rows)


def _interval_findings(rows: pa.Table, name: str) -> Iterator[Finding]:
    """An interval has both ends or none, holds its estimate, and belongs to a level."""
    value, low, high = (rows[column].to_numpy() for column in (name, f"{name}_low", f"{name}_high"))
    if (np.isnan(low) != np.isnan(high)).any():
        yield Kind.VALUE, f"{name}: an interval with one end"
    with np.errstate(invalid="ignore"):
        slack = _ROUNDING * np.abs(value)
        is_outside = (low > value + slack) | (high < value - slack) | (np.isnan(value) & ~np.isnan(low))
    if is_outside.any():
        yield Kind.VALUE, f"{name}: outside its interval"
    if (~np.isnan(low) & rows["confidence"].is_null().to_numpy()).any():
        yield Kind.VALUE, f"{name}: an interval of no level"


# Domain fit


def _domain_findings(rows: list[dict[str, Any]]) -> Iterator[Finding]:
    keys = [(row["part"], row["domain"] is None, row["domain"] or "") for row in rows]
    if any(later <= earlier for earlier, later in pairwise(keys)):
        yield Kind.ORDER, "rows do not ascend by part, domain"
    parts = {part: [row for row in rows if row["part"] == part] for part in (ALL, DOMAIN, MACRO)}
    if sum(map(len, parts.values())) != len(rows) or len(parts[ALL]) != 1 or len(parts[MACRO]) != 1:
        yield Kind.VALUE, f"part: expected one {ALL}, one {MACRO}, and else {DOMAIN}"
        return
    if any(row["n_undefined"] > row["n_documents"] for row in rows):
        yield Kind.VALUE, "n_undefined: more than n_documents"
    if any(row["n_tokens"] > row["n_fed"] for row in rows):
        yield Kind.VALUE, "n_tokens: more than n_fed"
    yield from _total_findings(parts[ALL][0], parts[DOMAIN])


def _total_findings(every: dict[str, Any], domains: list[dict[str, Any]]) -> Iterator[Finding]:
    for name in _COUNTS:
        total = sum(row[name] or 0 for row in domains)
        if (every[name] or 0) != total:
            yield Kind.TOTAL, f"{name}: {every[name]} over all, {total} over domains"
    for name in _SHARES:
        shares = [row[name] for row in domains if row[name] is not None]
        if shares and not math.isclose(math.fsum(shares), 1, abs_tol=_ROUNDING):
            yield Kind.TOTAL, f"{name}: {math.fsum(shares):.6g} over domains, not 1"


# Vocabulary fit


def _vocabulary_findings(rows: pa.Table) -> Iterator[Finding]:
    ids = rows["token_id"].to_numpy()
    if (ids[1:] <= ids[:-1]).any():
        yield Kind.ORDER, "rows do not ascend by token_id"
    if pc.any(pc.greater(rows["n_documents"], rows["n"])).as_py():
        yield Kind.VALUE, "n_documents: more than n"
    shares = rows["loss_share"].drop_null().to_numpy()
    if len(shares) and not math.isclose(math.fsum(shares), 1, abs_tol=_ROUNDING):
        yield Kind.TOTAL, f"loss_share: {math.fsum(shares):.6g} over types, not 1"
