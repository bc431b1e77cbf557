"""One tokenizer on some of the documents: the sums that statistics are made of, whole and with each group left out.

    phi summed over ids, without group g    =    the whole sum - sum over ids of g of (phi(n) - phi(n - n in g))

so that leaving out G groups costs no more than looking at every count once. Every figure is an array `(1 + G,)`: first
that of all documents, then that without group 0, without group 1, and so on.
Shapes: `G` groups of documents, `V` vocabulary, `K` distinct ids or pairs, `E` counts by group and id or pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from operators.tokenizer_statistics.counts import COUNTER, COUNTERS, LEVEL_COUNTERS, TokenizerCounts
from operators.tokenizer_statistics.jackknife import Values
from operators.tokenizer_statistics.keyed import Keys
from operators.tokenizer_statistics.options import LEVELS, PAIR_GROUPS
from operators.tokenizer_statistics.text_facts import Flags, Places
from operators.tokenizer_statistics.vocabulary import Vocabulary

Phi = Callable[[Values], Values]


@dataclass(frozen=True)
class Grouped:
    """Counts by group: `n[e]` of thing `index[e]` in group `group[e]`, `(E,)`; `total`: of each thing, `(K,)`."""

    group: Places
    index: Places
    n: Values
    total: Values
    groups: int

    @classmethod
    def of(cls, group: Places, index: Places, n: Places, groups: int) -> Grouped:
        """`index`: 0 to K - 1; a (group, index) may come once only, or `phi` is summed wrongly."""
        total = np.bincount(index, n).astype(np.float64)
        return cls(group, index, n.astype(np.float64), total, groups)

    def summed(self, phi: Phi) -> Values:
        """The sum of phi(count) over all things, `(1 + G,)`. `phi` of 0 is 0."""
        each = phi(self.total)
        whole = self.total[self.index]
        lost = np.bincount(self.group, each[self.index] - phi(whole - self.n), minlength=self.groups)
        return np.concatenate([[each.sum()], each.sum() - lost])


def n_log_n(n: Values) -> Values:
    """n log2 n, 0 for 0."""
    return np.asarray(n * np.log2(np.maximum(n, 1)))


def is_seen(n: Values) -> Values:
    """1 where anything was counted."""
    return (n > 0).astype(np.float64)


@dataclass(frozen=True)
class View:
    """`counts` of one tokenizer on its domain `domain`, a number, or on all documents where it is None."""

    counts: TokenizerCounts
    vocabulary: Vocabulary
    domain: int | None = None

    @cached_property
    def by_group(self) -> Places:
        """The counters of each group, `(G, WIDTH)`."""
        sums = self.counts.sums
        return np.asarray(sums.sum(axis=0) if self.domain is None else sums[self.domain])

    @cached_property
    def sums(self) -> Values:
        """The counters, `(1 + G, WIDTH)`."""
        whole = self.by_group.sum(axis=0, keepdims=True)
        return np.concatenate([whole, whole - self.by_group]).astype(np.float64)

    def counter(self, name: str) -> Values:
        """One of `COUNTERS`, `(1 + G,)`."""
        return self.sums[:, COUNTER[name]]

    @property
    def patterns(self) -> Values:
        """Numbers cut in each pattern, `(1 + G, P)`."""
        return self.sums[:, len(COUNTERS) :]

    @cached_property
    def occupied(self) -> Flags:
        """Which groups hold documents, `(G,)`."""
        return np.asarray(self.by_group[:, COUNTER["documents"]] > 0)

    @cached_property
    def pair_documents(self) -> Places:
        """Documents whose pairs are kept, by pair group, `(8,)`."""
        first = COUNTER[LEVEL_COUNTERS[0]]
        kept = self.by_group[:, first + self.counts.level : first + LEVELS].sum(axis=1)
        return np.asarray(kept.reshape(-1, PAIR_GROUPS).sum(axis=0))

    @cached_property
    def ids(self) -> Grouped:
        """Ids by group; index: the place among those that occur."""
        groups, ids, n = self._ids
        _, index = np.unique(ids, return_inverse=True)
        return Grouped.of(groups, index, n, self.counts.options.groups)

    def ids_among(self, wanted: Flags) -> Values:
        """Tokens whose id is wanted, `(1 + G,)`; `wanted`: `(V,)`."""
        groups, ids, n = self._ids
        lost = np.bincount(groups, n * wanted[ids], minlength=self.counts.options.groups)
        return np.concatenate([[lost.sum()], lost.sum() - lost])

    @cached_property
    def _ids(self) -> tuple[Places, Places, Places]:
        """Group, id and how often it occurs there."""
        key, n = self._mine(*self.counts.ids.counts(), self.counts.id_span)
        return *np.divmod(key, self.counts.width), n

    def sorted_counts(self, group: int | None = None) -> Values:
        """How often each id occurs, commonest first, ids that do not occur left out; all documents, or all but those
        of a group."""
        total = self.ids.total
        if group is not None:
            mine = self.ids.group == group
            total = total - np.bincount(self.ids.index[mine], self.ids.n[mine], minlength=len(total))
        return np.sort(total[total > 0])[::-1]

    @cached_property
    def pairs(self) -> Grouped:
        """Pairs of ids by pair group."""
        group, pair, n = self._pairs
        _, index = np.unique(pair, return_inverse=True)
        return Grouped.of(group, index, n, PAIR_GROUPS)

    @cached_property
    def before(self) -> Grouped:
        """Ids that another follows, by pair group."""
        group, pair, n = self._pairs
        cell, entry = np.unique(group * self.counts.width + pair // self.counts.width, return_inverse=True)
        groups, ids = np.divmod(cell, self.counts.width)
        _, index = np.unique(ids, return_inverse=True)
        return Grouped.of(groups, index, np.bincount(entry, n).astype(np.int64), PAIR_GROUPS)

    @cached_property
    def _pairs(self) -> tuple[Places, Places, Places]:
        square = self.counts.width**2
        key, n = self._mine(*self.counts.pairs.counts(), self.counts.pair_span)
        group, pair = np.divmod(key % (PAIR_GROUPS * square), square)
        key, n = _summed(group * square + pair, n)
        return key // square, key % square, n

    def _mine(self, keys: Keys, n: Places, span: int) -> tuple[Keys, Places]:
        """The keys of the domain, or those of all, without the domain in them, each once."""
        if self.domain is None:
            return _summed(keys % span, n)
        first, last = np.searchsorted(keys, [self.domain * span, (self.domain + 1) * span])
        return keys[first:last] - self.domain * span, n[first:last]


def _summed(keys: Keys, n: Places) -> tuple[Keys, Places]:
    """Each key once, with the sum of its counts."""
    distinct, entry = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(entry, n, minlength=len(distinct)).astype(np.int64)
