"""Reads a benchmark and makes its index: the same readers as for a corpus, one record an item.

listing -> ids that repeat (where ids are given) -> blocks of records -> items -> index; rejects with their reason

The driver does it, front to back; a benchmark is small beside a corpus. A node folder then holds all that a worker
needs, and all that the driver says of the benchmark at the end:

    index/             as `operators.overlap.build_index` makes it
    tokenizer.json     where token ids are compared
    rejects.parquet    of schema `REJECTED`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.identity import doc_id
from operators.lake import Lake
from operators.overlap import ITEMS, build_index
from operators.pieces import Piece
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.tokenize_load import DEFINITION, load_tokenizer
from pipelines.claims import MemoryClaims
from pipelines.config import ConfigError
from pipelines.overlap.job import BENCHMARK, OverlapJob
from pipelines.overlap.receipts import REJECTED, rejected_rows
from pipelines.previous import Listing
from pipelines.probe import Dying
from pipelines.repeats import find_repeats
from pipelines.steps import ReadStep, Task
from pipelines.survey import KeysStep
from pipelines.units import Unit

INDEX, _REJECTS = "index", "rejects.parquet"
# The text alone is compared, and what spells a special token is plain text in a corpus.
_TOKENIZE = TokenizeOptions(bos="never", special_tokens="literal")


def make_index(job: OverlapJob, listing: Listing, scratch: Lake, folder: Path) -> None:
    """Read the benchmark and fill a node folder.

    Raises:
        ConfigError: it has no item, or none with the answer asked for. StorageError: it could not be read.
    """
    if job.tokenizer is not None:
        load_tokenizer(job.tokenizer).save(str(folder / DEFINITION))
    reader = ItemReader(job, listing, scratch)
    with build_index(reader, folder / INDEX, job.options, tokenizer_of(folder), reader.refuse):
        pass
    pq.write_table(reader.rejects, folder / _REJECTS, compression="zstd")


def tokenizer_of(folder: Path) -> DocumentTokenizer | None:
    """The tokenizer of a node folder; None where words are compared."""
    path = folder / DEFINITION
    return load_for_overlap(path) if path.is_file() else None


def load_for_overlap(path: Path) -> DocumentTokenizer:
    """A tokenizer that gives a text's own ids.

    Raises:
        ValueError, OSError: there is none that can be read.
    """
    return DocumentTokenizer.load(path, _TOKENIZE)


def benchmark_rejects(folder: Path) -> pa.Table:
    """The records of the benchmark that are no items, as `REJECTED`."""
    return pq.read_table(folder / _REJECTS).cast(REJECTED)


@dataclass
class ItemReader:
    """Iterated once, it yields tables of schema `ITEMS`; then `rejects` (schema `REJECTED`) are known.

    `scratch`: where the records are kept whose id an earlier one has. `n_items`: without what was refused meanwhile.
    """

    job: OverlapJob
    listing: Listing
    scratch: Lake
    n_items: int = 0
    n_answers: int = 0
    rejects: pa.Table = field(default_factory=REJECTED.empty_table)

    def __iter__(self) -> Iterator[pa.Table]:
        """Raises ConfigError after the last item where the benchmark has none, or none has the answer asked for."""
        options, storage = self.job.read_options(BENCHMARK), self.job.benchmark.storage_options
        unit, claims = Unit(0, tuple(Piece(shard) for shard in self.listing.shards)), MemoryClaims()
        repeats: tuple[int, ...] = ()
        if options.id_column is not None:
            keys = KeysStep(options, storage, claims, Dying())
            repeats = find_repeats(self.scratch, BENCHMARK, [unit], keys(unit)).get(0, ())
        read = ReadStep(options, self.scratch, BENCHMARK, storage, claims)
        for block in read(Task(unit, repeats=repeats)):
            self._reject(block.filter(pc.is_valid(block["reason"])))
            items = self._items(block.filter(pc.is_null(block["reason"])))
            if len(items):
                yield items
        self._check()

    def refuse(self, rows: pa.Table) -> None:
        """Take items back that were yielded: rows of `rejects`."""
        self.n_items -= len(rows)
        self._reject(rows)

    def _reject(self, rows: pa.Table) -> None:
        if len(rows):
            self.rejects = pa.concat_tables([self.rejects, rejected_rows(rows, BENCHMARK)])

    def _items(self, records: pa.Table) -> pa.Table:
        keys = records["key"].to_pylist()
        answers = [_answer(attributes) for attributes in records["attributes"].to_pylist()]
        self.n_items += len(keys)
        self.n_answers += sum(answer is not None for answer in answers)
        columns = {
            "item_id": pa.array([doc_id(key) for key in keys], pa.int64()),
            "key": records["key"],
            "source": records["source"],
            "row": records["row"],
            "input": records["text"].cast(pa.large_string()),
            "answer": pa.array(answers, pa.large_string()),
        }
        return pa.table(columns).select(ITEMS.names).cast(ITEMS)

    def _check(self) -> None:
        if not self.n_items:
            first = self.rejects.slice(0, 1).to_pylist()
            why = f"; the first of {len(self.rejects):,} rejects: {_said(first[0])}" if first else ""
            raise ConfigError(f"--benchmark: it holds no item{why}")
        column = self.job.answer_column
        if column is not None and not self.n_answers:
            raise ConfigError(f"--answer-column {column}: no item of the benchmark has it; leave it out, or correct it")


def _answer(attributes: list[tuple[str, str]] | None) -> str | None:
    """The one column that is kept beside the text; other values than strings as JSON, an empty string as none."""
    return attributes[0][1] or None if attributes else None


def _said(reject: dict[str, object]) -> str:
    return f"{reject['source']}#{reject['row']}: {reject['reason']}: {reject['detail'] or ''}".rstrip(": ")
