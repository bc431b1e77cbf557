"""Who a document is: the hash of its key, and a second hash that tells equal keys from colliding ones."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

_MASK = (1 << 63) - 1
_SIGN = 1 << 63


def doc_id(key: str) -> int:
    """63-bit identity of a document: `xxh3_64(key in UTF-8) & (2**63 - 1)`, the same in every run.

    Raises:
        UnicodeEncodeError: `key` holds a lone surrogate.
    """
    return xxh3_64_intdigest(key.encode()) & _MASK


def key_check(key: str) -> int:
    """The upper half of `xxh3_128(key in UTF-8)` as a signed 64-bit integer.

    Keys of one `doc_id` are the same key where this agrees too, and a collision where it does not.

    Raises:
        UnicodeEncodeError: `key` holds a lone surrogate.
    """
    upper = xxh3_128_intdigest(key.encode()) >> 64
    return upper - 2 * _SIGN if upper & _SIGN else upper
