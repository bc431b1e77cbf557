"""Keeps windows and spans in the lake: one Parquet file a context, or a kind, of a run, replaced as a whole.

    <lake>/extractions/run_id=<run_id>/<digest of the context>.parquet
    <lake>/spans/run_id=<run_id>/<digest of the kind>.parquet

As with scores (operators/scores/kept.py) a range of doc_id is held in memory, and the file says which state of which
runs it was made from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake, Part
from operators.memorization.extractions import extraction_tables
from operators.memorization.search import Search
from operators.memorization.spans import span_tables
from operators.scores.origin import ORIGIN_KEY, Origin, run_state
from schemas import EXTRACTIONS, SPANS, Table

ROW_GROUP_ROWS = 1 << 18

_FLOATS = ("logprob_sum", "logprob_sampled")
_PLAIN = ("position", "byte_start", "n_bytes")  # as many values as rows: no dictionary


@dataclass(frozen=True)
class KeptRows:
    """A file that was written: the context or the kind that it holds, and its rows."""

    path: str
    what: str
    rows: int


def keep_extractions(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    context: str,
    scored_runs: Sequence[str],
    search: Search,
    slices: int = 1,
) -> KeptRows:
    """Find every window of one context and write its file, in the place of what the run had of this context.

    Raises:
        duckdb.Error: DuckDB failed on a statement. Nothing was written.
        OSError, ValueError: a run has no sound ledger, or the storage failed.
    """
    tables = extraction_tables(connection, context, scored_runs, search, slices)
    runs = sorted({run_id, *scored_runs})
    return _keep(lake, EXTRACTIONS, run_id, _origin(lake, context, search.sampling, runs), tables)


def keep_spans(
    lake: Lake, connection: duckdb.DuckDBPyConnection, run_id: str, kind: str, search: Search, slices: int = 1
) -> KeptRows:
    """Find every span of one kind and write its file, in the place of what the run had of this kind.

    Raises:
        duckdb.Error, OSError, ValueError: as `keep_extractions`.
    """
    tables = span_tables(connection, run_id, kind, search, slices)
    return _keep(lake, SPANS, run_id, _origin(lake, kind, search.span_parameters(kind), [run_id]), tables)


def drop_extractions(lake: Lake, run_id: str, context: str) -> bool:
    """Remove what a run has of one context; whether there was any."""
    part = Part(EXTRACTIONS.name, run_id, Origin(context, (), {}).part_name)
    is_there = part in lake.parts(EXTRACTIONS.name, run_id)
    lake.storage.delete(part.path)
    return is_there


def _origin(lake: Lake, what: str, parameters: str, runs: Sequence[str]) -> Origin:
    return Origin(what, (parameters,), {run: run_state(lake.read_run(run)) for run in runs})


def _keep(lake: Lake, table: Table, run_id: str, origin: Origin, rows: Iterable[pa.Table]) -> KeptRows:
    part = Part(table.name, run_id, origin.part_name)
    declared = table.arrow()
    schema = declared.with_metadata({**declared.metadata, ORIGIN_KEY: origin.metadata})
    floats = [name for name in _FLOATS if name in schema.names]
    count = 0
    with tempfile.TemporaryDirectory(prefix="assay-memorization-") as scratch:
        path = Path(scratch) / part.name
        with pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[name for name in schema.names if name not in (*floats, *_PLAIN)],
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            sorting_columns=pq.SortingColumn.from_ordering(schema, [(n, "ascending") for n in table.sorted_by]),
            write_page_checksum=True,
        ) as writer:
            for each in rows:
                writer.write_table(each.cast(schema), row_group_size=ROW_GROUP_ROWS)
                count += len(each)
        lake.storage.write_file(part.path, path)
    return KeptRows(part.path, origin.family, count)
