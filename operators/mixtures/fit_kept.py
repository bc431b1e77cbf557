"""Keeps domain fit and vocabulary fit in the lake: one Parquet file a table of a run, replaced as a whole.

    <lake>/domain_fit/run_id=<run_id>/<digest of the table>.parquet
    <lake>/vocabulary_fit/run_id=<run_id>/<digest of the table>.parquet

The file says with what settings, and of which state of its run, it was made: `assay verify` finds those of an earlier.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake, Part
from operators.scores.origin import ORIGIN_KEY, Origin, State
from schemas import Table

ROW_GROUP_ROWS = 1 << 18


def keep_fit(
    lake: Lake, table: Table, run_id: str, rows: pa.Table, *, settings: Mapping[str, Any], state: State
) -> str:
    """Write the rows of one table of a run in the place of what it had, and return the path, relative to the lake.

    settings: what the numbers depend on besides the run, for JSON. state: of the run, read before its rows were, so
    that a run replaced meanwhile is found.

    Raises:
        ValueError: rows break the schema.
        OSError: the storage failed; what was there is there still, or nothing is.
    """
    if faults := table.validate(rows):
        raise ValueError("; ".join(faults))
    origin = Origin(table.name, (json.dumps(settings, sort_keys=True),), {run_id: state})
    part = Part(table.name, run_id, origin.part_name)
    declared = table.arrow()
    schema = declared.with_metadata({**declared.metadata, ORIGIN_KEY: origin.metadata})
    with tempfile.TemporaryDirectory(prefix="assay-fit-") as scratch:
        path = Path(scratch) / part.name
        pq.write_table(rows.cast(schema), path, compression="zstd", row_group_size=ROW_GROUP_ROWS,
                       write_page_checksum=True)  # fmt: skip
        lake.storage.write_file(part.path, path)
    return part.path
