"""How many bits a stored statistic keeps: `compact` rounds floats to what their use needs, `full` keeps them all.

The price of `compact`, for a value x:

    kind                                  what is stored                             error
    log-probability, |x| >= 1/16          a multiple of 2**-9                        absolute <= 2**-10 (< 1e-3 nat)
    log-probability, |x| < 1/16           one of 42 values an octave                 relative <= 1e-2
    `renyi_quarter`, `renyi_half`         as a log-probability                       as of a log-probability
    any other float statistic             one of 42 values an octave                 relative <= 1e-2

The two are exponents: exp(3/4 renyi_quarter - 1/4 renyi_half), the sum behind the distances to the uniform
distribution, errs by at most 1e-3 of itself this way, where 1e-2 of two numbers near 10 would be a tenth of it.
Near zero a log-probability keeps relative precision, so that a token of probability 0.9999 does not become certain:
zero stays zero and nothing else becomes zero. Both grids hold every bound a column declares (0 and 1), and rounding
is monotone: values stay inside their ranges, and what was ordered (`logprob <= logprob_max`) stays ordered.
Half precision (`hidden`) and integers pass through.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import TOKENS, Column

Precision = Literal["compact", "full"]

Float32 = npt.NDArray[np.float32]

RELATIVE_ERROR = 0.0099  # kept a little below the promised 1e-2
LOGPROB_SMALL = np.float32(2**-4)  # below this, in nats, a log-probability is rounded relative to itself

_EXPONENTS = ("renyi_quarter", "renyi_half")

# Adding a float32 of which 2**-9 is the last place and taking it away again rounds to multiples of 2**-9, half to even.
_GRID_SHIFT = np.float32(1.5 * 2**14)
_GRID_MAXIMUM = np.float32(2**13)  # above, the shift would round coarser; no log-probability of a sane model is there

_STORED_BITS = 23  # explicit bits of a float32's mantissa
_CODE_BITS = 7  # those that share its upper half with the exponent


def _codes() -> list[int]:
    """Mantissas in [1, 2), in units of 2**-7, as far apart as `RELATIVE_ERROR` allows.

    Seven bits, because all that such numbers use of a float32 is its upper two bytes: BYTE_STREAM_SPLIT then leaves
    the lower two empty. Rounding to a number of bits needs 64 values an octave where these are 42: 0.07 bytes a value.
    """
    one = 1 << _CODE_BITS
    codes = [one]
    while (following := int(codes[-1] * (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))) < 2 * one:
        codes.append(following)
    return [*codes, 2 * one]


def _rounded_mantissas() -> npt.NDArray[np.uint32]:
    """For each value of a mantissa's first 8 bits, the mantissa it is rounded to (2**23: up into the next octave).

    Half-way points between codes are multiples of 2**-8, so 8 bits decide exactly.
    """
    codes = np.array(_codes(), np.float64)
    cell_centers = (1 << _CODE_BITS) + (np.arange(1 << (_CODE_BITS + 1)) + 0.5) / 2
    nearest = codes[np.searchsorted((codes[1:] + codes[:-1]) / 2, cell_centers)]
    return np.asarray((nearest - codes[0]) * (1 << (_STORED_BITS - _CODE_BITS)), np.uint32)


_ROUNDED_MANTISSAS = _rounded_mantissas()


def round_relative(values: Float32) -> Float32:
    """Round to 42 values an octave: relative error at most 1e-2, of any shape and unit.

    Zeros, infinities, NaN, subnormals (they have no relative precision to keep) and the octave below infinity are
    untouched.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    mantissa = bits & np.uint32((1 << _STORED_BITS) - 1)
    # Addition carries a mantissa rounded up to 2 into the exponent.
    rounded = bits - mantissa + _ROUNDED_MANTISSAS[mantissa >> np.uint32(_STORED_BITS - _CODE_BITS - 1)]
    exponent = (bits >> np.uint32(_STORED_BITS)) & np.uint32(0xFF)
    untouched = (exponent == 0) | (exponent >= 0xFE)
    return np.where(untouched, bits, rounded).view(np.float32)


def round_logprob(values: Float32) -> Float32:
    """Round numbers in nats: absolute error below 1e-3, and relative at most 1e-2 near zero. Any shape and sign."""
    on_grid = (values - _GRID_SHIFT) + _GRID_SHIFT
    magnitude = np.abs(values)
    large = np.where(magnitude < _GRID_MAXIMUM, on_grid, values)
    return np.where(magnitude < LOGPROB_SMALL, round_relative(values), large)


def compact(table: pa.Table) -> pa.Table:
    """Round every float32 statistic of a `tokens` table; NULLs, other columns and the schema stay as they are."""
    for index, name in enumerate(table.column_names):
        rounded = [_compact_array(TOKENS[name], chunk) for chunk in table[name].chunks]
        table = table.set_column(index, table.field(index), pa.chunked_array(rounded, table.field(index).type))
    return table


def at_precision(table: pa.Table, precision: Precision) -> pa.Table:
    """`table` as `precision` stores it."""
    return compact(table) if precision == "compact" else table


def _compact_array(column: Column, array: pa.Array) -> pa.Array:
    if pa.types.is_list(array.type):
        elements = _compact_array(column, array.flatten())
        offsets = np.zeros(len(array) + 1, np.int32)
        np.cumsum(array.value_lengths().fill_null(0), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), elements, type=array.type, mask=array.is_null())
    if array.type != pa.float32():
        return array
    missing = array.is_null().to_numpy(zero_copy_only=False)
    values = array.fill_null(0.0).to_numpy()
    round_values = round_logprob if column.maximum == 0.0 or column.name in _EXPONENTS else round_relative
    return pa.array(round_values(values), mask=missing)
