"""Draws the documents of a run that become a prefix: a label's documents in an order that the seed decides.

ReCaLL (Xie et al. 2024, arXiv 2406.15968) conditions on non-members, concatenated with no separator. Which documents
are drawn depends on their keys, their lengths and the seed alone, not on how parts lie in the lake: more shots begin
with the same.
"""

from __future__ import annotations

import heapq
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_128_intdigest

from operators.lake import Lake, Part
from schemas import DOCUMENTS


class Shot(NamedTuple):
    """One document of a prefix; `text` is None where the run did not keep it."""

    key: str
    text: str | None


class Draw(NamedTuple):
    """`n_documents`: all documents of the label, those that are too long for a shot included."""

    shots: list[Shot]
    n_documents: int


def draw_shots(lake: Lake, run_id: str, *, label: int, shots: int, seed: int, most_tokens: int) -> Draw:
    """The first `shots` documents of a label in the order of the seed, those of more tokens than `most_tokens` passed
    over; fewer where there are no more.

    Reads ids, labels and lengths of the run, then the texts of those that were drawn.
    """
    n_documents = 0

    def short_ones() -> Iterator[tuple[int, Part, int]]:
        nonlocal n_documents
        for part, doc_id, n_tokens in _documents(lake, run_id, label):
            n_documents += 1
            if n_tokens <= most_tokens:
                yield xxh3_128_intdigest(struct.pack("<qq", seed, doc_id)), part, doc_id

    drawn = heapq.nsmallest(shots, short_ones())
    by_part: dict[Part, list[int]] = defaultdict(list)
    for _, part, doc_id in drawn:
        by_part[part].append(doc_id)
    found: dict[int, Shot] = {}
    for part, doc_ids in by_part.items():
        with lake.storage.parquet(part.path) as file:
            rows = file.read(columns=["doc_id", "key", "text"])
        for row in rows.filter(pc.is_in(rows["doc_id"], pa.array(doc_ids, pa.int64()))).to_pylist():
            found[row["doc_id"]] = Shot(row["key"], row["text"])
    return Draw([found[doc_id] for _, _, doc_id in drawn], n_documents)


def _documents(lake: Lake, run_id: str, label: int) -> Iterator[tuple[Part, int, int]]:
    """Every document of the label: where it lies, its doc_id, and how many tokens it has."""
    for part in lake.parts(DOCUMENTS.name, run_id):
        with lake.storage.parquet(part.path) as file:
            rows = file.read(columns=["doc_id", "label", "n_tokens"])
        rows = rows.filter(pc.equal(rows["label"], label))
        for doc_id, n_tokens in zip(rows["doc_id"].to_pylist(), rows["n_tokens"].to_pylist(), strict=True):
            yield part, doc_id, n_tokens
