"""From the words of every candidate to its share: what needs all of a corpus at once, a task a corpus; then the solver.

    words of a corpus, in scratch --HistoryStep--> counts of its pairs at every merge --+
                                                                                        v
                                                               linear program (driver): `infer_mixture`
                                                                                        |
    words of a corpus, in scratch --GroupStep----> counts by group of what decided <----+
                                      `sample_mixture`: intervals, what cannot be told apart, misfit

Words go through the lake's scratch rather than with the tasks: a retried task finds them again, and the driver holds
those of one corpus at a time.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake
from operators.merges import Bpe, WordCounts, group_counts, pair_history
from pipelines.surveyors import Surveyor

_NAME, _PEAK = b"assay.corpus", b"assay.peak"
_RESULT = "result"


@dataclass(frozen=True)
class Kept:
    """The words of one corpus in the scratch of a lake."""

    corpus: str
    path: str

    def write(self, lake: Lake, words: WordCounts) -> None:
        written = io.BytesIO()
        pq.write_table(words.to_table(), written, compression="zstd")
        lake.storage.write(self.path, written.getvalue())

    def read(self, lake: Lake) -> WordCounts:
        return WordCounts.from_table(pq.read_table(io.BytesIO(lake.storage.read(self.path))))


@dataclass(frozen=True)
class HistoryStep:
    """kept words -> `PairHistory`."""

    lake: Lake
    bpe: Bpe
    max_merges: int

    def __call__(self, kept: Kept) -> Iterator[pa.Table]:
        yield _packed(kept, pair_history(self.bpe, kept.read(self.lake), max_merges=self.max_merges))


@dataclass(frozen=True)
class GroupStep:
    """kept words -> `GroupCounts` of what `infer_mixture` asks for."""

    lake: Lake
    bpe: Bpe
    queries: Any

    def __call__(self, kept: Kept) -> Iterator[pa.Table]:
        yield _packed(kept, group_counts(self.bpe, kept.read(self.lake), self.queries))


def peak_mib() -> float:
    """The most memory that this process has held, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def each_corpus(
    step: Callable[[Kept], Iterator[pa.Table]], kept: list[Kept], surveyor: Surveyor
) -> tuple[Mapping[str, Any], float]:
    """What `step` makes of every corpus, by name, in the order of `kept`; and the peak MiB of its largest process."""
    survey: Any = surveyor.survey  # of units, says its type; it hands on whatever can be pickled
    found: dict[str, Any] = {}
    peak = 0.0
    for table in survey(step, kept):
        # Ours to unpickle: what the tasks of this command packed.
        found[table.schema.metadata[_NAME].decode()] = pickle.loads(table[_RESULT][0].as_py())
        peak = max(peak, float(table.schema.metadata[_PEAK]))
    return {each.corpus: found[each.corpus] for each in kept}, peak


def _packed(kept: Kept, result: Any) -> pa.Table:
    rows = pa.table({_RESULT: pa.array([pickle.dumps(result, protocol=5)], pa.large_binary())})
    return rows.replace_schema_metadata({_NAME: kept.corpus, _PEAK: str(peak_mib())})
