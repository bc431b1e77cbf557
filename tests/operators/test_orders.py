"""Orders of a benchmark: shards that tile it, orders drawn evenly and the same every time, items in canonical order."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product
from pathlib import Path

import lakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from operators import orders
from operators.lake import Lake
from operators.orders import (
    Items,
    OrderOptions,
    OrdersInputError,
    cut_shards,
    drawn_order,
    read_facts,
    read_items,
    write_orders,
)
from operators.write import PartWriter, WriteOptions


@pytest.mark.parametrize(("n_items", "shards"), [(4, 2), (5, 2), (100, 50), (101, 50), (99, 7), (1000, 3)])
def test_shards_tile_the_items_and_are_about_equal(n_items: int, shards: int) -> None:
    found = cut_shards(n_items, shards)
    assert len(found) == shards
    assert [i for places in found for i in places] == list(range(n_items))
    sizes = [len(places) for places in found]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2


@pytest.mark.parametrize(
    ("n_items", "shards", "said"),
    [(99, 50, "49 at most"), (3, 2, "of four items or more"), (10, 1, "5 at most"), (0, 2, "of four items or more")],
)
def test_shards_of_a_single_item_are_refused(n_items: int, shards: int, said: str) -> None:
    with pytest.raises(OrdersInputError, match=said):
        cut_shards(n_items, shards)


def test_orders_are_drawn_evenly_from_all_of_them() -> None:
    """Chi-squared over the six orders of three items, the one that they have among them."""
    places = range(7, 10)
    counts = Counter(tuple(drawn_order(places, 5, shard, j)) for shard, j in product(range(20), range(1, 301)))
    assert set(counts) == set(permutations(places))
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_an_order_depends_on_seed_shard_and_number_alone() -> None:
    places = range(100, 130)
    assert drawn_order(places, 3, 1, 0) == list(places)
    once = [tuple(drawn_order(places, seed, s, j)) for seed, s, j in product((0, 1), (0, 1), (1, 2))]
    assert once == [tuple(drawn_order(places, seed, s, j)) for seed, s, j in product((0, 1), (0, 1), (1, 2))]
    assert len(set(once)) == 8
    shifted = drawn_order(range(30), 0, 0, 1)
    assert [i + 100 for i in shifted] == list(once[0])


def test_the_file_holds_every_order_in_bounded_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"item {i} " + "é" * (i % 4) for i in range(9)]
    options = OrderOptions(shards=4, permutations=5, seed=2, separator=" | ")
    for name in ("a", "b"):
        write_orders(tmp_path / name, texts, options, {"seed": 2, "base_run": "b"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rows = pq.read_table(tmp_path / "a").to_pylist()
    assert [(r["shard"], r["permutation"]) for r in rows] == list(product(range(4), range(6)))
    for row in rows:
        places = cut_shards(9, 4)[row["shard"]]
        assert row["id"] == f"{row['shard']}/{row['permutation']}"
        assert row["n_items"] == len(places)
        order = drawn_order(places, 2, row["shard"], row["permutation"])
        assert row["text"] == " | ".join(texts[i] for i in order)
    monkeypatch.setattr(orders, "GROUP_BYTES", 60)
    write_orders(tmp_path / "c", texts, options, {})
    assert pq.ParquetFile(tmp_path / "c").num_row_groups > 6
    assert pq.read_table(tmp_path / "c").to_pylist() == rows


def test_facts_come_back_and_foreign_files_have_none(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    facts = {"seed": 1, "separator": "\n\n", "items": None}
    write_orders(tmp_path / "ours.parquet", ["a", "b", "c", "d"], OrderOptions(2, 1), facts)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    assert read_facts(lake, "ours.parquet") == facts
    assert [read_facts(lake, f"{name}.parquet") for name in ("foreign", "broken", "none")] == [None] * 3


def write_documents(lake: Lake, run_id: str, parts: list[list[tuple[str, int, str]]], *, keep: bool = True) -> None:
    """Parts of documents given as (source, row, text)."""
    writer = PartWriter(WriteOptions(lake, run_id, (), keep_text=keep))
    for part in parts:
        records = [{**lakes.document(t, row, ()), "source": s, "key": f"{s}#{row}"} for s, row, t in part]
        lakes.write_records(writer, records)


def test_items_stand_as_the_files_were_listed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    parts = [[("f-2", 0, "C"), ("f-10", 3, "B")], [("f-2", 1, "DD"), ("f-10", 0, "A"), ("f-2", 7, "A")]]
    write_documents(lake, "run", parts)
    items = read_items(lake, "run")
    assert list(items.texts) == ["A", "B", "C", "DD", "A"]
    assert (items.available, items.repeated, items.n_tokens) == (5, 1, 5)
    assert items.sources == ("f-10", "f-2")
    assert not items.is_in_natural_order
    first = read_items(lake, "run", 3)
    assert (list(first.texts), first.available, first.repeated) == (["A", "B", "C"], 5, 0)


@pytest.mark.parametrize(
    ("sources", "natural"),
    [
        (("a",), True),
        (("part-1", "part-2", "part-3"), True),
        (("part-1", "part-10", "part-2"), False),
        (("part-01", "part-02", "part-10"), True),
        (("1", "a", "b2"), True),
        (("a-9", "a9"), True),
        (("x/10/a", "x/2/a", "x/2/b"), False),
    ],
)
def test_numbers_in_names_of_files_are_noticed(sources: tuple[str, ...], natural: bool) -> None:
    assert Items(["a"], 1, 1, 0, sources).is_in_natural_order == natural


def test_texts_that_were_dropped_are_asked_for(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write_documents(lake, "run", [[("f", 0, "A"), ("f", 1, "B")]], keep=False)
    with pytest.raises(OrdersInputError, match="did not keep its texts"):
        read_items(lake, "run")
    with pytest.raises(OrdersInputError, match="has no documents"):
        read_items(lake, "nobody")
