"""Counts of whatever a 64-bit key names: added block by block, kept sorted, 16 bytes a key.

Added keys wait until there are enough to be worth a sort, so that the whole costs about 40 ns an occurrence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]

_WAITING = 1 << 21  # keys that wait before they are sorted in: 16 MB, and a sort in the cache of a large machine


class KeyedCounts:
    """How often each key was added. The order of adding changes nothing."""

    def __init__(self) -> None:
        self._keys, self._n = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[Keys] = []
        self._n_waiting = 0

    @property
    def settled(self) -> int:
        """Keys counted, but for those that wait."""
        return len(self._keys)

    def add(self, keys: Keys) -> None:
        """Count every one of `keys` once more."""
        self._waiting.append(keys)
        self._n_waiting += len(keys)
        if self._n_waiting >= _WAITING:
            self._settle()

    def add_counts(self, keys: Keys, n: Keys) -> None:
        """Add `n` to the counts of `keys`, in any order; a key may come twice."""
        order = np.argsort(keys, kind="stable")
        keys, n = keys[order], n[order]
        first = _firsts(keys)
        self._merge(keys[first], np.add.reduceat(n, first) if len(first) else n)

    def counts(self) -> tuple[Keys, Keys]:
        """The keys, ascending, and how often each was added. Not to be written to."""
        self._settle()
        return self._keys, self._n

    def keep(self, wanted: npt.NDArray[np.bool_]) -> None:
        """Forget the keys of `counts` that are not wanted."""
        self._settle()
        self._keys, self._n = self._keys[wanted], self._n[wanted]

    def _settle(self) -> None:
        if not self._waiting:
            return
        keys = np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        keys.sort()
        first = _firsts(keys)
        self._merge(keys[first], np.diff(first, append=len(keys)))

    def _merge(self, keys: Keys, n: Keys) -> None:
        """Add sorted keys, each once."""
        places = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), np.bool_)
        within = places < len(self._keys)
        known[within] = self._keys[places[within]] == keys[within]
        self._n[places[known]] += n[known]
        if not known.all():
            self._keys = np.insert(self._keys, places[~known], keys[~known])
            self._n = np.insert(self._n, places[~known], n[~known])


def _firsts(keys: Keys) -> Keys:
    """Where each distinct one of sorted keys begins."""
    if not len(keys):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
