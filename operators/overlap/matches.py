"""What some documents of a corpus hold of a benchmark: n-grams, spans and cuts, as they are added up and written.

Matches of a block are encoded as one buffer: the same matches give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa

from operators.overlap.words import Ids
from schemas import REJECTS
from schemas.overlaps import DECONTAMINATION, OVERLAP_SPANS

SPANS = OVERLAP_SPANS.arrow()
CUTS = DECONTAMINATION.arrow()
REFUSED = REJECTS.arrow()
_SEEN = pa.schema([("seen", pa.int64())])
_COUNTS = "assay.counts"


@dataclass(frozen=True)
class MatchCounts:
    """documents: looked at. n_bytes, n_words: of these. hit_documents: those that hold an n-gram of the benchmark.

    n_common: n-grams by document that were seen, and are cut, but stand in too many places to start a span at each.
    """

    documents: int = 0
    n_bytes: int = 0
    n_words: int = 0
    hit_documents: int = 0
    n_common: int = 0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Matches:
    """`seen`: numbers of n-grams, ascending. `spans`, `cuts`: rows of `overlap_spans` and `decontamination`, sorted.

    `refused`: documents that the tokenizer did not take, rows of `rejects`; they are in no count.
    """

    seen: Ids
    spans: pa.Table
    cuts: pa.Table
    refused: pa.Table
    counts: MatchCounts

    @classmethod
    def none(cls) -> Matches:
        return cls(np.empty(0, np.int64), SPANS.empty_table(), CUTS.empty_table(), REFUSED.empty_table(), MatchCounts())

    @classmethod
    def joined(cls, parts: Iterable[Matches]) -> Matches:
        """Those of several sets of documents that share none."""
        held = [cls.none(), *parts]
        return cls(
            np.unique(np.concatenate([part.seen for part in held])),
            _sorted([part.spans for part in held], OVERLAP_SPANS.sorted_by),
            _sorted([part.cuts for part in held], DECONTAMINATION.sorted_by),
            _sorted([part.refused for part in held], REJECTS.sorted_by),
            sum((part.counts for part in held), MatchCounts()),
        )

    def encode(self) -> pa.Buffer:
        """All of it, as Arrow streams one after the other."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        counts = ",".join(map(str, astuple(self.counts)))
        seen = pa.table([pa.array(self.seen)], schema=_SEEN.with_metadata({_COUNTS: counts}))
        for table in (seen, self.spans, self.cuts, self.refused):
            with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
                writer.write_table(table.combine_chunks())
        return sink.getvalue()

    @classmethod
    def decode(cls, data: pa.Buffer | bytes) -> Matches:
        """What `encode` gave.

        Raises:
            ValueError: it is something else, or not whole.
        """
        source = pa.BufferReader(data)
        tables = []
        for schema in (_SEEN, SPANS, CUTS, REFUSED):
            with pa.ipc.open_stream(source) as reader:
                tables.append(reader.read_all())
            if not tables[-1].schema.equals(schema):
                raise ValueError(f"matches hold a table of columns {tables[-1].column_names}, not {schema.names}")
        counts = (tables[0].schema.metadata or {}).get(_COUNTS.encode(), b"")
        seen = np.asarray(tables[0]["seen"].to_numpy(), np.int64)
        _, spans, cuts, refused = tables
        return cls(seen, spans, cuts, refused, MatchCounts(*(int(count) for count in counts.decode().split(","))))


def refused_rows(rows: pa.Table, refused: Sequence[tuple[int, str, str]]) -> pa.Table:
    """Rows of `rejects` of those of `rows` (`key`, `source`, `row`) that a tokenizer refused: place, reason, detail."""
    chosen = rows.take(pa.array([place for place, _, _ in refused], pa.int64()))
    columns = {name: chosen[name] for name in ("key", "source", "row")} | {
        "reason": pa.array([reason for _, reason, _ in refused], pa.string()),
        "detail": pa.array([detail for _, _, detail in refused], pa.string()),
    }
    return _sorted([pa.table([columns[name] for name in REFUSED.names], schema=REFUSED)], REJECTS.sorted_by)


def _sorted(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    return pa.concat_tables(tables).sort_by([(name, "ascending") for name in names]).combine_chunks()
