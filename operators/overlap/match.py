"""Matches documents with the index of a benchmark.

    block (flow.READ) -> words -> hashes of n-grams -> filter -> n-grams of that hash -> the same words? -> seen, cuts
                                                                                                        \\-> spans

Most documents stop at the filter. Where an n-gram's hash is known, the words of its document are numbered as the
benchmark's (`vocabulary`), and every n-gram of that hash is compared word by word: no result rests on a hash.

An n-gram of many places in the benchmark, or repeated a great deal in a document, is seen and cut like any other, but
starts a span at its first places in that document only, or at none (`OverlapOptions.most_items`): other spans are found
by their other n-grams, and reach through this one. So the work on a document is bounded by its distinct n-grams times
`most_items`, and a span is missed only where no n-gram of it may start one: `MatchCounts.n_common` says of how many.
While a document is matched it takes 20 to 25 times its bytes, 50 times where every character is a word (Han, Thai),
beyond a few batches of `BATCH_BYTES`: the reader's `max_document_bytes` bounds it.
On one core 87 MB/s of English text where little matches, 21 MB/s where each document quotes an item.
Shapes: `D` documents of a block, `W` words of all of them, `M` matched n-grams: places where one starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.diagonals import Numbers, Places, Sequence, Spans, differs, runs, spans
from operators.overlap.index import BenchmarkIndex
from operators.overlap.match_rows import Batch
from operators.overlap.matches import Matches
from operators.overlap.normalise import normaliser
from operators.overlap.options import OverlapOptions
from operators.overlap.vocabulary import UNKNOWN
from operators.overlap.words import Flags, Hashes, Ids, Words, gram_hashes, ranges
from operators.tokenize import DocumentTokenizer

BATCH_BYTES = 4 << 20  # of text matched at once, where documents are not larger
_READ = ("key", "source", "row")


@dataclass
class Matcher:
    """Maps a block of documents to what they hold of the benchmark. The index is opened when first asked."""

    folder: Path
    options: OverlapOptions
    tokenizer: DocumentTokenizer | None = None
    _index: BenchmarkIndex | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}

    @property
    def index(self) -> BenchmarkIndex:
        """The index, opened.

        Raises:
            OverlapError: it is not whole, or of other options.
        """
        if self._index is None:
            fingerprint = self.tokenizer.fingerprint if self.tokenizer else None
            self._index = BenchmarkIndex.open(self.folder, self.options, tokenizer=fingerprint)
        return self._index

    def __call__(self, block: pa.Table) -> Matches:
        """The matches of the documents of a block of schema `flow.READ`; its rejects are passed over."""
        rows = block.select([*_READ, "text"]).filter(pc.is_null(block["reason"]))
        texts = rows["text"].cast(pa.large_string()).combine_chunks()
        ends = np.cumsum(np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), np.int64))
        parts, first = [], 0
        while first < len(rows):
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + BATCH_BYTES, side="right")))
            parts.append(self._match(rows.slice(first, last - first), texts.slice(first, last - first)))
            first = last
        return parts[0] if len(parts) == 1 else Matches.joined(parts)

    def _match(self, rows: pa.Table, texts: pa.LargeStringArray) -> Matches:
        words, refused = normaliser(self.options, self.tokenizer)(texts)
        batch = Batch(rows, texts, words, refused)
        hash_W = words.hashed(self.options.hash_bits)
        places, first = self._known(words, gram_hashes(hash_W, self.options.n, self.options.hash_bits))
        if not len(places):
            return batch.nothing()
        texts_W = Sequence(self._numbers(words, hash_W, places), words.bounds)
        w_M, gram_M = self._verified(texts_W, places, first)
        starts_M, n_common = self._may_start(texts_W.part_of(w_M), gram_M)
        return batch.matches(
            self.index, self.options, (w_M, gram_M), self._spans(texts_W, w_M[starts_M], gram_M[starts_M]), n_common
        )

    def _known(self, words: Words, hashes: Hashes) -> tuple[Ids, Ids]:
        """The words from which an n-gram of a known hash starts, in one text; and the first n-gram of that hash."""
        places = np.flatnonzero(self.index.may_have(hashes))
        text = np.searchsorted(words.bounds, places, side="right") - 1
        places = places[places + self.options.n <= words.bounds[text + 1]]
        known, first = self.index.find(hashes[places])
        return places[known], first

    def _numbers(self, words: Words, hash_W: Hashes, places: Ids) -> Numbers:
        """The words of the texts that these are in, as the benchmark's; UNKNOWN elsewhere."""
        number_W = np.full(len(words), UNKNOWN, np.int32)
        text = np.unique(np.searchsorted(words.bounds, places, side="right") - 1)
        chosen = ranges(words.bounds[text], words.bounds[text + 1] - words.bounds[text])
        number_W[chosen] = self.index.vocabulary.find(words, hash_W, chosen)
        return number_W

    def _verified(self, texts: Sequence, places: Ids, gram: Ids) -> tuple[Ids, Ids]:
        """The places where n-grams of the benchmark do stand, ascending, and their numbers. `gram`: first to try."""
        index, n = self.index, self.options.n
        found = np.full(len(places), UNKNOWN, np.int64)
        left, hashes = np.arange(len(places)), index.hashes_G[gram]
        while len(left):
            differ = differs(
                texts.number, places[left], index.words_N, index.postings[index.firsts[gram]].astype(np.int64), n
            )
            found[left[~differ]] = gram[~differ]
            left, gram, hashes = left[differ], gram[differ] + 1, hashes[differ]
            more = (gram < index.n_grams) & (index.hashes_G[np.minimum(gram, index.n_grams - 1)] == hashes)
            left, gram, hashes = left[more], gram[more], hashes[more]
        held = found != UNKNOWN
        return places[held], found[held]

    def _may_start(self, text_M: Ids, gram_M: Ids) -> tuple[Flags, int]:
        """Which of the places may start a span; and how many n-grams (by text) have some that may not."""
        most = self.options.most_items // (self.index.firsts[gram_M + 1] - self.index.firsts[gram_M])
        order = np.lexsort((gram_M, text_M))  # stable: the places of an n-gram in a text stay in their order
        text, gram = text_M[order], gram_M[order]
        opens = np.ones(len(gram), np.bool_)
        opens[1:] = (text[1:] != text[:-1]) | (gram[1:] != gram[:-1])
        first = np.flatnonzero(opens)
        place = np.arange(len(gram)) - np.repeat(first, np.diff(np.append(first, len(gram))))
        starts = place < most[order]
        starts_M = np.empty(len(gram), np.bool_)
        starts_M[order] = starts
        return starts_M, len(np.unique(np.cumsum(opens)[~starts]))

    def _spans(self, texts: Sequence, w: Ids, gram: Ids) -> Spans:
        index = self.index
        items = Sequence(index.words_N, index.bounds)
        first = index.firsts[gram]
        places = Places(index.postings, first, index.firsts[gram + 1] - first)
        found = runs(w, places, self.options.n, texts, items)
        return spans(found, texts, items)
