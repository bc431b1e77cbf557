"""A set of numbers as a sorted array: 8 bytes each, where a Python set takes some 60."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

import numpy as np
import numpy.typing as npt


class Numbers(Set[int]):
    """Equal to any set of the same numbers; `in` is a binary search."""

    def __init__(self, values: Iterable[int] | npt.NDArray[np.int64] = ()) -> None:
        given = values if isinstance(values, np.ndarray) else np.fromiter(values, np.int64)
        self.array: npt.NDArray[np.int64] = np.unique(given.astype(np.int64, copy=False))

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | np.integer):
            return False
        place = int(np.searchsorted(self.array, value))
        return place < len(self.array) and int(self.array[place]) == value

    def __iter__(self) -> Iterator[int]:
        return map(int, self.array)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"Numbers({self.array})"  # of many the first and the last
