"""What one unit of a candidate corpus comes to: how much text there is, by hash, or the words of its sample.

WeighWork   block -> bytes by bin (`sample.Weight`)          -> one table
WordWork    block -> pieces of the sample, groups -> words   -> one table
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from operators.merges import Bpe, WordCounts, sum_words, word_counts
from pipelines.mixture.sample import Draw, Weight, drawn

_TOGETHER = 16  # counts of blocks or units that are added up at once


@dataclass(frozen=True)
class WeighWork:
    """Begins the weighing of a unit."""

    draw: Draw

    def begin(self) -> UnitWeight:
        return UnitWeight(self.draw, Weight.none())


@dataclass
class UnitWeight:
    """What a unit weighs, as far as it is read."""

    draw: Draw
    weight: Weight

    def add(self, block: pa.Table) -> pa.Table:
        self.weight.add_block(block, self.draw)
        return block

    def tables(self) -> Iterator[pa.Table]:
        yield self.weight.table()


@dataclass(frozen=True)
class WordWork:
    """Begins the word counts of a unit's sample."""

    bpe: Bpe
    draw: Draw

    def begin(self) -> UnitWords:
        return UnitWords(self, WordSum())


@dataclass
class WordSum:
    """Word counts added up in batches: each sum sorts all words, so single ones would cost their square.

    Nothing is left out on the way, so the order of what is added changes nothing; the sample's size bounds the memory.
    """

    parts: list[WordCounts] = field(default_factory=list)

    def add(self, counts: WordCounts) -> None:
        self.parts.append(counts)
        if len(self.parts) >= _TOGETHER:
            self.parts = [self.whole()]

    def add_tables(self, tables: Sequence[pa.Table]) -> None:
        """Add what came of a unit."""
        for table in tables:
            self.add(WordCounts.from_table(table))

    def whole(self) -> WordCounts:
        return sum_words(self.parts)


@dataclass
class UnitWords:
    """The words of a unit's sample, as far as it is read."""

    work: WordWork
    words: WordSum

    def add(self, block: pa.Table) -> pa.Table:
        pieces, groups = drawn(block, self.work.draw)
        if pieces:
            self.words.add(word_counts(self.work.bpe, pieces, groups))
        return block

    def tables(self) -> Iterator[pa.Table]:
        yield self.words.whole().to_table()
