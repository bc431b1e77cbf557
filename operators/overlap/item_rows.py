"""Rows of `overlap_items`: what a corpus holds of each part of some items.

Shapes: `J` items, `P` parts: every item has them in the order of `PARTS`, `(J, P)` where not said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.index import BenchmarkIndex
from operators.overlap.match_rows import ACROSS, ALL, ANSWER, INPUT
from operators.overlap.normalise import normaliser
from operators.overlap.options import OverlapOptions
from operators.overlap.words import Ids
from operators.tokenize import DocumentTokenizer
from schemas.overlaps import OVERLAP_ITEMS

PARTS = (ACROSS, ALL, ANSWER, INPUT)  # in the order of the table
_ROWS = OVERLAP_ITEMS.arrow()


class Longest(Protocol):
    """Of one part of every item: words of its longest match, the first of these, documents with a match."""

    longest: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    documents: npt.NDArray[np.int32]


def item_rows(
    index: BenchmarkIndex,
    items: Ids,
    n_seen: Mapping[str, Ids],
    totals: Mapping[str, Longest],
    tokenizer: DocumentTokenizer | None,
) -> pa.Table:
    """A row for every part that an item has: `input` and `all`, and where it has an answer the other two."""
    table = index.items
    places = pa.array(items)
    n_words, n_grams = _sizes(index, items)
    seen = _beside(n_seen)
    longest = _beside({part: totals[part].longest[items] for part in PARTS})
    documents = _beside({part: totals[part].documents[items] for part in PARTS})
    start, length = _bytes(index, items, totals, table, tokenizer)
    has_answer = np.asarray(table["answer"].take(places).is_valid().to_numpy())
    kept = np.ones(n_words.shape, np.bool_)
    kept[~has_answer, PARTS.index(ACROSS)] = kept[~has_answer, PARTS.index(ANSWER)] = False
    flat = np.repeat(items, len(PARTS))
    share = np.divide(seen, n_grams, out=np.zeros(seen.shape), where=n_grams > 0)
    columns = {name: table[name].take(pa.array(flat)) for name in ("item_id", "key", "source", "row")} | {
        "part": pa.array(list(PARTS) * len(items), pa.string()),
        "n_words": pa.array(n_words.ravel()),
        "n_ngrams": pa.array(n_grams.ravel()),
        "n_seen": pa.array(seen.ravel()),
        "share_seen": pa.array(share.ravel(), mask=n_grams.ravel() == 0),
        "longest_match": pa.array(longest.ravel()),
        "byte_start": pa.array(start.ravel(), mask=longest.ravel() == 0),
        "n_bytes": pa.array(length.ravel(), mask=longest.ravel() == 0),
        "n_documents": pa.array(np.maximum(documents, longest > 0).ravel()),
    }
    return pa.table([columns[name].cast(_ROWS.field(name).type) for name in _ROWS.names], schema=_ROWS).filter(
        pa.array(kept.ravel())
    )


def _beside(parts: Mapping[str, npt.NDArray[np.integer]]) -> Ids:
    return np.stack([parts[part] for part in PARTS], axis=1).astype(np.int64)


def _sizes(index: BenchmarkIndex, items: Ids) -> tuple[Ids, Ids]:
    """Words and n-grams; of `across` the words that its n-grams touch."""
    reach = index.n - 1
    total = np.asarray(index.bounds[items + 1] - index.bounds[items])
    of_input = index.inputs_I[items].astype(np.int64)
    of_answer = total - of_input
    grams = {part: np.maximum(size - reach, 0) for part, size in ((ALL, total), (INPUT, of_input), (ANSWER, of_answer))}
    grams[ACROSS] = grams[ALL] - grams[INPUT] - grams[ANSWER]
    touched = np.minimum(of_input, reach) + np.minimum(of_answer, reach)
    words = {ALL: total, INPUT: of_input, ANSWER: of_answer, ACROSS: np.where(grams[ACROSS] > 0, touched, 0)}
    return _beside(words), _beside(grams)


def _bytes(
    index: BenchmarkIndex,
    items: Ids,
    totals: Mapping[str, Longest],
    table: pa.Table,
    tokenizer: DocumentTokenizer | None,
) -> tuple[Ids, Ids]:
    """Where the longest matches start in their parts, and their bytes; 0 without one.

    Only the texts of items with a match are cut into words again: an index keeps no places of words.
    """
    start = np.zeros((len(items), len(PARTS)), np.int64)
    length = np.zeros_like(start)
    matched = np.flatnonzero(totals[ALL].longest[items])
    if not len(matched):
        return start, length
    chosen = table.select(["input", "answer"]).take(pa.array(items[matched]))
    inputs, answers = chosen["input"].combine_chunks(), pc.fill_null(chosen["answer"].combine_chunks(), "")
    n_matched = len(matched)
    options = OverlapOptions(n=index.n, normalisation=str(index.manifest["normalisation"]))
    words, _ = normaliser(options, tokenizer)(pa.concat_arrays([inputs, answers]))
    of_input, of_answer = words.bounds[:n_matched], words.bounds[n_matched:-1]
    n_input = index.inputs_I[items[matched]].astype(np.int64)
    input_bytes = np.asarray(pc.binary_length(inputs).to_numpy(zero_copy_only=False), np.int64)
    for p, part in enumerate(PARTS):
        first = totals[part].first[items[matched]].astype(np.int64)
        last = first + totals[part].longest[items[matched]] - 1
        held = last >= first
        shift = input_bytes if part in (ACROSS, ALL) else np.zeros_like(input_bytes)

        def place(word: Ids, held: npt.NDArray[np.bool_] = held, shift: Ids = shift) -> tuple[Ids, Ids]:
            """The word of each item among all words, and what its bytes are moved by."""
            is_answer = word >= n_input
            at = np.where(is_answer, of_answer + word - n_input, of_input + word)[held]
            return at, np.where(is_answer, shift, 0)[held]

        (at_first, first_shift), (at_last, last_shift) = place(first), place(last)
        start[matched[held], p] = words.start_W[at_first] + first_shift
        length[matched[held], p] = words.end_W[at_last] + last_shift - start[matched[held], p]
    return start, length
