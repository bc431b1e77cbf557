"""Rows of what documents hold of a benchmark: their spans, what to cut out of them, and their counts.

Shapes: `D` documents of a batch, `M` matched n-grams, `R` spans, `K` cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.identity import doc_id
from operators.overlap.cuts import cuts, dropped, item_shares, widened
from operators.overlap.diagonals import Sequence, Spans
from operators.overlap.index import BenchmarkIndex
from operators.overlap.matches import CUTS, SPANS, MatchCounts, Matches, refused_rows
from operators.overlap.options import OverlapOptions
from operators.overlap.words import Bytes, Ids, Words
from schemas.overlaps import DECONTAMINATION, OVERLAP_SPANS

INPUT, ANSWER, ACROSS, ALL = "input", "answer", "across", "all"


@dataclass(frozen=True)
class Batch:
    """Documents: `rows` (`key`, `source`, `row`), their texts and words. `refused`: place, reason and detail."""

    rows: pa.Table
    texts: pa.LargeStringArray
    words: Words
    refused: list[tuple[int, str, str]]

    @cached_property
    def document_bytes(self) -> Ids:
        """`(D,)`: bytes of each text."""
        return np.asarray(pc.binary_length(self.texts).to_numpy(zero_copy_only=False), np.int64)

    def nothing(self) -> Matches:
        none = Matches.none()
        return Matches(none.seen, none.spans, none.cuts, refused_rows(self.rows, self.refused), self._counts(0, 0))

    def matches(
        self, index: BenchmarkIndex, options: OverlapOptions, held: tuple[Ids, Ids], found: Spans, n_common: int
    ) -> Matches:
        """`held`: the words where n-grams of the benchmark start, ascending, and the numbers of these. `(M,)`"""
        w_M, gram_M = held
        cut_rows = self._cut_rows(index, options, w_M, found)
        n_hit = len(np.unique(self._document(w_M)))
        counts = self._counts(n_hit, n_common)
        return Matches(
            np.unique(gram_M), self._span_rows(index, found), cut_rows, refused_rows(self.rows, self.refused), counts
        )

    def _document(self, w: Ids) -> Ids:
        return np.searchsorted(self.words.bounds, w, side="right") - 1

    def _text(self, d: int) -> Bytes:
        """The bytes of text d."""
        return np.frombuffer(self.texts[d].as_buffer() or b"", np.uint8)

    def _counts(self, n_hit: int, n_common: int) -> MatchCounts:
        taken = np.ones(len(self.rows), np.bool_)
        taken[[place for place, _, _ in self.refused]] = False
        return MatchCounts(int(taken.sum()), int(self.document_bytes[taken].sum()), len(self.words), n_hit, n_common)

    def _of_documents(self, documents: Ids) -> dict[str, Any]:
        return {name: self.rows[name].take(pa.array(documents)) for name in ("key", "source", "row")}

    def _identities(self, documents: Ids) -> dict[str, Any]:
        """The columns that say which document a row is about."""
        columns = self._of_documents(documents)
        chosen, place = np.unique(documents, return_inverse=True)
        keys = self.rows["key"].take(pa.array(chosen)).to_pylist()
        ids = np.array([doc_id(key) for key in keys], np.int64)
        return columns | {"doc_id": pa.array(ids[place])}

    def _span_rows(self, index: BenchmarkIndex, found: Spans) -> pa.Table:
        """`overlap_spans`: a row for every span of at least a byte (tokens may have none)."""
        words = self.words
        start, end = words.start_W[found.w], words.end_W[found.w_end - 1]
        document, item = self._document(found.w), index.items_of(found.p)
        border = index.bounds[item] + index.inputs_I[item]
        part = np.where(found.p >= border, ANSWER, np.where(found.p + len_of(found) <= border, INPUT, ACROSS))
        columns = self._identities(document) | {
            "byte_start": pa.array(start),
            "n_bytes": pa.array(end - start),
            "text": pa.array(self._pieces(document, start, end), pa.string()),
            "item_id": pa.array(np.asarray(index.item_ids_I[item])),
            "part": pa.array(part.tolist(), pa.string()),
            "item_word": pa.array(found.p - index.bounds[item]),
            "n_words": pa.array(len_of(found)),
        }
        table = pa.table([columns[name] for name in SPANS.names], schema=SPANS).filter(pa.array(end > start))
        return table.sort_by([(name, "ascending") for name in OVERLAP_SPANS.sorted_by])

    def _pieces(self, document: Ids, start: Ids, end: Ids) -> list[str]:
        texts = {d: self._text(d) for d in np.unique(document).tolist()}
        places = zip(document.tolist(), start.tolist(), end.tolist(), strict=True)
        return [texts[d][first:last].tobytes().decode() for d, first, last in places]

    def _cut_rows(self, index: BenchmarkIndex, options: OverlapOptions, w_M: Ids, found: Spans) -> pa.Table:
        """`decontamination`: a row for every cut, with the verdict on its document."""
        document = self._document(w_M)
        start, end = self.words.start_W[w_M].copy(), self.words.end_W[w_M + options.n - 1].copy()
        if options.margin:
            opens = np.flatnonzero(np.append(True, document[1:] != document[:-1]))
            for first, last in zip(opens, np.append(opens[1:], len(document)), strict=True):
                text = self._text(int(document[first]))
                start[first:last], end[first:last] = widened(text, start[first:last], end[first:last], options.margin)
        cut = cuts(document, w_M, options.n, start, end)
        texts, items = Sequence(index.words_N[:0], self.words.bounds), Sequence(index.words_N, index.bounds)
        shares = item_shares(found, texts, items, options.n)
        drop_D = dropped(options.rule, cut, self.document_bytes, shares)
        columns = self._identities(cut.document) | {
            "byte_start": pa.array(cut.start),
            "n_bytes": pa.array(cut.end - cut.start),
            "document_bytes": pa.array(self.document_bytes[cut.document]),
            "drop_document": pa.array(drop_D[cut.document]),
            "rule": pa.array([options.rule.canonical] * len(cut.document), pa.string()),
        }
        table = pa.table([columns[name] for name in CUTS.names], schema=CUTS).filter(pa.array(cut.end > cut.start))
        return table.sort_by([(name, "ascending") for name in DECONTAMINATION.sorted_by])


def len_of(found: Spans) -> Ids:
    """Words of each span."""
    return found.w_end - found.w
