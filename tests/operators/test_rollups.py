"""Roll-ups equal float64 numpy, one document at a time: ties, NULLs, single tokens, certain tokens, every k."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.rollups import ROLLED_UP, means_of_smallest, rollups
from schemas import DOCUMENTS, TOKENS
from schemas.documents import ROLLUPS

Statistics = tuple[float, float, float, int] | None  # logprob, entropy, logprob_std, rank; None: not scored

scored = st.tuples(
    st.sampled_from([0.0, -0.25, -1.5, -3.0]) | st.floats(-30, 0, width=32),
    st.sampled_from([0.0, 0.25, 1.5]) | st.floats(0, 12, width=32),
    st.sampled_from([0.0, 0.5]) | st.floats(0, 8, width=32, allow_subnormal=False),
    st.integers(1, 200_000),
)
document = st.lists(scored | st.none(), min_size=1, max_size=40)


def table(documents: list[list[Statistics]]) -> tuple[pa.Table, Any]:
    rows = [row or (None,) * 4 for each in documents for row in each]
    columns = {name: pa.array([row[i] for row in rows], TOKENS[name].type) for i, name in enumerate(ROLLED_UP)}
    return pa.table(columns), np.array([len(each) for each in documents], np.int64)


def reference(rows: list[Statistics]) -> dict[str, float | None]:
    """The columns' formulas, of one document."""
    numbers = np.array([row for row in rows if row is not None], np.float64).reshape(-1, 4)
    if not len(numbers):
        return {c.name: None for c in DOCUMENTS.group(ROLLUPS)}
    logprob, entropy, deviation = (numbers[:, i].astype(np.float32).astype(np.float64) for i in range(3))
    with np.errstate(all="ignore"):
        z = (logprob + entropy) / deviation
    z = np.sort(z[~np.isnan(z)])
    return {
        "logprob_sum": math.fsum(logprob),
        "entropy_sum": math.fsum(entropy),
        "varentropy_sum": math.fsum(deviation**2),
        "log_rank_sum": math.fsum(math.log(rank) for rank in numbers[:, 3]),
        "n_rank_1": int((numbers[:, 3] == 1).sum()),
        "min_k_20": float(np.sort(logprob)[: max(1, int(len(numbers) * 0.2))].mean()),
        "min_k_plus_plus_20": float(z[: max(1, int(len(z) * 0.2))].mean()) if len(z) else None,
    }


@given(st.lists(document, min_size=1, max_size=8))
def test_rollups_are_their_formulas(documents: list[list[Statistics]]) -> None:
    found = pa.table(rollups(*table(documents)))
    assert found.schema.names == [c.name for c in DOCUMENTS.group(ROLLUPS)]
    assert [field.type for field in found.schema] == [c.type for c in DOCUMENTS.group(ROLLUPS)]
    for row, expected in zip(found.to_pylist(), map(reference, documents), strict=True):
        for name, value in expected.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), name


def test_every_special_case_by_hand() -> None:
    certain, wrong = (0.0, 0.0, 0.0, 1), (-2.0, 0.0, 0.0, 9)
    found = pa.table(rollups(*table([[None], [None, certain], [None, certain, wrong], [(-1.0, 2.0, 0.5, 2)]])))
    assert found["logprob_sum"].to_pylist() == [None, 0.0, -2.0, -1.0]
    assert found["n_rank_1"].to_pylist() == [None, 1, 1, 0]
    assert found["min_k_20"].to_pylist() == [None, 0.0, -2.0, -1.0]
    assert found["min_k_plus_plus_20"].to_pylist() == [None, None, -math.inf, 2.0]


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.7, 1.0])
def test_the_smallest_of_every_length(ratio: float) -> None:
    """Document n holds -1 ... -n in a random order, so that the mean of its k smallest, (k - 1) / 2 - n, names k."""
    rng = np.random.default_rng(0)
    sizes = np.arange(1, 400)
    values = np.concatenate([-rng.permutation(n) - 1.0 for n in sizes])
    found = means_of_smallest(values, np.repeat(np.arange(len(sizes)), sizes), len(sizes), ratio)
    k = np.maximum(1, (sizes * ratio).astype(int))
    assert np.allclose(found, (k - 1) / 2 - sizes, rtol=1e-13, atol=0)


def test_a_document_without_values_takes_none_from_its_neighbours() -> None:
    values = np.array([np.nan, -5.0, np.nan, np.nan, -7.0])
    found = means_of_smallest(values, np.array([0, 1, 2, 2, 3]), 5, 1.0)
    assert np.array_equal(found, [np.nan, -5.0, np.nan, -7.0, np.nan], equal_nan=True)


@given(st.lists(document, min_size=2, max_size=8))
def test_a_documents_rollups_do_not_depend_on_its_part(documents: list[list[Statistics]]) -> None:
    """To the last bit: a document that is scored again beside others is the same row."""
    together = pa.table(rollups(*table(documents)))
    alone = pa.concat_tables([pa.table(rollups(*table([each]))) for each in documents])
    assert together.equals(alone)
