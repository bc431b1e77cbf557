"""The orders of a benchmark as pseudo-documents: shards of consecutive items, each as it stands and in M other orders.

    documents of a run, by (source, row) -> items [N] -> shards of consecutive items -> M + 1 texts of each, joined
      -> id `<shard>/<permutation>`, text, shard, permutation (0: as it stands), n_items

Sizes of shards differ by one at most. An order is drawn uniformly from the seed, the shard and the number of the
permutation alone; it may be the order that the items have, and the test counts it then like any other. The text of an
item is its prompt, where it has one, and its completion.

The items are held once, in the memory of one process, and so is a row group of their orders; every order is written
anew, so the file is (M + 1) times the benchmark before compression, which finds most of that again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.lake import Lake
from operators.transform.pieces import random_of
from schemas import DOCUMENTS

SEPARATOR = "\n\n"
GROUP_BYTES = 8 << 20  # of texts in a row group: what is held beside the items, and the least that a worker reads

_FACTS = b"assay:orders"
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("permutation", pa.int64(), nullable=False),
        pa.field("n_items", pa.int64(), nullable=False),
    ]
)


class OrdersInputError(ValueError):
    """A benchmark whose orders cannot be made as asked; the message says why, and what to do."""


@dataclass(frozen=True)
class OrderOptions:
    """`shards`: groups of consecutive items, each of two or more. `permutations`: orders drawn of each. `items`: only
    the first so many, None for all. `separator`: between two items."""

    shards: int = 50
    permutations: int = 250
    seed: int = 0
    separator: str = SEPARATOR
    items: int | None = None


@dataclass(frozen=True)
class Items:
    """A benchmark in its canonical order. `n_tokens`: fed for the items one by one; `available`: items of the run, of
    which these are the first; `repeated`: items whose text an earlier one has, too; `sources`: their files, in order.
    """

    texts: Sequence[str]
    n_tokens: int
    available: int
    repeated: int
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_in_natural_order(self) -> bool:
        """Whether the files stand as their numbers say: by URI, `part-10` comes before `part-2`."""
        return list(self.sources) == sorted(self.sources, key=_natural)


def read_items(lake: Lake, run_id: str, most: int | None = None) -> Items:
    """The documents of a run by (source, row): files as the run listed them, by URI, records as they stand in each.

    Raises:
        OrdersInputError: the run has no documents, or did not keep their texts.
    """
    parts = [part.path for part in lake.parts(DOCUMENTS.name, run_id)]
    if not parts:
        raise OrdersInputError(f"run {run_id} has no documents: there is nothing to put into another order")
    columns = ["source", "row", "n_tokens", "text_sha256"]
    rows = pa.concat_tables([_numbered(_read(lake, path, columns), part) for part, path in enumerate(parts)])
    order = pc.sort_indices(rows, sort_keys=[("source", "ascending"), ("row", "ascending")])
    chosen = rows.take(order[:most])
    of_part, place = chosen["part"].to_numpy(), chosen["place"].to_numpy()
    texts: list[str] = [""] * chosen.num_rows
    for part in np.unique(of_part).tolist():
        here = np.flatnonzero(of_part == part)
        found = _read(lake, parts[part], ["text"])["text"].take(place[here])
        if found.null_count:
            raise OrdersInputError(
                f"run {run_id} did not keep its texts (--drop-text), of which other orders are made; score the "
                "benchmark again without it, under another --run-id"
            )
        for i, text in zip(here.tolist(), found.to_pylist(), strict=True):
            texts[i] = text
    return Items(
        texts=texts,
        n_tokens=int(pc.sum(chosen["n_tokens"]).as_py()),
        available=rows.num_rows,
        repeated=len(texts) - int(pc.count_distinct(chosen["text_sha256"]).as_py()),
        sources=tuple(pc.unique(chosen["source"]).to_pylist()),
    )


def _read(lake: Lake, path: str, columns: list[str]) -> pa.Table:
    with lake.storage.parquet(path) as file:
        return file.read(columns=columns)


def _numbered(rows: pa.Table, part: int) -> pa.Table:
    """Rows with the number of their part and their place in it."""
    place = np.arange(rows.num_rows)
    return rows.append_column("part", pa.array(np.full_like(place, part))).append_column("place", pa.array(place))


def _natural(name: str) -> str:
    """A key that sorts numbers in a name by their value."""
    return re.sub("[0-9]+", lambda match: match[0].zfill(20), name)


def cut_shards(n_items: int, shards: int) -> list[range]:
    """Places of the items of each shard; sizes differ by one at most, larger ones first.

    Raises:
        OrdersInputError: a shard would have a single item, which has one order only.
    """
    if shards < 2 or shards > n_items // 2:
        enough = "give fewer --shards, " + (f"{n_items // 2} at most" if n_items >= 4 else "of four items or more")
        raise OrdersInputError(
            f"{n_items:,} items in {shards:,} shards: the test needs two shards or more, of two items or more, for a "
            f"single item has one order only; {enough}"
        )
    size, larger = divmod(n_items, shards)
    starts = [shard * size + min(shard, larger) for shard in range(shards + 1)]
    return [range(start, stop) for start, stop in pairwise(starts)]


def drawn_order(places: range, seed: int, shard: int, permutation: int) -> list[int]:
    """The places of a shard in the order of this number; 0 is the order that they have."""
    order = list(places)
    if permutation:
        random_of(f"{shard}/{permutation}", "orders", seed).shuffle(order)
    return order


# The file


def write_orders(path: Path, texts: Sequence[str], options: OrderOptions, facts: Mapping[str, Any]) -> None:
    """Write the orders of a benchmark as Parquet, by shard and then by permutation; equal arguments give equal bytes.

    `facts` are stored in the file, see `read_facts`.

    Raises:
        OrdersInputError: as `cut_shards`.
    """
    shards = cut_shards(len(texts), options.shards)
    schema = _SCHEMA.with_metadata({_FACTS: json.dumps(facts, sort_keys=True).encode()})
    # zstd finds an item again in the other orders of its shard; a dictionary of texts would hold them all at once.
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3, use_dictionary=False) as writer:
        for rows in _groups(texts, shards, options):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))


def _groups(texts: Sequence[str], shards: Sequence[range], options: OrderOptions) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    n_bytes = 0
    for shard, places in enumerate(shards):
        for permutation in range(options.permutations + 1):
            order = drawn_order(places, options.seed, shard, permutation)
            text = options.separator.join(texts[i] for i in order)
            rows.append({"id": f"{shard}/{permutation}", "text": text, "shard": shard, "permutation": permutation,
                         "n_items": len(places)})  # fmt: skip
            n_bytes += len(text)
            if n_bytes >= GROUP_BYTES:
                yield rows
                rows, n_bytes = [], 0
    if rows:
        yield rows


def read_facts(lake: Lake, path: str) -> dict[str, Any] | None:
    """What was stored with the orders at `path` of the lake; None where there is no such object, or none of ours."""
    try:
        with lake.storage.parquet(path) as file:
            facts = json.loads((file.schema_arrow.metadata or {})[_FACTS])
    except (FileNotFoundError, KeyError, ValueError):  # a broken file raises ArrowInvalid, a ValueError
        return None
    return facts if isinstance(facts, dict) else None
