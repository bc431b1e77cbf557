"""The operators of a scoring run, bound to its plan: each maps a block to a block and is the same under every engine.

    read      task    -> blocks of records, rejects included; blocks that a resumed run already holds are left out
    tokenize  block   -> block   + ids and byte spans; of a transformed run, texts are changed before
    score     block   -> block   + statistics
    write     block   -> manifest: what was written, one row

Steps are small and pickle; what is heavy (tokenizer, model) is loaded on first use in the process that works. Which
block of which unit a table is travels with it as schema metadata.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, ledger_path
from operators.model_places import ModelPlace
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.threads import one_thread
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.transform import BlockTransform
from operators.write import PartWriter, WriteOptions
from pipelines.claims import Claims
from pipelines.consumed import Consumed
from pipelines.probe import Dying
from pipelines.repeats import read_repeats
from pipelines.units import ElsewhereError, Unit
from schemas.flow import READ
from schemas.rejects import Reason

if TYPE_CHECKING:
    from pipelines.plan import Scoring

# Schema metadata that travels with a block: where it lies in the input, how many records the reader put into it, and
# what the scorer says of itself and of where it ran.
BLOCK_METADATA = b"assay.block"
SCORER_METADATA = b"assay.scorer"
WORKER_METADATA = b"assay.worker"


class LostRecordsError(RuntimeError):
    """A block came out with another number of records than the reader put in: a defect, never bad input."""


@dataclass(frozen=True)
class Task:
    """A unit, or what is left of it. `done`: blocks not to be yielded again. `repeats`: the numbers of the files that
    name its records whose id an earlier record has. `dying`: files that kill their reader, to be rejected unread."""

    unit: Unit
    done: frozenset[int] = frozenset()
    repeats: tuple[int, ...] = ()
    dying: Dying = field(default_factory=Dying)


@dataclass(frozen=True)
class BlockPlace:
    """Which block of which unit a table is, how many records the reader put into it, and for which share of the unit's
    stored bytes it stands, about."""

    unit: int
    block: int
    is_last: bool
    rows_in: int
    share: float = 0.0

    def attach(self, table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({BLOCK_METADATA: json.dumps(astuple(self))})

    @classmethod
    def of(cls, table: pa.Table) -> BlockPlace:
        return cls(*json.loads(table.schema.metadata[BLOCK_METADATA]))

    @property
    def name(self) -> str:
        return f"{self.unit}/{self.block}"


class ReadStep:
    """Reads a task. The same unit gives the same blocks in every attempt, whatever of it is done already."""

    def __init__(
        self,
        options: ReadOptions,
        lake: Lake,
        run_id: str,
        storage_options: Mapping[str, Any] | None,
        claims: Claims,
    ) -> None:
        self.options, self.lake, self.run_id, self.storage_options = options, lake, run_id, storage_options
        self.claims = claims

    def __call__(self, task: Task) -> Iterator[pa.Table]:
        """The blocks of a task, in order.

        Raises:
            ReaderDiesError: earlier readers of this unit were killed, and nobody has looked for the cause yet.
            ElsewhereError: this machine does not see the input.
        """
        task.unit.check_here()
        with task.dying.reading(task.unit.index, "read", self.claims):
            yield from self._placed(task)

    def _placed(self, task: Task) -> Iterator[pa.Table]:
        """The blocks that are not done, each with its place."""
        unit, consumed = task.unit, Consumed(self._pieces(task))
        number, held = 0, None
        for block in self._blocks(task):
            if held is not None:
                share = consumed.by(held)
                if number not in task.done:
                    yield BlockPlace(unit.index, number, False, len(held), share).attach(held)
                number += 1
            held = block
        if number not in task.done:
            last = READ.empty_table() if held is None else held
            yield BlockPlace(unit.index, number, True, len(last), consumed.rest()).attach(last)

    def _pieces(self, task: Task) -> list[Piece]:
        """What is read of a task: all but the files that kill their reader."""
        return [piece for piece in task.unit.pieces if piece.shard.uri not in task.dying.killers]

    def _blocks(self, task: Task) -> Iterator[pa.Table]:
        unit = task.unit
        repeats = read_repeats(self.lake, self.run_id, unit.index, task.repeats)
        last = unit.pieces[-1].shard.uri if unit.pieces else None
        yield from self._killed(task)
        for block in read_pieces(
            self._pieces(task), self.options, repeats=repeats, storage_options=self.storage_options
        ):
            if unit.stop is None:
                yield block
                continue
            beyond = pc.and_(pc.equal(block["source"], last), pc.greater_equal(block["row"], unit.stop))
            yield block.filter(pc.invert(beyond))
            if pc.any(beyond).as_py():
                return

    def _killed(self, task: Task) -> Iterator[pa.Table]:
        """A reject for every piece of a file that kills its reader."""
        pieces = [piece for piece in task.unit.pieces if piece.shard.uri in task.dying.killers]
        if pieces:
            rows = [{"source": p.shard.uri, "row": p.first_row or -1, **_KILLED_READER} for p in pieces]
            yield pa.Table.from_pylist([{f.name: row.get(f.name) for f in READ} for row in rows], schema=READ)


_KILLED_READER = {
    "reason": Reason.KILLED_WORKER.value,
    "detail": "reading this file ended the process that read it, again and again",
}


class TokenizeStep:
    """Loads the tokenizer of a model once a process. `place`: where the model is, or its folder. `transform`: what
    becomes of texts first, and of tokens last."""

    def __init__(
        self,
        place: ModelPlace | str,
        options: TokenizeOptions,
        vocab_size: int,
        transform: BlockTransform | None = None,
    ) -> None:
        self.place, self.options, self.vocab_size = place, options, vocab_size
        self.transform = transform

    def __call__(self, block: pa.Table) -> pa.Table:
        tokenizer = _tokenizer(self.place, self.options, self.vocab_size)
        if self.transform is None:
            tokenized = tokenizer(block)
        else:
            around = len(tokenizer.prefix), len(tokenizer.suffix)
            tokenized = self.transform.tokens(tokenizer(self.transform.texts(block)), *around)
        return tokenized.replace_schema_metadata(block.schema.metadata)


@functools.lru_cache(maxsize=2)
def _tokenizer(place: ModelPlace | str, options: TokenizeOptions, vocab_size: int) -> DocumentTokenizer:
    # Blocks are tokenized in parallel processes; threads inside each would only compete with the model.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = place.folder(weights=False) if isinstance(place, ModelPlace) else place
    return DocumentTokenizer.load(folder, options, vocab_size=vocab_size)


class ScoreStep:
    """Loads the model when made.

    On a CPU it computes with one thread, under every engine: with two, torch splits products so that rows round
    differently, and actors of one thread each are faster than one actor with several.
    """

    def __init__(self, scoring: Scoring) -> None:
        from operators.score import Scorer

        with one_thread():
            self.scorer = Scorer(scoring.options())

    def __call__(self, block: pa.Table) -> pa.Table:
        with one_thread():
            return self._score(block)

    def _score(self, block: pa.Table) -> pa.Table:
        model = self.scorer.model
        facts = {
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vocab_size": model.vocab_size,
            "packed": model.packed,
            "separate": model.separate,
            "kernel": self.scorer.statistics.name,
            "deterministic": model.deterministic,
        }
        metadata = {**(block.schema.metadata or {}), SCORER_METADATA: json.dumps(facts)}
        return self.scorer(block).replace_schema_metadata(metadata)


class WriteStep:
    """Writes a scored block to the lake; returns its manifest with what the scorer says of itself as schema
    metadata.

    Raises:
        ElsewhereError: this machine does not see the lake that the driver writes.
        LostRecordsError: see there.
    """

    def __init__(self, options: WriteOptions) -> None:
        self.options = options

    def __call__(self, block: pa.Table) -> pa.Table:
        self._check_here()
        manifest = PartWriter(self.options)(block)
        place = BlockPlace.of(block)
        rows_out = pc.sum(manifest["documents"]).as_py() + pc.sum(manifest["rejects"]).as_py()
        if place.rows_in != rows_out:
            raise LostRecordsError(f"{place.rows_in} records were read into a block and {rows_out} came out")
        for name in ("unit", "block", "is_last", "rows_in", "share"):
            manifest = manifest.append_column(name, pa.array([getattr(place, name)]))
        return manifest.replace_schema_metadata(block.schema.metadata)

    def _check_here(self) -> None:
        storage, ledger = self.options.lake.storage, ledger_path(self.options.run_id)
        if storage.is_local and not storage.exists(ledger):
            raise ElsewhereError(
                f"{os.uname().nodename} has no {storage.uri(ledger)}, which the driver has written: a lake that many "
                "machines write must be in object storage, or in a folder that every node sees under one path"
            )
