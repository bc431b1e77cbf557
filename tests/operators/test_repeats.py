"""Repeated ids over a corpus: the first record in input order has the id, whatever order the keys arrive in."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.repeats import KEYS, REPEATS, RepeatFinder

Key = tuple[int, int, int, int, int]  # unit, piece, row, doc_id, check


def found(keys: list[Key], *, tables: int = 3, seed: int = 0) -> list[tuple[object, ...]]:
    keys = list(keys)
    random.Random(seed).shuffle(keys)
    with RepeatFinder() as finder:
        for start in range(tables):
            rows = keys[start::tables]
            finder.add(pa.Table.from_pylist([dict(zip(KEYS.names, key, strict=True)) for key in rows], schema=KEYS))
        table = pa.Table.from_batches(list(finder.repeats()), REPEATS)
    return [tuple(row.values()) for row in table.to_pylist()]


def expected(keys: list[Key]) -> list[tuple[object, ...]]:
    """One dictionary, in input order."""
    first: dict[int, Key] = {}
    repeats: list[tuple[object, ...]] = []
    for key in sorted(keys):
        unit, piece, row, doc_id, check = key
        owner = first.setdefault(doc_id, key)
        if owner is not key:
            repeats.append((unit, piece, row, check != owner[4], *owner[:3]))
    return repeats


def test_by_hand() -> None:
    keys = [(0, 0, 5, 77, 1), (0, 0, 9, 77, 1), (0, 1, 2, 77, 2), (3, 0, 0, 88, 4), (2, 0, 7, 88, 4), (1, 0, 0, 99, 9)]
    assert found(keys) == [
        (0, 0, 9, False, 0, 0, 5),
        (0, 1, 2, True, 0, 0, 5),
        (3, 0, 0, False, 2, 0, 7),
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 40), st.integers(0, 9), st.integers(0, 1)),
        unique_by=lambda key: key[:3],
        max_size=60,
    ),
    st.integers(0, 5),
)
def test_equals_a_dictionary_in_input_order(keys: list[Key], seed: int) -> None:
    assert found(keys, seed=seed) == expected(keys)


def test_without_keys_there_are_no_repeats() -> None:
    with RepeatFinder() as finder:
        finder.add(KEYS.empty_table())
        assert list(finder.repeats()) == []


def test_leaves_nothing_on_disk(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert found([(0, 0, 0, 1, 1), (0, 0, 1, 1, 1)]) == [(0, 0, 1, False, 0, 0, 0)]
    import pathlib

    assert list(pathlib.Path(str(tmp_path)).iterdir()) == []
