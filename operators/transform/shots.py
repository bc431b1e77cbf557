"""Draws the documents of a run that become a prefix: a label's documents in an order that the seed decides.

ReCaLL (Xie et al. 2024, arXiv 2406.15968) conditions on non-members, concatenated with no separator. Which documents
are drawn depends on their keys and the seed alone, not on how parts lie in the lake: more shots begin with the same.
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


def draw_shots(lake: Lake, run_id: str, *, label: int, shots: int, seed: int) -> list[Shot]:
    """The first `shots` documents of a label in the order of the seed; fewer where there are no more.

    Reads ids and labels of the run, then the texts of those that were drawn.
    """
    drawn = heapq.nsmallest(shots, _places(lake, run_id, label, seed))
    by_part: dict[Part, list[int]] = defaultdict(list)
    for _, part, doc_id in drawn:
        by_part[part].append(doc_id)
    found: dict[int, Shot] = {}
    for part, doc_ids in by_part.items():
        with lake.storage.parquet(part.path) as file:
            rows = file.read(columns=["doc_id", "key", "text"])
        for row in rows.filter(pc.is_in(rows["doc_id"], pa.array(doc_ids, pa.int64()))).to_pylist():
            found[row["doc_id"]] = Shot(row["key"], row["text"])
    return [found[doc_id] for _, _, doc_id in drawn]


def _places(lake: Lake, run_id: str, label: int, seed: int) -> Iterator[tuple[int, Part, int]]:
    """Where each document of the label stands in the seed's order, and which it is."""
    for part in lake.parts(DOCUMENTS.name, run_id):
        with lake.storage.parquet(part.path) as file:
            rows = file.read(columns=["doc_id", "label"])
        for doc_id in rows.filter(pc.equal(rows["label"], label))["doc_id"].to_pylist():
            yield xxh3_128_intdigest(struct.pack("<qq", seed, doc_id)), part, doc_id
