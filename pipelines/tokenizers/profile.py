"""The profile of a unit, as `tally` adds them up: each document is read once and cut by every tokenizer.

block -> `Profiler`: counts by tokenizer and domain -> one table; with parallel text a second one, a row a document
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from operators.tokenizer_statistics.counts import ProfileCounts
from operators.tokenizer_statistics.probe import ProfileOptions, TokenizerProbe
from operators.tokenizer_statistics.profiler import Profiler
from pipelines.tokenizers.parallel import Aligner, text_rows, texts_schema
from pipelines.tokenizers.sources import NamedTokenizer

_SIZES = b"assay.sizes"


@dataclass(frozen=True)
class ProfileWork:
    """Begins the profile of a unit. `parallel_column`: the column of the ids that translations share."""

    tokenizers: tuple[NamedTokenizer, ...]
    options: ProfileOptions
    parallel_column: str | None = None

    def begin(self) -> UnitProfile:
        profiler = load_profiler(self.tokenizers, self.options)
        return UnitProfile(self, profiler, profiler.none())


@functools.lru_cache(maxsize=1)
def load_profiler(tokenizers: tuple[NamedTokenizer, ...], options: ProfileOptions) -> Profiler:
    """The tokenizers, loaded once a process.

    Raises:
        FileNotFoundError, ValueError: one of them cannot be loaded (any more, or on this node).
    """
    # Units are read in parallel processes; threads inside each would only compete.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return Profiler([TokenizerProbe.load(each.name, each.path, options) for each in tokenizers])


@dataclass
class Sizes:
    """Documents and bytes of UTF-8 by domain; None stands for no domain."""

    documents: Counter[str | None] = field(default_factory=Counter)
    n_bytes: Counter[str | None] = field(default_factory=Counter)

    def add_texts(self, texts: pa.Table) -> None:
        by_domain = pa.table({"domain": texts["domain"], "n": pc.binary_length(texts["text"]).cast(pa.int64())})
        for row in by_domain.group_by("domain").aggregate([("n", "sum"), ("n", "count")]).to_pylist():
            self.documents[row["domain"]] += row["n_count"]
            self.n_bytes[row["domain"]] += row["n_sum"]

    def encode(self) -> bytes:
        return json.dumps([[domain, n, self.n_bytes[domain]] for domain, n in self.documents.items()]).encode()

    def add_encoded(self, encoded: bytes) -> None:
        for domain, n, n_bytes in json.loads(encoded):
            self.documents[domain] += n
            self.n_bytes[domain] += n_bytes

    @property
    def largest(self) -> str | None:
        """The domain of most documents, of several the first by name; None where no document has one."""
        named = [(-n, domain) for domain, n in self.documents.items() if domain is not None]
        return min(named)[1] if named else None


@dataclass
class UnitProfile:
    """The profile of a unit, as far as it is read. `sizes`: documents and bytes of text by domain."""

    work: ProfileWork
    profiler: Profiler
    counts: ProfileCounts
    sizes: Sizes = field(default_factory=Sizes)
    texts: list[pa.Table] = field(default_factory=list)

    def add(self, block: pa.Table) -> pa.Table:
        outcome = self.profiler.count(block, self.counts)
        counted = block.select(["domain", "text"]).take(pa.array(outcome.rows))
        self.sizes.add_texts(counted)
        if self.work.parallel_column is not None:
            column, seed = self.work.parallel_column, self.work.options.seed
            self.texts.append(text_rows(block, outcome.rows, outcome.tokens, column, seed))
        return outcome.rejects

    def tables(self) -> Iterator[pa.Table]:
        yield self.counts.table().replace_schema_metadata({_SIZES: self.sizes.encode()})
        if self.work.parallel_column is not None:
            empty = texts_schema(len(self.work.tokenizers)).empty_table()
            yield pa.concat_tables([empty, *self.texts])


@dataclass
class Profiled:
    """What the units came to together. `aligner`: takes in parallel text."""

    counts: ProfileCounts
    aligner: Aligner | None = None
    sizes: Sizes = field(default_factory=Sizes)

    def add(self, tables: Sequence[pa.Table]) -> None:
        """Add what came of a unit."""
        counts, *texts = tables
        self.counts.add(counts)
        self.sizes.add_encoded(counts.schema.metadata[_SIZES])
        if self.aligner is not None:
            for table in texts:
                self.aligner.add(table)
