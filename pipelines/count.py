"""The counts of a unit's tokens, as `tally` adds them up.

block -> tokenize -> counts of the unit -> one table, whose metadata says of how many documents
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from operators.token_counts import CountOptions, TokenCounts
from pipelines.steps import TokenizeStep
from pipelines.tally import Reasons, Rejected

_DOCUMENTS = b"assay.documents"


@dataclass(frozen=True)
class TokenWork:
    """Begins the counts of a unit."""

    tokenize: TokenizeStep
    options: CountOptions

    def begin(self) -> UnitCounts:
        return UnitCounts(self, TokenCounts.none(self.options.width))


@dataclass
class UnitCounts:
    """The counts of a unit, as far as it is read."""

    work: TokenWork
    counts: TokenCounts

    def add(self, block: pa.Table) -> pa.Table:
        tokenized = self.work.tokenize(block)
        self.counts.add_block(tokenized, self.work.options)
        return tokenized

    def tables(self) -> Iterator[pa.Table]:
        yield self.counts.rows().replace_schema_metadata({_DOCUMENTS: str(self.counts.documents)})


@dataclass
class Counted:
    """What was counted of a corpus, and why the rest was not."""

    counts: TokenCounts
    rejected: Rejected = field(default_factory=Rejected)

    def add(self, tables: Sequence[pa.Table]) -> None:
        """Add what came of a unit."""
        for table in tables:
            self.counts.add_rows(table, int(table.schema.metadata[_DOCUMENTS]))

    @property
    def rejects(self) -> Reasons:
        return self.rejected.reasons
