"""Builds the index of a benchmark on disk, from a stream of its items, in bounded memory.

    items -> words -> distinct words by block -+-> partitions by hash -> vocabulary
                  \\-> places among these ------+-> numbers of words -> n-grams -> partitions -> sorted, numbered

Held in memory: a block of items (about 30 bytes for each byte of its text, of which a block has some 8 MB), or one of
64 partitions (about 60 bytes for each of its n-grams); the rest is mapped. 200,000 items of 80 words: 10 s on one core,
110 MB beyond what Python takes, an index of 500 MB. While it works it takes as much disk again as the finished index.
The same items in the same order give the same files however they are blocked, but for the batches of `items.arrow`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from operators.overlap.bits import filter_bits, filter_places, set_bits
from operators.overlap.diagonals import Numbers, differs
from operators.overlap.files import ArrayWriter, Partitions, group_bounds, mapped
from operators.overlap.index import (
    ITEMS,
    ITEMS_FILE,
    BenchmarkIndex,
    definition,
    new_filter,
    postings_type,
    write_manifest,
)
from operators.overlap.item_blocks import Refuse, cut_items, item_blocks
from operators.overlap.normalise import normaliser
from operators.overlap.options import OverlapError, OverlapOptions
from operators.overlap.vocabulary import RECORDS, Vocabulary, as_words, distinct, write_vocabulary
from operators.overlap.words import Hashes, Ids, Words, gram_hashes
from operators.tokenize import DocumentTokenizer

_PLACES = pa.schema([("place", pa.int32())])
_GRAMS = pa.schema([("hash", pa.uint64()), ("place", pa.int64())])


def build_index(
    items: Iterable[pa.Table],
    folder: Path,
    options: OverlapOptions,
    tokenizer: DocumentTokenizer | None = None,
    refuse: Refuse | None = None,
) -> BenchmarkIndex:
    """Index items (schema `ITEMS`) in a new or empty folder; on a fault it is left without a manifest.

    Args:
        refuse: is given what the tokenizer refuses, as rows of `rejects`, an item once; the index is of the others.
            Without it such an item is a fault.

    Raises:
        OverlapError: no items, two of one id, one without an input or that the tokenizer refuses; too many words.
        FileExistsError: something is in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: an index is made in a new folder")
    scratch = folder / "scratch"
    scratch.mkdir()
    blocks = _Blocks(scratch)
    records = Partitions(scratch, "words", RECORDS)
    with records:
        _read_items(
            cut_items(item_blocks(items), normaliser(options, tokenizer), refuse), folder, options, blocks, records
        )
    _check_items(folder)
    write_vocabulary(folder, records)
    grams = Partitions(scratch, "grams", _GRAMS)
    with grams:
        n_postings = _number_words(folder, options, blocks, grams)
    _number_grams(folder, options.n, grams, n_postings)
    shutil.rmtree(scratch)
    settings = definition(options, tokenizer.fingerprint if tokenizer else None)
    sizes = np.diff(mapped(folder / "bounds", "<i8"))
    facts = {
        "n_items": len(sizes),
        "n_words": int(sizes.sum()),
        "n_postings": n_postings,
        "n_short": int((sizes < options.n).sum()),
        "digest": xxhash.xxh3_128_hexdigest(f"{settings} {blocks.digest.hexdigest()}".encode()),
    }
    write_manifest(folder, settings | facts)
    return BenchmarkIndex.open(folder)


