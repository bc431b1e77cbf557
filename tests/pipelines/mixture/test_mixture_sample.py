"""Which documents are sampled: by their key alone, long and short ones alike, never more than was asked for."""

from __future__ import annotations

import math
import random

import numpy as np
import pyarrow as pa
import pytest

from operators.merges import GROUPS
from pipelines.mixture.sample import N_BINS, PIECE, Draw, Weight, drawn, named_pieces, pieces
from schemas.flow import READ


def block(texts: dict[str, str | None]) -> pa.Table:
    """A block as the reader makes it; None: a reject."""
    rows = [
        {"source": "s", "row": i, "key": key, "text": text, "reason": None if text is not None else "empty_text"}
        for i, (key, text) in enumerate(texts.items())
    ]
    return pa.Table.from_pylist([{f.name: row.get(f.name) for f in READ} for row in rows], schema=READ)


def weighed(blocks: list[pa.Table], draw: Draw) -> Weight:
    weight = Weight.none()
    for each in blocks:
        part = Weight.none()
        part.add_block(each, draw)
        weight.add_tables([part.table()])
    return weight


@pytest.fixture
def texts() -> dict[str, str | None]:
    dice = random.Random(0)
    return {f"doc-{i}": "wört " * dice.randint(1, 200) for i in range(2000)}


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7])
@pytest.mark.parametrize("gap", ["", " ", "\n", "\n\n"])
def test_pieces_are_the_text_and_none_is_too_long(size: int, gap: str) -> None:
    text = ("abcdefgh" + gap) * (size // 8 + 1)
    found = list(pieces(text[:size]))
    assert "".join(found) == text[:size]
    assert max(map(len, found)) <= PIECE


def test_pieces_are_cut_behind_lines_else_before_spaces() -> None:
    lines = list(pieces("a line of text\n" * 10_000))
    assert len(lines) > 1
    assert all(piece.endswith("\n") for piece in lines)
    words = list(pieces("word " * 30_000))
    assert len(words) > 1
    assert all(piece.startswith(" ") for piece in words[1:])


def test_a_sample_is_as_large_as_it_may_be_and_holds_what_was_weighed(texts: dict[str, str | None]) -> None:
    whole = block({**texts, "bad": None})
    weight = weighed([whole], Draw(7))
    assert weight.documents == len(texts)
    assert weight.n_bytes == sum(len((text or "").encode()) for text in texts.values())
    least = weight.least_bin(100_000)
    n_bytes, n_pieces = weight.sampled(least)
    assert 80_000 < n_bytes <= 100_000 < weight.sampled(least - 1)[0]
    found, groups = drawn(whole, Draw(7, least))
    assert (sum(len(text.encode()) for text in found), len(found)) == (n_bytes, n_pieces)
    assert all(0 <= group < GROUPS for group in groups)


def test_blocks_and_their_order_change_nothing(texts: dict[str, str | None]) -> None:
    keys = list(texts)
    whole = weighed([block(texts)], Draw(0))
    parts = weighed([block({k: texts[k] for k in part}) for part in (keys[1500:], keys[:3], keys[3:1500])], Draw(0))
    assert np.array_equal(whole.bytes_by_bin, parts.bytes_by_bin)
    assert np.array_equal(whole.pieces_by_bin, parts.pieces_by_bin)
    assert whole.documents == parts.documents


def test_every_document_has_the_same_chance() -> None:
    draw = Draw(3, 40)
    mixed = block({f"{kind}-{i}": "x" * (5000 if kind == "long" else 5) for i in range(4000) for kind in ("long", "s")})
    found, groups = drawn(mixed, draw)
    for length in (5, 5000):
        n = sum(len(text) == length for text in found)
        assert abs(n - 4000 * draw.share) < 5 * math.sqrt(4000 * draw.share * (1 - draw.share))
    counts = np.bincount(groups, minlength=GROUPS)
    assert (np.abs(counts - len(groups) / GROUPS) < 5 * math.sqrt(len(groups) / GROUPS)).all()


def test_another_seed_is_another_sample(texts: dict[str, str | None]) -> None:
    first, again, other = (drawn(block(texts), Draw(seed, 30)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_long_document_is_drawn_in_pieces() -> None:
    book = "a line of a long book\n" * 100_000
    names = [name for name, _ in named_pieces(block({"book": book}))]
    assert len(names) == len(set(names)) > 30
    weight = weighed([block({"book": book})], Draw(0))
    least = weight.least_bin(500_000)
    assert 0 < weight.sampled(least)[0] <= 500_000


def test_a_sample_is_never_empty_where_there_is_text() -> None:
    weight = weighed([block({"one": "x" * 50_000})], Draw(0))
    assert weight.sampled(weight.least_bin(10)) == (50_000, 1)


def test_of_no_text_all_is_sampled() -> None:
    weight = Weight.none()
    assert weight.least_bin(1000) == 0
    assert weight.sampled(0) == (0, 0)
    assert len(weight.bytes_by_bin) == N_BINS
