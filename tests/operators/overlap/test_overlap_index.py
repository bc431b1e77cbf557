"""The index of a benchmark: the same files from the same items, whole or refused; and totals over units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from overlap_reference import Item, item_table, random_text, read_block

from operators.overlap import (
    ITEMS,
    BenchmarkIndex,
    Matcher,
    Matches,
    OverlapError,
    OverlapOptions,
    Totals,
    build_index,
    item_blocks,
)
from operators.overlap.bits import filter_bits, get_bits, set_bits

N3 = OverlapOptions(n=3)
ITEMS_3 = [
    Item("a", "one two three, Four five", "six seven eight", 7),
    Item("b", "x y", "z w", 3),
    Item("c", "zwei drei", None, 5),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def some_items(n: int = 40) -> list[Item]:
    rng = np.random.default_rng(1)
    words = ("a", "b", "cc", "É", "漢", "it's")
    return [
        Item(
            f"k{i}",
            random_text(rng, 9, words),
            random_text(rng, 3, words) if i % 3 else None,
            int(rng.integers(1 << 62)),
        )
        for i in range(n)
    ]


def test_an_index_is_its_items_however_they_are_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = some_items()
    build_index([item_table(items)], tmp_path / "one", N3)
    build_index([item_table(items[:1]), item_table([]), item_table(items[1:])], tmp_path / "two", N3)
    monkeypatch.setattr(item_blocks, "BLOCK_ITEMS", 3)
    build_index([item_table(items)], tmp_path / "three", N3)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    for other in (two, three):  # the batches of the items' own file differ, nothing else
        assert {name for name in one if one[name] != other[name]} <= {"items.arrow", "manifest.json"}
    assert set(one) == set(BenchmarkIndex.open(tmp_path / "one").files)
    digests = {BenchmarkIndex.open(tmp_path / name).digest for name in ("one", "two", "three")}
    build_index([item_table(items[::-1])], tmp_path / "four", N3)
    assert len(digests) == 1
    assert BenchmarkIndex.open(tmp_path / "four").digest not in digests


def test_sizes_and_items_of_an_index(tmp_path: Path) -> None:
    with build_index([item_table(ITEMS_3)], tmp_path / "i", N3) as index:
        assert (index.n_items, index.n_words, index.n_grams, index.n_short) == (3, 14, 8, 1)
        assert index.items.equals(item_table(ITEMS_3))
        assert index.inputs_I.tolist() == [5, 2, 2]
        assert index.items_of(np.array([0, 7, 8, 11, 12, 13])).tolist() == [0, 0, 1, 1, 2, 2]


def test_ngrams_of_one_hash_are_told_apart(tmp_path: Path) -> None:
    items = some_items()
    sound = build_index([item_table(items)], tmp_path / "sound", N3)
    colliding = build_index([item_table(items)], tmp_path / "colliding", OverlapOptions(n=3, hash_bits=2))
    assert len(np.unique(colliding.hashes_G)) <= 4 < sound.n_grams == colliding.n_grams
    for index in (sound, colliding):
        grams = [
            {tuple(index.words_N[p : p + 3].tolist()) for p in index.postings[a:b].tolist()}
            for a, b in zip(index.firsts[:-1].tolist(), index.firsts[1:].tolist(), strict=True)
        ]
        assert all(len(gram) == 1 for gram in grams)
        assert len(set.union(*grams)) == len(grams)
        assert sorted(index.postings.tolist()) == sorted(set(index.postings.tolist()))


@pytest.mark.parametrize("name", ["words", "postings", "items.arrow", "filter", "manifest.json"])
def test_an_index_that_is_not_whole_is_refused(tmp_path: Path, name: str) -> None:
    build_index([item_table(ITEMS_3)], tmp_path / "i", N3).close()
    path = tmp_path / "i" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(OverlapError, match="build"):
        BenchmarkIndex.open(tmp_path / "i")
    path.unlink()
    with pytest.raises(OverlapError, match="build"):
        BenchmarkIndex.open(tmp_path / "i")
    path.write_bytes(data)
    assert BenchmarkIndex.open(tmp_path / "i", N3, verify=True).n_items == 3


def test_changed_bytes_are_found_where_asked(tmp_path: Path) -> None:
    build_index([item_table(ITEMS_3)], tmp_path / "i", N3).close()
    path = tmp_path / "i" / "words"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(OverlapError, match="checksum"):
        BenchmarkIndex.open(tmp_path / "i", verify=True)


def test_an_index_of_other_options_is_refused(tmp_path: Path) -> None:
    build_index([item_table(ITEMS_3)], tmp_path / "i", N3)
    with pytest.raises(OverlapError, match="n 3, not 4"):
        BenchmarkIndex.open(tmp_path / "i", OverlapOptions(n=4))
    with pytest.raises(OverlapError, match="janitor-1"):
        Matcher(tmp_path / "i", OverlapOptions(n=3, normalisation="janitor-1"))(read_block(["a b c"]))
    assert BenchmarkIndex.open(tmp_path / "i", OverlapOptions(n=3, margin=5, most_items=1, drop="any")).n == 3
    path = tmp_path / "i" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unicode": "1.1"}))
    with pytest.raises(OverlapError, match=r"unicode '1\.1'"):
        BenchmarkIndex.open(tmp_path / "i", N3)


def test_items_that_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(OverlapError, match="no items"):
        build_index([], tmp_path / "a", N3)
    twice = [Item("x\n[red]", "a", None, 4), Item("y", "b", None, 4)]
    with pytest.raises(OverlapError, match=r"'x\\n\[red\]' and 'y'"):
        build_index([item_table(twice)], tmp_path / "b", N3)
    null = item_table(ITEMS_3).set_column(4, ITEMS.field(4).with_nullable(True), pa.nulls(3, pa.large_string()))
    with pytest.raises((OverlapError, ValueError), match=r"input|null"):
        build_index([null], tmp_path / "c", N3)
    assert not list(tmp_path.glob("*/manifest.json"))
    with pytest.raises(FileExistsError):
        build_index([item_table(ITEMS_3)], tmp_path / "c", N3)


def test_a_benchmark_without_ngrams_matches_nothing(tmp_path: Path) -> None:
    index = build_index([item_table([Item("a", "", None, 1), Item("b", "x", "", 2)])], tmp_path / "i", N3)
    matches = Matcher(tmp_path / "i", N3)(read_block(["x y z", "x"]))
    assert (len(matches.seen), len(matches.spans), len(matches.cuts)) == (0, 0, 0)
    totals = Totals(index)
    totals.add(0, matches)
    rows = pa.concat_tables(totals.overlaps()).to_pylist()
    assert [(row["part"], row["n_ngrams"], row["share_seen"]) for row in rows] == [
        ("all", 0, None),
        ("input", 0, None),
        ("across", 0, None),
        ("all", 0, None),
        ("answer", 0, None),
        ("input", 0, None),
    ]


def units(folder: Path) -> tuple[BenchmarkIndex, list[Matches]]:
    items = some_items()
    index = build_index([item_table(items)], folder, N3)
    rng = np.random.default_rng(2)
    texts = [
        random_text(rng, 4, ("a", "q")) + items[rng.integers(len(items))].input[: int(rng.integers(40))]
        for _ in range(60)
    ]
    matcher = Matcher(folder, N3)
    return index, [matcher(read_block(texts[a : a + 10], a)) for a in range(0, 60, 10)]


def result(totals: Totals) -> pa.Table:
    return pa.concat_tables(totals.overlaps())


def test_totals_do_not_depend_on_order_repetition_or_who_adds(tmp_path: Path) -> None:
    index, parts = units(tmp_path / "i")
    expected = Totals(index)
    for unit, part in enumerate(parts):
        assert expected.add(unit, part)
    assert expected.counts.documents == 60
    assert result(expected)["n_seen"].to_numpy().sum() > 0
    backwards = Totals(index)
    for unit in [5, 3, 3, 4, 0, 1, 2, 5]:
        backwards.add(unit, parts[unit])
    assert not backwards.add(0, parts[3])
    halves = [Totals(index), Totals(index)]
    for unit, part in enumerate(parts):
        halves[unit % 2].add(unit, part)
    halves[0].merge(halves[1])
    for other in (backwards, halves[0]):
        assert (other.units, other.counts) == (expected.units, expected.counts)
        assert result(other).equals(result(expected))
    with pytest.raises(ValueError, match="same units"):
        halves[0].merge(halves[1])


def test_units_joined_are_their_documents_together(tmp_path: Path) -> None:
    index, parts = units(tmp_path / "i")
    one, many = Totals(index), Totals(index)
    joined = Matches.joined(parts)
    one.add(9, joined)
    for unit, part in enumerate(parts):
        many.add(unit, part)
    assert result(one).equals(result(many))
    assert joined.encode().equals(Matches.joined(parts[::-1]).encode())
    decoded = Matches.decode(joined.encode().to_pybytes())
    assert decoded.encode().equals(joined.encode())
    assert decoded.counts == joined.counts == one.counts


def test_matches_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    _, parts = units(tmp_path / "i")
    other = build_index([item_table(ITEMS_3)], tmp_path / "j", N3)
    with pytest.raises(ValueError, match="benchmark does not have"):
        Totals(other).add(0, Matches.joined(parts))
    with pytest.raises(ValueError, match="Expected to read"):
        Matches.decode(b"torn")


def test_bits() -> None:
    rng = np.random.default_rng(0)
    data = np.zeros(100, np.uint8)
    chosen = np.unique(rng.integers(0, 800, 300))
    set_bits(data, chosen)
    set_bits(data, chosen[:0])
    assert np.flatnonzero(get_bits(data, np.arange(800))).tolist() == chosen.tolist()
    assert [filter_bits(n) for n in (0, 1, 4096, 4097, 10**8, 10**12)] == [16, 16, 16, 17, 31, 33]


def test_a_copy_of_the_files_is_the_index(tmp_path: Path) -> None:
    index, parts = units(tmp_path / "i")
    (tmp_path / "copy").mkdir()
    for name in index.files:
        shutil.copy(tmp_path / "i" / name, tmp_path / "copy" / name)
    copy = BenchmarkIndex.open(tmp_path / "copy", N3, verify=True)
    totals, expected = Totals(copy), Totals(index)
    totals.add(0, parts[0])
    expected.add(0, parts[0])
    assert result(totals).equals(result(expected))
