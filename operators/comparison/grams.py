"""Counts of n-grams by document, as a sparse matrix: what divergences of corpora are made of.

    blocks of words with their documents -> hashes of n-grams -> (document, hash, count) -> `Grams`

An n-gram does not cross the end of its document. N-grams are told apart by 64 bits of hash: among ten million the
chance that any two share one is 3e-6. All are counted, none is dropped for being rare, and memory is bounded by
`MOST_CELLS`: 16 bytes for each distinct n-gram of each document while counting, three times that when it ends.

An n-gram that is in one document only (most of the longer ones are) is on one side of any split, and its part of a
divergence follows from its count alone. So these are kept as sums by document, and the matrix holds the others.
Letters: `D` documents, `V` n-grams of two documents or more, `W` words of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from operators.evaluation.classes import Floats
from operators.overlap.words import Hashes, Ids, gram_hashes

MOST_CELLS = 1 << 26
LONGEST = 5  # words or tokens of an n-gram
SMOOTHING = 0.5  # added to every count for Kullback-Leibler: Jeffreys' prior


class TooManyError(ValueError):
    """The documents hold more distinct n-grams than are counted in memory."""


@dataclass(frozen=True)
class Grams:
    """Counts of D documents.

    `shared_DV`: sparse counts. `alone_DK`: of the n-grams that only this document has, in columns of `ALONE`.
    `total_D`: n-grams of the document, all of them.
    """

    shared_DV: Any
    alone_DK: Floats
    total_D: Floats

    def of(self, places: npt.NDArray[np.int64]) -> Grams:
        """Some of the documents, in this order; n-grams that none of them has are left out."""
        chosen = self.shared_DV[places]
        there = np.flatnonzero(np.asarray(chosen.getnnz(axis=0)) > 0)
        return Grams(chosen[:, there], self.alone_DK[places], self.total_D[places])


# Columns of `alone_DK`, with c the count of an n-gram and s the smoothing:
ALONE = ("n", "c", "(c + s) log2(c + s)", "log2(c + s)")


class GramCounter:
    """Counts the n-grams of several lengths at once, block after block."""

    def __init__(self, lengths: Sequence[int], documents: int) -> None:
        if not lengths or not all(1 <= n <= LONGEST for n in lengths):
            raise ValueError(f"n-grams: expected lengths of 1 to {LONGEST}, found {', '.join(map(str, lengths))}")
        self.lengths = tuple(lengths)
        self.documents = documents
        self._cells: dict[int, list[tuple[Ids, Hashes, Ids]]] = {n: [] for n in self.lengths}
        self._held = 0

    def add(self, documents: Ids, hash_W: Hashes, bounds: Ids) -> None:
        """Count a block: document `documents[i]` has the words `hash_W[bounds[i]:bounds[i + 1]]`. Each comes once.

        Raises:
            TooManyError: more are held than `MOST_CELLS`.
        """
        owner_W = np.repeat(np.arange(len(documents)), np.diff(bounds))
        for n in self.lengths:
            grams = gram_hashes(hash_W, n)
            owners, lasts = owner_W[: grams.size], owner_W[n - 1 :]
            inside = owners == lasts
            owners, grams = owners[inside], grams[inside]
            order = np.lexsort((grams, owners))
            owners, grams = owners[order], grams[order]
            first = np.ones(grams.size, np.bool_)
            first[1:] = (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])
            starts = np.flatnonzero(first)
            counts = np.diff(np.append(starts, grams.size))
            self._cells[n].append((documents[owners[starts]].astype(np.int32), grams[starts], counts.astype(np.int32)))
            self._held += starts.size
        if self._held > MOST_CELLS:
            raise TooManyError(
                f"the documents hold more than {MOST_CELLS:,} distinct n-grams each for itself: lower --max-documents, "
                "or ask for one --ngram at a time"
            )

    def counted(self, n: int) -> Grams:
        """The counts of n-grams of this length, which are no longer held."""
        cells = self._cells.pop(n)
        documents = np.concatenate([np.empty(0, np.int32), *(each[0] for each in cells)])
        grams = np.concatenate([np.empty(0, np.uint64), *(each[1] for each in cells)])
        counts = np.concatenate([np.empty(0, np.int32), *(each[2] for each in cells)]).astype(np.float64)
        del cells
        _, column, documents_with = np.unique(grams, return_inverse=True, return_counts=True)
        del grams
        alone = documents_with[column] == 1
        renumbered = np.cumsum(documents_with > 1) - 1
        shape = (self.documents, int((documents_with > 1).sum()))
        shared = sparse.csr_matrix((counts[~alone], (documents[~alone], renumbered[column[~alone]])), shape=shape)
        total = np.bincount(documents, counts, self.documents).astype(np.float64)
        return Grams(shared, _alone(documents[alone], counts[alone], self.documents), total)


def _alone(documents: npt.NDArray[np.int32], counts: Floats, size: int) -> Floats:
    smoothed = counts + SMOOTHING
    columns = (np.ones(counts.size), counts, smoothed * np.log2(smoothed), np.log2(smoothed))
    return np.stack([np.bincount(documents, column, size) for column in columns], axis=1)
