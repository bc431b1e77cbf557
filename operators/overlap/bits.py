"""A set of small numbers as bits: the filter before an index, and which n-grams a corpus holds."""

from __future__ import annotations

import numpy as np

from operators.overlap.words import Bytes, Flags, Hashes, Ids

_BITS_A_GRAM = 16  # at most twice as many: about 1 in 16 to 32 unknown hashes passes the filter
_LEAST, _MOST = 16, 33  # log2 of the bits of a filter: 8 KiB to 1 GiB


def set_bits(data: Bytes, sorted_numbers: Ids) -> None:
    """Set the bits of these numbers, ascending."""
    if not len(sorted_numbers):
        return
    places = sorted_numbers >> 3
    starts = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), places[1:] != places[:-1]]))
    values = np.left_shift(1, sorted_numbers & 7).astype(np.uint8)
    data[places[starts]] |= np.bitwise_or.reduceat(values, starts)


def get_bits(data: Bytes, numbers: Ids) -> Flags:
    """Whether the bits of these numbers are set."""
    bit = (numbers & 7).astype(np.uint8)
    found: Flags = ((data[numbers >> 3] >> bit) & 1).astype(np.bool_)
    return found


def filter_bits(n_grams: int) -> int:
    """log2 of the bits of a filter for so many hashes."""
    return min(max((n_grams * _BITS_A_GRAM - 1).bit_length(), _LEAST), _MOST)


def filter_places(hashes: Hashes, bits: int) -> Ids:
    """Where a filter of `2 ** bits` bits has the bit of each hash: ascending, if these are."""
    return (hashes >> np.uint64(64 - bits)).view(np.int64)
