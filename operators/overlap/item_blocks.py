"""The items of a benchmark in blocks of bounded size, checked, each with the words of its items.

tables of items -> blocks -> words of inputs and answers -> blocks without the items that the tokenizer refused
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.index import ITEMS
from operators.overlap.matches import refused_rows
from operators.overlap.normalise import Cut
from operators.overlap.options import OverlapError
from operators.overlap.words import Words

BLOCK_BYTES = 8 << 20
BLOCK_ITEMS = 1 << 16
Refuse = Callable[[pa.Table], object]


def item_blocks(items: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The items in blocks of bounded size, checked."""
    for table in items:
        table = table.select(ITEMS.names).cast(ITEMS).combine_chunks()
        for column in ITEMS:
            if not column.nullable and table[column.name].null_count:
                raise OverlapError(f"items without {column.name}: {table[column.name].null_count}")
        sizes = pc.add(pc.binary_length(table["input"]), pc.fill_null(pc.binary_length(table["answer"]), 0))
        ends = np.cumsum(sizes.to_numpy())
        first = 0
        while first < len(table):
            done = ends[first - 1] if first else 0
            last = int(np.searchsorted(ends, done + BLOCK_BYTES, side="right"))
            last = min(max(last, first + 1), first + BLOCK_ITEMS)
            yield table.slice(first, last - first)
            first = last


def cut_items(
    blocks: Iterable[pa.Table], cut: Callable[[pa.LargeStringArray], Cut], refuse: Refuse | None
) -> Iterator[tuple[pa.Table, Words]]:
    """Blocks with the words of their `_texts`, without the items that are refused."""
    for block in blocks:
        words, refused = cut(_texts(block))
        if refused:
            first = {place // 2: (reason, detail) for place, reason, detail in reversed(refused)}
            rows = refused_rows(block, [(item, *first[item]) for item in sorted(first)])
            if refuse is None:
                row = rows.slice(0, 1).to_pylist()[0]
                raise OverlapError(f"item {row['key']!r}: {row['reason']}: {row['detail']}")
            refuse(rows)
            kept = np.setdiff1d(np.arange(len(block)), list(first))
            block = block.take(pa.array(kept)).combine_chunks()
            words = words.ordered((2 * kept[:, None] + np.arange(2)).ravel())
        if len(block):
            yield block, words


def _texts(block: pa.Table) -> pa.LargeStringArray:
    """Input and answer of the first item, of the second, ...: an answer that is not there is empty."""
    n = len(block)
    both = pa.concat_arrays([block["input"].combine_chunks(), pc.fill_null(block["answer"].combine_chunks(), "")])
    return both.take(pa.array(np.arange(2 * n).reshape(2, n).T.ravel()))
