"""Rows of all documents put in order, a bounded number at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.overlap import tables
from schemas import DECONTAMINATION


def rows(rng: np.random.Generator, ids: np.ndarray) -> pa.Table:
    schema = DECONTAMINATION.arrow()
    columns = {
        "doc_id": ids,
        "key": [f"k{i}" for i in ids],
        "source": ["s"] * len(ids),
        "row": ids % 7,
        "byte_start": rng.integers(0, 1 << 40, len(ids)),
        "n_bytes": np.ones(len(ids)),
        "document_bytes": np.full(len(ids), 1 << 41),
        "drop_document": np.zeros(len(ids), np.bool_),
        "rule": ["any"] * len(ids),
    }
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in schema], schema=schema)


@pytest.mark.parametrize("held", [1, 50, 10_000])
def test_rows_come_back_in_order_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 20)
    monkeypatch.setattr(tables, "_ROW_GROUP", held)
    rng = np.random.default_rng(held)
    documents = np.concatenate([rng.integers(0, 1 << 63, 40), rng.integers(0, 1 << 40, 40)])  # half in one range
    blocks = [rows(rng, rng.choice(documents, rng.integers(0, 30))) for _ in range(40)]
    blocks.append(rows(rng, np.full(50, documents[-1])))  # all of one document
    given = tables.SortedRows(tmp_path, DECONTAMINATION)
    for block in blocks:
        given.add(block)
    parts = list(given)
    expected = pa.concat_tables(blocks).sort_by([(name, "ascending") for name in DECONTAMINATION.sorted_by])
    assert pa.concat_tables(parts).combine_chunks() == expected.combine_chunks()
    of_one = max(np.unique(expected["doc_id"].to_numpy(), return_counts=True)[1])
    assert max(map(len, parts)) <= 20 + of_one < len(expected)


def test_no_rows_are_no_tables(tmp_path: Path) -> None:
    given = tables.SortedRows(tmp_path, DECONTAMINATION)
    given.add(DECONTAMINATION.arrow().empty_table())
    assert list(given) == []
    assert list(tmp_path.iterdir()) == []