@dataclass
class _Blocks:
    """What is known of the blocks of items after the first pass. `counts`: items of each."""

    folder: Path
    counts: list[int] = field(default_factory=list)
    digest: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)

    @property
    def words(self) -> Path:
        """A batch of distinct words for each block."""
        return self.folder / "block-words.arrows"

    @property
    def places(self) -> Path:
        """And a batch of the places that the block's words have among them."""
        return self.folder / "block-places.arrows"

    def read(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        with pa.OSFile(str(self.words)) as first, pa.OSFile(str(self.places)) as second:
            yield from zip(pa.ipc.open_stream(first), pa.ipc.open_stream(second), strict=True)


def _read_items(
    items: Iterable[tuple[pa.Table, Words]], folder: Path, options: OverlapOptions, blocks: _Blocks, records: Partitions
) -> None:
    """The first pass: items with their words, each block with its own numbers."""
    with ExitStack() as stack:
        table_file = stack.enter_context(pa.ipc.new_file(str(folder / ITEMS_FILE), ITEMS))
        words_file = stack.enter_context(pa.ipc.new_stream(str(blocks.words), RECORDS))
        places_file = stack.enter_context(pa.ipc.new_stream(str(blocks.places), _PLACES))
        bounds, inputs, ids = (
            stack.enter_context(ArrayWriter(folder / name, dtype))
            for name, dtype in (("bounds", "<i8"), ("inputs", "<i4"), ("item_ids", "<i8"))
        )
        bounds.add(np.zeros(1, np.int64))
        last = 0
        for block, words in items:
            hash_W = words.hashed(options.hash_bits)
            place_W, found = distinct(words, hash_W)
            records.add(found["hash"].to_numpy(), found)
            words_file.write_batch(_one_batch(found))
            places_file.write_batch(pa.record_batch([pa.array(place_W)], schema=_PLACES))
            table_file.write_table(block)
            ids.add(block["item_id"].to_numpy())
            inputs.add(np.diff(words.bounds)[::2])
            bounds.add(last + words.bounds[2::2])
            last += len(words)
            blocks.counts.append(len(block))
            _digest(blocks.digest, block)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    arrays = [table[name].combine_chunks() for name in table.column_names]
    return pa.record_batch(arrays, schema=table.schema)


def _digest(digest: xxhash.xxh3_128, block: pa.Table) -> None:
    columns = [block[name].to_pylist() for name in ("item_id", "input", "answer")]
    for item_id, text, answer in zip(*columns, strict=True):
        sizes = f"{item_id} {len(text)} {-1 if answer is None else len(answer)}\n"
        digest.update((sizes + text + (answer or "")).encode())


def _check_items(folder: Path) -> None:
    ids = np.sort(mapped(folder / "item_ids", "<i8"))
    if not len(ids):
        raise OverlapError("the benchmark has no items")
    repeated = np.flatnonzero(ids[1:] == ids[:-1])
    if len(repeated):
        with pa.memory_map(str(folder / ITEMS_FILE)) as file:
            items = pa.ipc.open_file(file).read_all()
            keys = items.filter(pc.equal(items["item_id"], int(ids[repeated[0]])))["key"].to_pylist()
        raise OverlapError(f"{len(repeated)} items have the id of another: the first are {keys[0]!r} and {keys[1]!r}")


def _number_words(folder: Path, options: OverlapOptions, blocks: _Blocks, grams: Partitions) -> int:
    """The second pass: the words of every item by their numbers in the vocabulary, and its n-grams; how many."""
    vocabulary = Vocabulary.open(folder)
    bounds = mapped(folder / "bounds", "<i8")
    first_item = n_postings = 0
    with ArrayWriter(folder / "words", "<i4") as file:
        for n_items, (found, places) in zip(blocks.counts, blocks.read(), strict=True):
            words, own_hash = as_words(found["word"]), found["hash"].to_numpy()
            number = vocabulary.find(words, own_hash, np.arange(len(own_hash)))
            number_W = number[places["place"].to_numpy()]
            items = np.asarray(bounds[first_item : first_item + n_items + 1])
            hash_W = np.asarray(vocabulary.hash_V[number_W])
            starts = _gram_starts(items - items[0], options.n)
            hashes = gram_hashes(hash_W, options.n, options.hash_bits)[starts]
            grams.add(hashes, pa.table([pa.array(hashes), pa.array(starts + items[0])], schema=_GRAMS))
            file.add(number_W)
            n_postings += len(starts)
            first_item += n_items
    return n_postings


def _gram_starts(bounds: Ids, n: int) -> Ids:
    """The words from which n lie in one item."""
    starts = np.arange(bounds[-1])
    ends = np.repeat(bounds[1:], np.diff(bounds))
    return starts[starts + n <= ends]


def _number_grams(folder: Path, n: int, grams: Partitions, n_postings: int) -> None:
    """Sort the n-grams of each partition by hash, tell apart those of one hash, and number them."""
    words_N = mapped(folder / "words", "<i4")
    bits = filter_bits(n_postings)
    filter_ = new_filter(folder, n_postings)
    hashes_file, firsts_file = ArrayWriter(folder / "hashes", "<u8"), ArrayWriter(folder / "firsts", "<i8")
    with hashes_file, firsts_file, ArrayWriter(folder / "postings", postings_type(len(words_N))) as postings_file:
        for table in grams.read():
            hash_P, place_P = table["hash"].to_numpy(), table["place"].to_numpy()
            order = np.argsort(hash_P, kind="stable")
            hash_P, place_P, firsts = _told_apart(words_N, n, hash_P[order], place_P[order])
            hashes_file.add(hash_P[firsts[:-1]])
            firsts_file.add(postings_file.length + firsts[:-1])
            postings_file.add(place_P)
            set_bits(filter_, filter_places(hash_P[firsts[:-1]], bits))
        firsts_file.add(np.array([postings_file.length]))


def _told_apart(words_N: Numbers, n: int, hash_P: Hashes, place_P: Ids) -> tuple[Hashes, Ids, Ids]:
    """Postings sorted by hash, then by n-gram (in the order of their first places); and where each n-gram's start."""
    groups = group_bounds(hash_P)
    counts = np.diff(groups)
    is_first = ~differs(words_N, np.repeat(place_P[groups[:-1]], counts), words_N, place_P, n)
    if is_first.all():
        return hash_P, place_P, groups
    collides = np.repeat(np.logical_and.reduceat(is_first, groups[:-1]), counts) == 0
    chosen = np.flatnonzero(collides)
    rows = words_N[place_P[chosen][:, None] + np.arange(n)]
    _, kind = np.unique(rows, axis=0, return_inverse=True)
    earliest = np.full(int(kind.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(earliest, kind.reshape(-1), place_P[chosen])
    gram_P = np.repeat(place_P[groups[:-1]], counts)
    gram_P[chosen] = earliest[kind.reshape(-1)]
    order = np.lexsort((place_P, gram_P, hash_P))
    return hash_P[order], place_P[order], group_bounds(gram_P[order])
