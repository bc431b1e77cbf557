"""Verifying the orders that runs scored: sound ones pass; foreign names, lost, broken and mistaken ones are found."""

from __future__ import annotations

from pathlib import Path

import labelled
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.lake import Lake, orders_path
from operators.orders import OrderOptions, write_orders
from operators.verify import Kind, verify

FACTS = {"shards": 2, "permutations": 3, "seed": 0, "base_run": "bench"}


def write(lake: Path, run_id: str, **more: object) -> Path:
    path = lake / orders_path(run_id)
    path.parent.mkdir(exist_ok=True)
    write_orders(path, ["a", "b", "c", "d"], OrderOptions(2, 3), {**FACTS, **more})
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A run of orders, and its orders."""
    store = Lake(str(tmp_path))
    labelled.write_run(store, "run", labelled.documents(np.random.default_rng(0), 3), features=())
    ledger = store.read_run("run")
    config = {**ledger["config"], "transform": "orders:shards=2,permutations=3", "base_run": "bench"}
    store.write_run("run", {**ledger, "config": config})
    write(tmp_path, "run")
    return tmp_path


def faults(lake: Path) -> set[tuple[str, str, str]]:
    """Kind, run and place of what is wrong with orders."""
    found = verify(Lake(str(lake)))
    return {(str(each.kind), each.run_id, each.where) for each in found if each.where.startswith("orders/")}


def test_orders_of_their_run_are_sound(lake: Path) -> None:
    assert faults(lake) == set()
    (lake / orders_path("run")).unlink()
    assert faults(lake) == set()  # a run is sound without its input


def test_names_of_no_run_are_found(lake: Path) -> None:
    write(lake, "gone")
    orders = lake / "orders"
    left = "0" * 32
    for name in ("notes.txt", "a b.parquet", f".run.parquet.{left}.tmp", f".gone.parquet.{left}.tmp"):
        (orders / name).write_bytes(b"")
    (orders / "sub").mkdir()
    assert faults(lake) == {
        ("orphan", "", "orders/gone.parquet"),
        ("foreign", "", "orders/notes.txt"),
        ("foreign", "", "orders/a b.parquet"),
        ("foreign", "", "orders/sub"),
        ("temporary", "run", f"orders/.run.parquet.{left}.tmp"),
        ("temporary", "", f"orders/.gone.parquet.{left}.tmp"),
    }


def test_a_run_that_is_removed_leaves_its_orders_which_are_reported(lake: Path) -> None:
    Lake(str(lake)).remove_run("run")
    assert (lake / orders_path("run")).exists()
    (fault,) = verify(Lake(str(lake)))
    assert (fault.kind, fault.where) == (Kind.ORPHAN, "orders/run.parquet")
    assert "orders of a run that is not there" in fault.message


@pytest.mark.parametrize("facts", [{"seed": 1}, {"base_run": "another"}, {"shards": "many"}])
def test_other_orders_than_the_run_scored(lake: Path, facts: dict[str, object]) -> None:
    write(lake, "run", **facts)
    assert faults(lake) == {("stale", "run", "orders/run.parquet")}


def test_orders_that_cannot_be_read(lake: Path) -> None:
    path = lake / orders_path("run")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert faults(lake) == {("unreadable", "run", "orders/run.parquet")}
    path.write_bytes(whole[:40] + bytes(20) + whole[60:])
    assert faults(lake) == {("unreadable", "run", "orders/run.parquet")}
    pq.write_table(pa.table({"x": [1]}), path)
    assert faults(lake) == {("schema", "run", "orders/run.parquet")}
    (plain,) = {each.message for each in verify(Lake(str(lake))) if each.where.startswith("orders/")}
    assert "not written by `assay exchangeability`" in plain
