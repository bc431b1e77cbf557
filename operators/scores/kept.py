"""Keeps scores in the lake: one Parquet file a family of a run, or a learned detector, replaced as a whole.

    <lake>/scores/run_id=<run_id>/<digest of family or detector>.parquet

    ranges of doc_id -> rows sorted by (doc_id, variant) -> row groups of a local temporary file -> one whole write

Only a range and a row group are held in memory, besides what DuckDB holds of the range's tokens; to an object store the
finished file goes from memory, 8 bytes a score before compression. The file says which state of which runs and counts
it was made from, so that scores of an older state are found (`assay verify`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake, Part
from operators.score_cards import ScoreError
from operators.scores.compute import score_ranges
from operators.scores.origin import ORIGIN_KEY, Origin, corpus_state, parse_origin, run_state
from operators.scores.plan import ScorePlan
from schemas import SCORES

LEARNED = "learned"  # family of the detectors' scores

# What a range may hold: tokens that are ranked (see `operators.scores.compute`), and rows, 26 bytes each until written.
SLICE_TOKENS = 8_000_000
SLICE_ROWS = 8_000_000
ROW_GROUP_ROWS = 1 << 18

_TEXTS = ("family", "score", "variant", "parameters")
_SCHEMA = SCORES.arrow()


@dataclass(frozen=True)
class Kept:
    """A file that was written. `dropped`: variants that the file before had, and this one has not."""

    path: str
    family: str
    variants: tuple[str, ...]
    rows: int
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Labels:
    """What is the same for every row of a variant."""

    family: str
    score: str
    variant: str
    parameters: str


def slices_for(plan: ScorePlan, tokens: int, documents: int) -> int:
    """How many ranges to take, so that memory stays bounded. `tokens`: of the run; each companion has about as many."""
    runs = 1 + max((len(request.runs) for request in plan.requests), default=0)
    return max(1, -(-tokens * runs // SLICE_TOKENS), -(-documents * len(plan.requests) // SLICE_ROWS))


def keep_scores(lake: Lake, connection: duckdb.DuckDBPyConnection, plan: ScorePlan, slices: int = 1) -> list[Kept]:
    """Compute a plan and write one file for each family in it; what the run had of these families is replaced.

    Raises:
        ScoreError: a score gave a document twice. Nothing was written.
        OSError, ValueError: a run of the plan has no sound ledger, a corpus no counts; or the storage failed: then some
            families may have been replaced, each as a whole.
    """
    labels = {r.variant: _Labels(r.card.family, r.card.name, r.variant, r.parameters) for r in plan.requests}
    families = list(dict.fromkeys(each.family for each in labels.values()))
    origins = [_origin_of(lake, plan, family) for family in families]
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-scores-"))
        files = {
            origin.family: stack.enter_context(_SortedFile(Path(scratch) / origin.part_name, origin, labels))
            for origin in origins
        }
        for found in score_ranges(connection, plan, slices):
            for file in files.values():
                file.add({variant: found[variant] for variant in file.origin.variants})
        return [_publish(lake, plan.run_id, file) for file in files.values()]


def keep_detector(lake: Lake, run_id: str, scores: pa.Table | Iterable[pa.Table]) -> Kept:
    """Write the scores of one learned detector, columns of `schemas.SCORES`; its scores before are replaced.

    Raises:
        ScoreError: not one variant of the family `learned`, other columns, or a document twice. Nothing was written.
        OSError, ValueError: the run has no sound ledger, or the storage failed.
    """
    table = scores if isinstance(scores, pa.Table) else pa.concat_tables(list(scores))
    names = [name for name in SCORES.arrow(with_partitions=True).names if name not in table.column_names]
    if names:
        raise ScoreError(f"a detector gave no column {', '.join(names)}")
    same = table.select(_TEXTS).group_by(list(_TEXTS)).aggregate([]).to_pylist()
    if len(same) != 1 or same[0]["family"] != LEARNED:
        found = sorted({f"{each['family']} {each['variant']}" for each in same})
        raise ScoreError(f"a detector gives one variant of the family {LEARNED}, not {found}")
    labels = _Labels(*(same[0][name] for name in _TEXTS))
    state = run_state(lake.read_run(run_id))
    origin = Origin(LEARNED, (labels.variant,), {run_id: state}, detector=labels.variant)
    with (
        tempfile.TemporaryDirectory(prefix="assay-scores-") as scratch,
        _SortedFile(Path(scratch) / origin.part_name, origin, {labels.variant: labels}) as file,
    ):
        file.add({labels.variant: table.select(["doc_id", "value"])})
        return _publish(lake, run_id, file)


def _origin_of(lake: Lake, plan: ScorePlan, family: str) -> Origin:
    requests = sorted((r for r in plan.requests if r.card.family == family), key=lambda request: request.variant)
    runs = sorted({plan.run_id, *(run for request in requests for run in request.runs)})
    named = {str(r.values[c.name]) for r in requests for c in r.card.companions if c.kind == "frequencies"}
    states = {run: run_state(lake.read_run(run)) for run in runs}
    corpora = {corpus: corpus_state(lake, corpus) for corpus in sorted(named)}
    return Origin(family, tuple(r.variant for r in requests), states, corpora=corpora)


def _publish(lake: Lake, run_id: str, file: _SortedFile) -> Kept:
    """Put a finished file in the place of the one before, whole."""
    part = Part(SCORES.name, run_id, file.origin.part_name)
    before = _variants_of(lake, part)
    file.finish()
    lake.storage.write_file(part.path, file.path)
    dropped = tuple(variant for variant in before if variant not in file.origin.variants)
    return Kept(part.path, file.origin.family, file.origin.variants, file.rows, dropped)


def _variants_of(lake: Lake, part: Part) -> tuple[str, ...]:
    """The variants of a file that is there; none where it is not, or says nothing that can be read."""
    try:
        with lake.storage.parquet(part.path) as file:
            return parse_origin(file.schema_arrow).variants
    except (FileNotFoundError, ValueError, pa.ArrowException):
        return ()


class _SortedFile:
    """A local Parquet file of scores, written range by range. `labels`: by variant, those of its rows."""

    def __init__(self, path: Path, origin: Origin, labels: Mapping[str, _Labels]) -> None:
        self.path, self.origin, self.rows = path, origin, 0
        self._labels = [labels[variant] for variant in sorted(origin.variants)]
        schema = _SCHEMA.with_metadata({**_SCHEMA.metadata, ORIGIN_KEY: origin.metadata})
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=["doc_id", *_TEXTS],
            column_encoding={"value": "BYTE_STREAM_SPLIT"},
            write_statistics=["doc_id"],
            sorting_columns=pq.SortingColumn.from_ordering(schema, [(n, "ascending") for n in SCORES.sorted_by]),
            dictionary_pagesize_limit=1 << 23,
            write_page_checksum=True,
        )

    def __enter__(self) -> _SortedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def finish(self) -> None:
        self._writer.close()

    def add(self, found: Mapping[str, pa.Table]) -> None:
        """Add the rows of one range, `(doc_id, value)` by variant; ranges come in ascending order.

        Raises:
            ScoreError: a document has two values of one variant.
        """
        ids = np.concatenate([found[label.variant]["doc_id"].to_numpy() for label in self._labels])
        values = np.concatenate([_floats(found[label.variant]["value"]) for label in self._labels])
        sizes = [found[label.variant].num_rows for label in self._labels]
        place = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        order = np.lexsort((place, ids))
        ids, place, values = ids[order], place[order], values[order]
        twice = np.flatnonzero((ids[1:] == ids[:-1]) & (place[1:] == place[:-1]))
        if len(twice):
            variant = self._labels[place[twice[0]]].variant
            raise ScoreError(f"{variant} gave document {ids[twice[0]]} twice: a fault in its statement")
        for start in range(0, len(ids), ROW_GROUP_ROWS):
            rows = slice(start, start + ROW_GROUP_ROWS)
            self._writer.write_table(self._table(ids[rows], place[rows], values[rows]))
        self.rows += len(ids)

    def _table(
        self, ids: npt.NDArray[np.int64], place: npt.NDArray[np.int16], values: npt.NDArray[np.float64]
    ) -> pa.Table:
        columns: dict[str, Any] = {"doc_id": ids, "value": pa.array(values, mask=np.isnan(values))}
        for name in _TEXTS:
            texts = pa.array([getattr(label, name) for label in self._labels], pa.string())
            columns[name] = texts.take(pa.array(place))
        return pa.table([columns[name] for name in _SCHEMA.names], schema=self._writer.schema)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """NaN where NULL: a score that is not a number is not defined."""
    values: npt.NDArray[np.float64] = column.to_numpy()
    return values.astype(np.float64, copy=False)
