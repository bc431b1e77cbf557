"""Overlap equals the plain reference: what is seen, where, how long, for random texts that repeat themselves a lot."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from overlap_reference import Item, expect, item_table, janitor_1, random_text, read_block, words_1

from operators.overlap import Matcher, Matches, OverlapOptions, Totals, build_index

ASCII = ("a", "b", "C", "dd", "a-b")
SCRIPTS = ("a", "É", "e\u0301", "漢字", "ก็ข", "x\u200dy", "ß", "ΑΣ", "👩\u200d👧")
CUTS = {"words-1": words_1, "janitor-1": janitor_1}
PARTS = ("input", "answer", "across", "all")


def case(seed: int, alphabet: tuple[str, ...], n: int) -> tuple[list[Item], list[str | None]]:
    """Some items, and documents of which some quote them."""
    rng = np.random.default_rng(seed)
    alphabet = alphabet[: int(rng.integers(1, len(alphabet) + 1))]
    size = 2 * n + 6
    items = [
        Item(
            f"item-{i}",
            random_text(rng, int(rng.integers(0, size)), alphabet),
            None if rng.random() < 0.3 else random_text(rng, int(rng.integers(0, size)), alphabet),
            item_id=int(rng.integers(1 << 62)),
        )
        for i in range(int(rng.integers(1, 6)))
    ]
    texts: list[str | None] = []
    for _ in range(int(rng.integers(0, 8))):
        parts = [random_text(rng, int(rng.integers(0, size)), alphabet)]
        if rng.random() < 0.6:
            item = items[rng.integers(len(items))]
            whole = item.input + " " + (item.answer or "")
            parts.insert(int(rng.integers(2)), whole[int(rng.integers(len(whole) + 1)) :] + " ")
        texts.append(None if rng.random() < 0.1 else "".join(parts))
    return items, texts


def check(folder: Path, items: list[Item], texts: list[str | None], options: OverlapOptions, blocks: int = 1) -> None:
    expected = expect(items, texts, options.n, options.most_items, CUTS[options.normalisation])
    half = len(items) // 2
    index = build_index([item_table(items[:half]), item_table(items[half:])], folder, options)
    matcher = Matcher(folder, options)
    bounds = np.linspace(0, len(texts), blocks + 1).astype(int)
    parts = [matcher(read_block(texts[a:b], a)) for a, b in pairwise(bounds)]
    matches = Matches.joined(parts)
    assert spans_of(matches, items) == expected.spans
    assert cuts_of(matches) == expected.cuts
    assert matches.counts.n_common == len(expected.common)
    assert matches.counts.documents == sum(text is not None for text in texts)
    assert matches.counts.hit_documents == len(expected.cuts)
    totals = Totals(index)
    for unit, part in enumerate(parts):
        assert totals.add(unit, Matches.decode(part.encode()))
    check_items(totals, items, expected, options.n, CUTS[options.normalisation])


def spans_of(matches: Matches, items: list[Item]) -> set[tuple[int, ...]]:
    number = {item.item_id: i for i, item in enumerate(items)}
    rows = matches.spans.to_pylist()
    found = [
        (row["row"], row["byte_start"], row["n_bytes"], number[row["item_id"]], row["item_word"], row["n_words"])
        for row in rows
    ]
    assert len(set(found)) == len(found)
    return set(found)


def cuts_of(matches: Matches) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for row in matches.cuts.to_pylist():
        found.setdefault(row["row"], []).append((row["byte_start"], row["byte_start"] + row["n_bytes"]))
    return found


def check_items(totals: Totals, items: list[Item], expected, n: int, cut) -> None:
    number = {item.item_id: i for i, item in enumerate(items)}
    rows = [row for table in totals.overlaps(rows=8) for row in table.to_pylist()]
    assert [(row["item_id"], row["part"]) for row in rows] == sorted((row["item_id"], row["part"]) for row in rows)
    assert len(rows) == sum(2 if item.answer is None else 4 for item in items)
    for row in rows:
        i, part = number[row["item_id"]], row["part"]
        item = items[i]
        assert (row["key"], row["n_ngrams"], row["n_seen"]) == (
            item.key,
            expected.n_grams[i, part],
            expected.seen[i, part],
        )
        assert row["share_seen"] == (row["n_seen"] / row["n_ngrams"] if row["n_ngrams"] else None)
        border = len(cut(item.input))
        documents = {d for d, _, _ in parts_of(expected.spans, i, part, border)}
        # What is seen is a match of n words, also where it starts no span.
        seen = {(-1, 0, 0, j, p, n) for j, p in expected.seen_at}
        pieces = sorted((start - end, start) for _, start, end in parts_of(expected.spans | seen, i, part, border))
        assert row["n_documents"] == max(len(documents), len(pieces) > 0)
        assert row["longest_match"] == (-pieces[0][0] if pieces else 0)
        if pieces:
            first, last = pieces[0][1], pieces[0][1] - pieces[0][0]
            assert (row["byte_start"], row["n_bytes"]) == item_bytes(item, part, first, last, cut)
        else:
            assert row["byte_start"] is row["n_bytes"] is None


def parts_of(spans, i: int, part: str, border: int):
    """What of each span of an item lies in a part: document, first word, last word + 1."""
    for d, _, _, item, p, length in spans:
        start, end = p, p + length
        if item != i:
            continue
        if part == "input":
            end = min(end, border)
        elif part == "answer":
            start = max(start, border)
        elif part == "across" and not start < border < end:
            continue
        if end > start:
            yield d, start, end


def item_bytes(item: Item, part: str, first: int, last: int, cut) -> tuple[int, int]:
    shift = len(item.input.encode()) if part in ("all", "across") else 0
    words = [(a, b) for _, a, b in cut(item.input)] + [(a + shift, b + shift) for _, a, b in cut(item.answer or "")]
    return words[first][0], words[last - 1][1] - words[first][0]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("alphabet", [ASCII, SCRIPTS], ids=["ascii", "scripts"])
def test_equals_reference(tmp_path: Path, n: int, alphabet: tuple[str, ...]) -> None:
    for seed in range(16):
        items, texts = case(seed, alphabet, n)
        check(tmp_path / str(seed), items, texts, OverlapOptions(n=n, most_items=10**9), blocks=1 + seed % 3)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_common_ngrams_start_no_span_but_carry_others(tmp_path: Path, n: int) -> None:
    for seed in range(20):
        items, texts = case(100 + seed, ASCII, n)
        check(tmp_path / str(seed), items, texts, OverlapOptions(n=n, most_items=1 + seed % 7))


@pytest.mark.parametrize("n", [1, 3])
def test_colliding_hashes_change_nothing(tmp_path: Path, n: int) -> None:
    for seed in range(16):
        items, texts = case(200 + seed, ASCII + SCRIPTS, n)
        check(tmp_path / str(seed), items, texts, OverlapOptions(n=n, most_items=10**9, hash_bits=1 + seed % 5))


def test_janitor_equals_reference(tmp_path: Path) -> None:
    for seed in range(16):
        items, texts = case(300 + seed, ("a", "B.", "'c", "--", "É", "d\x00e", "x\u2028y"), 3)
        check(tmp_path / str(seed), items, texts, OverlapOptions(n=3, normalisation="janitor-1", most_items=10**9))
