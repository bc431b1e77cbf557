"""Counts the words of a corpus as a tokenizer cuts them, apart for each group of documents.

    texts -> normaliser -> pre-tokenizer -> word, group, n          (a word: what no merge can cross)

Words are all that merging sees of a corpus: text of some GB has a few million of them. Documents fall into `GROUPS`
groups by their id, so that a corpus can be resampled by whole documents later (`samples.py`).

How a text is cut is in `cutting.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.merges.bpe import Bpe, Integers
from operators.merges.cutting import cutter

GROUPS = 32

WORDS = pa.schema([("word", pa.large_string()), ("group", pa.int16()), ("n", pa.int64())])
METADATA = b"assay.words"


@dataclass(frozen=True)
class WordCounts:
    """`rows` (`WORDS`, by word and group), and of each group its documents and their bytes of UTF-8.

    `left_out`: occurrences of words that were dropped for want of memory.
    """

    rows: pa.Table
    n_bytes: Integers
    n_documents: Integers
    left_out: int = 0

    @classmethod
    def none(cls) -> WordCounts:
        return cls(WORDS.empty_table(), np.zeros(GROUPS, np.int64), np.zeros(GROUPS, np.int64))

    def add(self, other: WordCounts) -> WordCounts:
        return sum_words((self, other))

    def pruned(self, max_words: int) -> WordCounts:
        """At most `max_words` words: the most frequent, those of equal counts by their text."""
        totals = self.rows.group_by("word").aggregate([("n", "sum")])
        if len(totals) <= max_words:
            return self
        kept = totals.sort_by([("n_sum", "descending"), ("word", "ascending")])["word"].slice(0, max_words)
        rows = self.rows.filter(pc.is_in(self.rows["word"], kept.combine_chunks()))
        dropped = int(pc.sum(self.rows["n"]).as_py()) - int(pc.sum(rows["n"]).as_py() or 0)
        return WordCounts(rows, self.n_bytes, self.n_documents, self.left_out + dropped)

    def to_table(self) -> pa.Table:
        """`rows`, with the rest as metadata `METADATA`."""
        facts = {"n_bytes": self.n_bytes.tolist(), "n_documents": self.n_documents.tolist(), "left_out": self.left_out}
        return self.rows.replace_schema_metadata({METADATA: json.dumps(facts)})

    @classmethod
    def from_table(cls, table: pa.Table) -> WordCounts:
        facts = json.loads(table.schema.metadata[METADATA])
        n_bytes, n_documents = (np.asarray(facts[name], np.int64) for name in ("n_bytes", "n_documents"))
        return cls(table.select(WORDS.names).cast(WORDS), n_bytes, n_documents, int(facts["left_out"]))

    def matrix(self) -> tuple[pa.Array, Integers]:
        """The words [W], and how often each is in each group [W, G]."""
        coded = self.rows["word"].combine_chunks().dictionary_encode()
        words, place = coded.dictionary, coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        counts = np.zeros((len(words), GROUPS), np.int64)
        np.add.at(counts, (place, self.rows["group"].to_numpy()), self.rows["n"].to_numpy())
        return words, counts


def sum_words(parts: Iterable[WordCounts]) -> WordCounts:
    """The words of all parts together, the same in whatever order they come."""
    held = [WordCounts.none(), *parts]
    rows = pa.concat_tables([part.rows.cast(WORDS) for part in held]).combine_chunks()
    rows = rows.group_by(["word", "group"]).aggregate([("n", "sum")]).rename_columns({"n_sum": "n"})
    return WordCounts(
        rows.select(WORDS.names).cast(WORDS).sort_by([("word", "ascending"), ("group", "ascending")]),
        np.sum([part.n_bytes for part in held], axis=0),
        np.sum([part.n_documents for part in held], axis=0),
        sum(part.left_out for part in held),
    )


def word_counts(bpe: Bpe, texts: Sequence[str] | pa.Array, groups: Sequence[int] | Integers) -> WordCounts:
    """The words of documents.

    Args:
        bpe: whose words.
        texts: a document each.
        groups: of each document, any integer: its group is that modulo `GROUPS` (a `doc_id` serves).

    Raises:
        BpeError: the tokenizer's normaliser or pre-tokenizer is not one that `tokenizers` can run.
    """
    cut = cutter(bpe.text)
    held: dict[int, list[str]] = {}
    n_bytes, n_documents = np.zeros(GROUPS, np.int64), np.zeros(GROUPS, np.int64)
    for text, key in zip(_strings(texts), groups, strict=True):
        group = int(key) % GROUPS
        held.setdefault(group, []).append(text)
        n_bytes[group] += len(text.encode())
        n_documents[group] += 1
    counts = {group: cut.count(held[group]) for group in sorted(held)}
    rows = [pa.table([list(c), np.full(len(c), g), list(c.values())], schema=WORDS) for g, c in counts.items() if c]
    return sum_words([WordCounts(pa.concat_tables(rows) if rows else WORDS.empty_table(), n_bytes, n_documents)])


def _strings(texts: Sequence[str] | pa.Array) -> Sequence[str]:
    return texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts
