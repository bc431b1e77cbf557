"""How documents are drawn: groups for intervals, the share whose tokens are decoded again, levels of the pair sample.

Everything is a hash of the document's key, so it is the same however the corpus is split, and a second command with the
same seed draws the same documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_128_intdigest

from operators.tokenizer_statistics.text_facts import Flags, Places

PAIR_GROUPS = 8  # groups of documents whose token pairs are kept apart; pairs take far more memory than ids
LEVELS = 16  # a document has level k with probability 2 ** -(k + 1), and the last level what is left
_LOW = 2**64 - 1


@dataclass(frozen=True)
class ProfileOptions:
    """check_share: of the documents, how many are decoded and encoded again, 0 to 1.
    groups: of documents, which intervals are made of; a multiple of 8. seed: of the hashes that draw documents.
    max_pairs: pairs of tokens kept a tokenizer, each 16 bytes. max_domains: refused beyond.

    Raises:
        ValueError: a value out of range.
    """

    check_share: float = 0.1
    groups: int = 32
    seed: int = 0
    max_pairs: int = 4_000_000
    max_domains: int = 200

    def __post_init__(self) -> None:
        faults = [*self._faults()]
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not 0 <= self.check_share <= 1:
            yield f"check_share {self.check_share}: expected a share from 0 to 1"
        if not 8 <= self.groups <= 1024 or self.groups % PAIR_GROUPS:
            yield f"groups {self.groups}: expected a multiple of {PAIR_GROUPS} from 8 to 1024"
        if not 0 <= self.seed < 2**63:
            yield f"seed {self.seed}: expected 0 or more, below 2**63"
        if self.max_pairs < 1:
            yield f"max_pairs {self.max_pairs}: expected 1 or more"
        if not 1 <= self.max_domains <= 1000:
            yield f"max_domains {self.max_domains}: expected 1 to 1000"


@dataclass(frozen=True)
class Drawn:
    """Of every document: its group, its level in the pair sample, and whether it is checked; all `(D,)`."""

    group: Places
    level: Places
    checked: Flags

    @classmethod
    def of(cls, keys: Sequence[str], options: ProfileOptions) -> Drawn:
        hashes = [xxh3_128_intdigest(key.encode(), options.seed) for key in keys]
        upper = np.array([each >> 64 for each in hashes], np.uint64)
        low_bits = (upper & np.uint64(2 ** (LEVELS - 1) - 1)).astype(np.int64) | 1 << (LEVELS - 1)
        level = np.log2(low_bits & -low_bits).astype(np.int64)  # zeros below the lowest bit that is set
        checked = (upper >> np.uint64(32)).astype(np.float64) < options.check_share * 2**32
        group = np.array([(each & _LOW) % options.groups for each in hashes], np.int64)
        return cls(group, level, np.asarray(checked))


def group_of(key: str, groups: int, seed: int = 0) -> int:
    """The group that a document of this key falls into: 0 to `groups - 1`."""
    return (xxh3_128_intdigest(key.encode(), seed) & _LOW) % groups
