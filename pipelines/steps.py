"""The operators of a scoring run, bound to its plan: each maps a block to a block and is the same under every engine.

    read      source  -> blocks of records, rejects included; rows that a resumed run already holds are left out
    tokenize  block   -> block   + ids and byte spans
    score     block   -> block   + statistics
    write     block   -> manifest: what was written, one row

Steps are small and pickle; what is heavy (tokenizer, model) is loaded on first use in the process that works.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from operators.read import ReadOptions, read_shard
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.write import PartWriter, WriteOptions

if TYPE_CHECKING:
    from pipelines.plan import Scoring, Source

# Schema metadata that travels with a block: how many records the reader put into it, and what the scorer says of
# itself.
ROWS_METADATA = b"assay.rows"
SCORER_METADATA = b"assay.scorer"


class LostRecordsError(RuntimeError):
    """A block came out with another number of records than the reader put in: a defect, never bad input."""


class ReadStep:
    """`done_in`: the lake and run whose rows are not to be read again, None for a new run."""

    def __init__(
        self, options: ReadOptions, done_in: tuple[Lake, str] | None, storage_options: dict[str, Any] | None
    ) -> None:
        self.options, self.done_in, self.storage_options = options, done_in, storage_options

    def __call__(self, source: Source) -> Iterator[pa.Table]:
        done: set[int] = set()
        if self.done_in is not None:
            lake, run_id = self.done_in
            done = lake.done_rows(run_id, source.shard.uri)
        for block in read_shard(source.shard, self.options, done=done, storage_options=self.storage_options):
            kept = block if source.stop is None else block.filter(pc.less(block["row"], source.stop))
            if len(kept):
                yield kept.replace_schema_metadata({ROWS_METADATA: str(len(kept))})
            if source.stop is not None and len(kept) < len(block):
                return


class TokenizeStep:
    """Loads the tokenizer of `folder` once a process."""

    def __init__(self, folder: str, options: TokenizeOptions, vocab_size: int) -> None:
        self.folder, self.options, self.vocab_size = folder, options, vocab_size

    def __call__(self, block: pa.Table) -> pa.Table:
        tokenized = _tokenizer(self.folder, self.options, self.vocab_size)(block)
        return tokenized.replace_schema_metadata(block.schema.metadata)


@functools.lru_cache(maxsize=2)
def _tokenizer(folder: str, options: TokenizeOptions, vocab_size: int) -> DocumentTokenizer:
    # Blocks are tokenized in parallel processes; threads inside each would only compete with the model.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return DocumentTokenizer.load(folder, options, vocab_size=vocab_size)


class ScoreStep:
    """Loads the model when made.

    On a CPU it computes with one thread, under every engine: with two, torch splits products so that rows round
    differently, and actors of one thread each are faster than one actor with several.
    """

    def __init__(self, scoring: Scoring) -> None:
        from operators.score import Scorer

        with _one_thread():
            self.scorer = Scorer(scoring.options())

    def __call__(self, block: pa.Table) -> pa.Table:
        with _one_thread():
            return self._score(block)

    def _score(self, block: pa.Table) -> pa.Table:
        model = self.scorer.model
        facts = {
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vocab_size": model.vocab_size,
            "packed": model.packed,
            "separate": model.separate,
        }
        metadata = {**(block.schema.metadata or {}), SCORER_METADATA: json.dumps(facts)}
        return self.scorer(block).replace_schema_metadata(metadata)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class WriteStep:
    """Writes a scored block to the lake; returns its manifest with what the scorer says of itself as schema
    metadata."""

    def __init__(self, options: WriteOptions) -> None:
        self.options = options

    def __call__(self, block: pa.Table) -> pa.Table:
        manifest = PartWriter(self.options)(block)
        metadata = block.schema.metadata or {}
        rows_in = int(metadata.get(ROWS_METADATA, b"-1"))
        rows_out = pc.sum(manifest["documents"]).as_py() + pc.sum(manifest["rejects"]).as_py()
        if rows_in != rows_out:
            raise LostRecordsError(f"{rows_in} records were read into a block and {rows_out} came out")
        return manifest.append_column("rows_in", pa.array([rows_in])).replace_schema_metadata(metadata)
