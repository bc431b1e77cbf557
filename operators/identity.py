"""Who a document is: the hash of its key, and the set of keys a shard has used so far."""

from __future__ import annotations

from array import array

from xxhash import xxh3_64_intdigest

from schemas.rejects import Reason

_MASK = (1 << 63) - 1
_TOP = 1 << 63


def doc_id(key: str) -> int:
    """63-bit identity of a document: `xxh3_64(key in UTF-8) & (2**63 - 1)`, the same in every run.

    Raises:
        UnicodeEncodeError: `key` holds a lone surrogate.
    """
    return xxh3_64_intdigest(key.encode()) & _MASK


class KeySet:
    """The keys seen so far, as 64-bit hashes only: 12 to 24 bytes a key however long the keys are.

    An open-addressing table in one flat array, because a `set` of Python integers takes 80 bytes a key. The price:
    two different keys that share all 64 bits look like one key (a million keys: 3 chances in 10**8).
    """

    def __init__(self) -> None:
        self._slots = _empty(1024)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: str) -> Reason | None:
        """Take `key` into the set; where that is not possible, say why.

        Returns:
            None: the key is new and was added.
            `DUPLICATE_KEY`: all 64 bits were seen before.
            `HASH_COLLISION`: the 63 bits of `doc_id` were, the 64th differs, so the keys surely do.
        """
        # 0 marks an empty slot; flipping the top bit of a zero hash keeps its doc_id.
        digest = xxh3_64_intdigest(key.encode()) or _TOP
        slot = _find(self._slots, digest)
        if self._slots[slot]:
            return Reason.DUPLICATE_KEY if self._slots[slot] == digest else Reason.HASH_COLLISION
        self._slots[slot] = digest
        self._count += 1
        if 3 * self._count >= 2 * len(self._slots):
            self._grow()
        return None

    def _grow(self) -> None:
        larger = _empty(2 * len(self._slots))
        for digest in self._slots:
            if digest:
                larger[_find(larger, digest)] = digest
        self._slots = larger


def _empty(n_slots: int) -> array[int]:
    return array("Q", bytes(8 * n_slots))


def _find(slots: array[int], digest: int) -> int:
    """The slot that holds the doc_id of `digest`, else the empty one where it belongs; `len(slots)` is a power of 2."""
    mask = len(slots) - 1
    slot = digest & mask
    while slots[slot] and (slots[slot] ^ digest) & _MASK:
        slot = (slot + 1) & mask
    return slot
