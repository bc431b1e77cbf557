"""Reads one place of a corpus as a run would, and says how many tokens a stored byte of its file holds.

    JSON Lines         the lines that begin in a stretch of the file
    Parquet            some rows of the first MiB of one row group, times the rows of the footer
    Arrow IPC          some rows of one of the batches that the first MiB holds, times the batch's rows
    compressed         the lines that end in a stretch of the first MiB, unpacked from the start
    text               the beginning: it is one document

A file that is no longer than a stretch is read whole. Whatever the format, records are judged and tokenized by the
steps of the run: templates, prompts, transforms and rejects are those of the run itself.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.readers.ipc import Messages
from operators.readers.parquet import open_footer
from operators.readers.source import compression_of, open_source
from operators.shards import Format, Shard
from operators.windows import WindowOptions, segments
from pipelines.plan import Plan
from pipelines.steps import TokenizeStep

ROWS = 32  # of a place in a columnar file
MAX_SKIPPED = 8  # groups of so many rows that are read over at most, or what FURTHEST bytes hold: at a bounded cost
ROWS_BYTES = 4 << 20  # of such rows
LONGEST_LINE = 4 << 20  # that is read to its end
FURTHEST = 1 << 20  # stored bytes into a file that can only be read from its start
_MOST_UNPACKED = 32 << 20  # a bomb is not unpacked to find out how many tokens it holds


@dataclass(frozen=True)
class Place:
    """What was read. `stored`: the stored bytes that it stands for. `fed`: tokens that windows feed, overlaps too.

    `length`: the stored bytes of the records themselves, over all places as many as `stored`. A long line counts where
    it begins: the place it is counted for has more of them, and those that it runs through have none.
    """

    tokens: float
    fed: float
    records: int
    rejects: int
    stored: float
    length: float

    @classmethod
    def without(cls, stored: float, length: float, rejects: int = 0) -> Place:
        """A place of no tokens."""
        return cls(0, 0, rejects, rejects, stored, length)


class Reader:
    """Reads places for a plan; `place_bytes`: stored bytes of a stretch."""

    def __init__(self, plan: Plan, place_bytes: int) -> None:
        self.place_bytes = place_bytes
        self._options = plan.read_options(max(1, place_bytes))
        self._storage_options = plan.config.storage_options
        self._windows = plan.document_windows
        self._one_at_a_time = threading.Lock()  # places are read by several threads
        self._tokenize = TokenizeStep(
            str(plan.folder), plan.tokenize_options(), plan.vocab_size, plan.block_transform()
        )

    def place(self, shard: Shard, position: int, rng: random.Random) -> Place:
        """The place around byte `position` of a file.

        Raises:
            StorageError, UnreadableError: it cannot be read.
        """
        if shard.n_bytes <= self.place_bytes:
            return self._counted([Piece(shard)], shard.n_bytes)
        if shard.format == "parquet":
            return self._rows_of_parquet(shard, rng)
        if shard.format == "arrow":
            return self._rows_of_arrow(shard, rng)
        if shard.format == "text":
            return self._beginning(shard)
        if compression_of(shard.uri) or ("://" in shard.uri and "::" in shard.uri):
            return self._lines_of_stream(shard, position)
        return self._lines(shard, position)

    def records(self, shards: Iterable[Shard]) -> Iterator[tuple[list[int], int]]:
        """Of every block of these files the tokens of each record, 0 of a reject, and how many are rejects."""
        for block in self._blocks((Piece(shard) for shard in shards), self._options):
            yield self._lengths(block)

    def _lines(self, shard: Shard, position: int) -> Place:
        """Cells of a fixed grid: a line counts for the one that it begins in, however long it is."""
        start = position // self.place_bytes * self.place_bytes
        stop = min(shard.n_bytes, start + self.place_bytes)
        before = min(start, 1)  # a line begins where the byte before ends one
        with open_source(shard.uri, self._storage_options, scattered=True) as source:
            source.seek(start - before)
            content = source.read(stop - start + before)
            begin = content.find(b"\n") + 1 if before else 0
            if before and not begin:
                return Place.without(stop - start, 0)
            while stop < shard.n_bytes and content[-1:] != b"\n" and len(content) < LONGEST_LINE:
                more = source.read(self.place_bytes)
                content += more[: more.find(b"\n") + 1 or None]
                if not more:
                    break
        return self._in_a_file(content[begin:], "jsonl", stop - start, len(content) - begin)

    def _rows_of_parquet(self, shard: Shard, rng: random.Random) -> Place:
        with open_source(shard.uri, self._storage_options, scattered=True) as source:
            footer = open_footer(source)
        rows = [max(0, footer.row_group(i).num_rows) for i in range(footer.num_row_groups)]
        if not sum(rows):
            return Place.without(shard.n_bytes, shard.n_bytes)
        (group,) = rng.choices(range(len(rows)), weights=rows)
        n_bytes = max(1, footer.row_group(group).total_byte_size)  # unpacked
        furthest = max(MAX_SKIPPED * ROWS, FURTHEST * rows[group] // n_bytes)
        skipped = rng.randrange(min(rows[group], furthest)) // ROWS
        place = self._rows(Piece(shard, group, group + 1, sum(rows[:group])), skipped)
        return _scaled(place, sum(rows), shard.n_bytes)

    def _rows_of_arrow(self, shard: Shard, rng: random.Random) -> Place:
        batches = self._first_batches(shard)
        place = rng.randrange(len(batches))
        rows, stored = batches[place]
        if not rows:
            return Place.without(stored, stored)
        before = sum(n for n, _ in batches[:place])
        skipped = (before + rng.randrange(min(rows, MAX_SKIPPED * ROWS))) // ROWS
        return _scaled(self._rows(Piece(shard), skipped), rows, stored)

    def _first_batches(self, shard: Shard) -> list[tuple[int, int]]:
        """(rows, stored bytes) of the first batches, as many as `FURTHEST` bytes hold, one at least."""
        found: list[tuple[int, int]] = []
        with open_source(shard.uri, self._storage_options) as source, source.decoding(0):
            stream = pa.ipc.open_stream(Messages(source))
            end = source.tell()
            for batch in stream:
                found.append((batch.num_rows, source.tell() - end))
                end = source.tell()
                if end >= FURTHEST:
                    break
        return found or [(0, shard.n_bytes)]

    def _lines_of_stream(self, shard: Shard, position: int) -> Place:
        """The lines that end in what a stretch of the stream unpacks to."""
        start = position % FURTHEST // self.place_bytes * self.place_bytes
        with open_source(shard.uri, self._storage_options, scattered=True) as source:
            packed = source.read(start + self.place_bytes)
        kind = compression_of(shard.uri)
        content = _unpacked(packed, kind)
        if not content:
            return Place.without(shard.n_bytes, shard.n_bytes, 1)  # no such stream: a reject in the run, too
        begin = len(_unpacked(packed[:start], kind)) if start else 0
        is_last = len(packed) < start + self.place_bytes or len(packed) == shard.n_bytes
        lines = content[content.rfind(b"\n", 0, begin) + 1 : None if is_last else content.rfind(b"\n") + 1]
        stored, unpacked = len(packed) - start, len(content) - begin
        length = stored * len(lines) / unpacked if unpacked else stored
        return self._in_a_file(lines, shard.format, stored, length)

    def _beginning(self, shard: Shard) -> Place:
        """Of a text that is long: one document, so the beginning is as good as any part."""
        with open_source(shard.uri, self._storage_options, scattered=True) as source:
            packed = source.read(self.place_bytes)
        content = _unpacked(packed, compression_of(shard.uri))
        return self._in_a_file(content[: _whole_characters(content)], "text", len(packed), len(packed))

    def _in_a_file(self, content: bytes, kind: Format, stored: int, length: float) -> Place:
        if not content:
            return Place.without(stored, length)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "part")
            path.write_bytes(content)
            place = self._counted([Piece(Shard(str(path), kind, len(content)))], stored)
            return replace(place, length=length)

    def _rows(self, piece: Piece, skipped: int) -> Place:
        """`ROWS` rows of a piece; where it has fewer than are skipped the last ones."""
        options = replace(self._options, block_documents=ROWS, block_bytes=ROWS_BYTES)
        last = None
        for place, block in enumerate(self._blocks([piece], options)):
            last = block
            if place == skipped:
                break
        return Place.without(0, 0) if last is None else self._count(last)

    def _counted(self, pieces: Iterable[Piece], stored: float) -> Place:
        counts = [self._count(block) for block in self._blocks(pieces, self._options)]
        return replace(summed(counts), stored=stored, length=stored)

    def _blocks(self, pieces: Iterable[Piece], options: ReadOptions) -> Iterator[pa.Table]:
        yield from read_pieces(pieces, options, storage_options=self._storage_options)

    def _count(self, block: pa.Table) -> Place:
        lengths, rejects = self._lengths(block)
        return Place(sum(lengths), fed_tokens(lengths, self._windows), len(lengths), rejects, 0, 0)

    def _lengths(self, block: pa.Table) -> tuple[list[int], int]:
        with self._one_at_a_time:
            rows = self._tokenize(block)
        lengths = pc.fill_null(pc.list_value_length(rows["token_id"]), 0).to_pylist()
        return lengths, len(rows) - rows["reason"].null_count


def fed_tokens(lengths: Iterable[int], windows: WindowOptions) -> int:
    """Tokens that go through the model for documents of these lengths: windows overlap."""
    return sum(map(len, segments(list(lengths), windows)))


def summed(places: Iterable[Place]) -> Place:
    total = Place.without(0, 0)
    for p in places:
        total = Place(
            total.tokens + p.tokens, total.fed + p.fed, total.records + p.records, total.rejects + p.rejects,
            total.stored + p.stored, total.length + p.length,
        )  # fmt: skip
    return total


def _scaled(place: Place, rows: int, stored: float) -> Place:
    """Some rows of a place stand for all of its `rows`, which take `stored` bytes."""
    if not place.records:
        return replace(place, stored=stored, length=stored)
    share = rows / place.records
    return replace(place, tokens=place.tokens * share, fed=place.fed * share, stored=stored, length=stored)


def _unpacked(content: bytes, compression: str | None) -> bytes:
    """What the beginning of a compressed file holds, as far as it goes."""
    if compression is None:
        return content
    unpacked = io.BytesIO()
    stream = pa.CompressedInputStream(pa.BufferReader(content), compression)
    with contextlib.suppress(OSError, pa.ArrowException):  # it ends in the middle
        while unpacked.tell() < _MOST_UNPACKED and (chunk := stream.read(1 << 12)):
            unpacked.write(chunk)
    return unpacked.getvalue()


def _whole_characters(content: bytes) -> int:
    """Bytes up to the end of the last whole character of UTF-8; all of them where the fault lies elsewhere."""
    for cut in range(4):
        with contextlib.suppress(UnicodeDecodeError):
            content[: len(content) - cut].decode()
            return len(content) - cut
    return len(content)
