"""What `compact` may change of a number, and what it may not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.precision import Float32, at_precision, compact, round_logprob, round_relative
from schemas import FEATURE_GROUPS, TOKENS

ABSOLUTE, RELATIVE = 1e-3, 1e-2
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

log_probs = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-LARGEST, 0, width=32))
positives = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(SMALLEST, LARGEST, width=32))


@given(log_probs)
def test_log_probs_err_by_less_than_a_thousandth_and_stay_log_probs(values: Float32) -> None:
    rounded = round_logprob(values)
    assert rounded.dtype == np.float32
    assert np.all(np.abs(rounded.astype(np.float64) - values) <= ABSOLUTE)
    assert np.all(rounded <= 0)
    assert np.array_equal(rounded == 0, values == 0)


@given(hnp.arrays(np.float32, 20, elements=st.floats(0, 13, width=32)))
def test_what_is_made_of_two_renyi_entropies_errs_by_less_than_a_thousandth(values: Float32) -> None:
    """The sum of sqrt(q_v / V), q at temperature 2, from two entropies as they are stored."""
    names = ("renyi_quarter", "renyi_half")
    stored = compact(pa.table(dict(zip(names, (values, values[::-1]), strict=True))))
    quarter, half = (stored[name].to_numpy().astype(np.float64) for name in names)
    exact = 0.75 * values.astype(np.float64) - 0.25 * values[::-1].astype(np.float64)
    assert np.all(np.abs(np.exp(0.75 * quarter - 0.25 * half - exact) - 1) <= ABSOLUTE)


@given(positives)
def test_other_floats_err_by_less_than_a_hundredth(values: Float32) -> None:
    rounded = round_relative(values).astype(np.float64)
    assert np.all(np.abs(rounded - values) <= RELATIVE * values.astype(np.float64))


def test_every_mantissa_errs_by_less_than_a_hundredth_and_keeps_its_order() -> None:
    octave = np.arange(0x3F800000, 0x40000001, dtype=np.uint32).view(np.float32)  # all of [1, 2]
    rounded = round_relative(octave)
    assert np.abs(rounded / octave.astype(np.float64) - 1).max() <= RELATIVE
    assert np.all(np.diff(rounded) >= 0)
    assert len(np.unique(rounded)) == 42 + 1
    assert not np.any(rounded.view(np.uint32) & 0xFFFF), "two bytes of four are all it needs"


@pytest.mark.parametrize("octave", range(-8, 7))
def test_every_log_prob_of_an_octave_errs_by_less_than_a_thousandth(octave: int) -> None:
    values = -np.linspace(2.0**octave, 2.0 ** (octave + 1), 100_001, dtype=np.float32)
    rounded = round_logprob(values)
    assert np.abs(rounded.astype(np.float64) - values).max() <= ABSOLUTE
    assert np.all(np.diff(rounded) <= 0)
    if octave >= -4:
        assert not np.any(rounded * 512 % 1), "multiples of 2**-9"
    else:
        assert np.abs(rounded / values.astype(np.float64) - 1).max() <= RELATIVE


@pytest.mark.parametrize("rounding", [round_logprob, round_relative])
def test_special_values_are_untouched(rounding: Callable[[Float32], Float32]) -> None:
    special = np.array([0.0, -0.0, -np.inf, np.nan, -1e-42, -LARGEST, -1.0, -0.5], np.float32)
    rounded = rounding(special)
    assert np.array_equal(rounded.view(np.uint32), special.view(np.uint32))


@pytest.mark.parametrize("rounding", [round_logprob, round_relative])
@given(values=log_probs)
def test_rounding_is_monotone_and_idempotent(rounding: Callable[[Float32], Float32], values: Float32) -> None:
    rounded = rounding(np.sort(values))
    assert np.all(rounded[1:] >= rounded[:-1])
    assert np.array_equal(rounding(rounded), rounded)


@given(hnp.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
def test_probabilities_stay_probabilities(values: Float32) -> None:
    rounded = round_relative(values)
    assert np.all((rounded >= 0) & (rounded <= 1))
    assert np.array_equal(rounded == 0, values == 0)


def tokens_table(n_rows: int = 5) -> pa.Table:
    """All columns of `tokens` with arbitrary numbers and NULL statistics in the first row."""
    rng = np.random.default_rng(3)
    columns = {}
    for field in TOKENS.arrow(FEATURE_GROUPS):
        item = field.type.value_type if pa.types.is_list(field.type) else field.type
        low, high = (-9, 0) if TOKENS[field.name].maximum == 0 else (0, 1)
        values = rng.uniform(low, high, (n_rows, 3)) if pa.types.is_floating(item) else rng.integers(0, 99, (n_rows, 3))
        rows: list[object] = [list(v) if pa.types.is_list(field.type) else v[0] for v in values]
        if field.nullable:
            rows[0] = None
        columns[field.name] = pa.array(rows, field.type)
    return pa.table(columns, schema=TOKENS.arrow(FEATURE_GROUPS))


def test_a_table_keeps_its_schema_nulls_and_everything_that_is_not_a_float32() -> None:
    table = tokens_table()
    rounded = compact(table)
    assert rounded.schema.equals(table.schema, check_metadata=True)
    assert TOKENS.validate(rounded) == []
    for name in table.column_names:
        assert rounded[name].is_null().equals(table[name].is_null()), name
    for name in ("doc_id", "position", "token_id", "byte_start", "n_bytes", "rank", "top1_id", "topk_id", "hidden"):
        assert rounded[name].equals(table[name]), name


def test_each_float_column_gets_the_rounding_of_its_kind() -> None:
    table = tokens_table()
    rounded = compact(table)
    for column in TOKENS.columns:
        if column.type == pa.float32():
            in_nats = column.maximum == 0 or column.name in ("renyi_quarter", "renyi_half")
            expected = (round_logprob if in_nats else round_relative)(table[column.name].to_numpy()[1:])
            assert np.array_equal(rounded[column.name].to_numpy()[1:], expected), column.name
    inner = np.concatenate([np.array(row, np.float32) for row in table["topk_logprob"].to_pylist()[1:]])
    assert rounded["topk_logprob"].combine_chunks().flatten().to_pylist() == round_logprob(inner).tolist()


def test_slices_and_chunks_are_rounded_as_the_whole_is() -> None:
    table = tokens_table()
    pieces = pa.concat_tables([table.slice(0, 2), table.slice(2, 3)])
    assert compact(pieces).equals(compact(table))
    assert compact(table.slice(1, 3)).equals(compact(table).slice(1, 3))
    assert compact(table.slice(0, 0)).num_rows == 0


def test_full_keeps_every_bit() -> None:
    table = tokens_table()
    assert at_precision(table, "full") is table
    assert at_precision(table, "compact").equals(compact(table))
