"""The input of every evaluation: scores and labels as two classes, and the intervals that come out.

    label 1 positive, 0 negative, NULL or NaN left out
    score NULL or NaN undefined: counted per class and left out; -inf and +inf are valid, the extreme ranks

Scores are oriented beforehand, higher = positive: nothing turns them round or picks the better of two directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Values = Sequence[float | None] | npt.ArrayLike

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A two-sided interval of `CONFIDENCE`, ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Classes:
    """Defined scores by class: `positive` [n1] and `negative` [n0].

    `clusters_positive` and `clusters_negative` say which documents belong together; both are None where each document
    stands alone. A cluster may have documents of both classes.
    """

    positive: Floats
    negative: Floats
    clusters_positive: Codes | None = None
    clusters_negative: Codes | None = None

    @property
    def is_empty(self) -> bool:
        """Whether a class has no defined score."""
        return not (self.positive.size and self.negative.size)

    @cached_property
    def places(self) -> tuple[Floats, Floats]:
        """For each document, the share of the other class below it, ties by half: [n1] and [n0]."""
        highest, lowest = np.sort(self.positive), np.sort(self.negative)
        return _share_below(self.positive, lowest), _share_below(self.negative, highest)

    @property
    def n_fewer(self) -> int:
        """Documents (or clusters) of the class that has fewer."""
        if self.clusters_positive is None or self.clusters_negative is None:
            return min(self.positive.size, self.negative.size)
        return min(np.unique(self.clusters_positive).size, np.unique(self.clusters_negative).size)

    @property
    def n_independent(self) -> int:
        """Pairs of a positive and a negative that share no document and no cluster with each other, at least."""
        if self.clusters_positive is None or self.clusters_negative is None:
            return self.n_fewer
        positive, negative = np.unique(self.clusters_positive), np.unique(self.clusters_negative)
        shared = np.intersect1d(positive, negative, assume_unique=True).size
        return max(1, min(positive.size, negative.size, (positive.size + negative.size - shared) // 2))


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each value, the share of `others` (ascending) below it, equal ones by half."""
    order = np.argsort(values)
    ascending = values[order]  # places of ascending values are found several times faster
    below = np.searchsorted(others, ascending, side="left") + np.searchsorted(others, ascending, side="right")
    shares = np.empty(values.size)
    shares[order] = below / (2 * others.size)
    return shares


def as_columns(scores: Values, labels: Values, clusters: Values | None = None) -> tuple[Floats, Floats, Codes | None]:
    """Scores [N], labels [N] and cluster codes [N] as arrays, checked.

    Clusters are numbers that name a group; a missing one (None or NaN) is a cluster of its own.

    Raises:
        ValueError: lengths differ, or a label is neither 0, 1 nor missing.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"scores {values.shape} and labels {truth.shape}: expected two lists of one length")
    check_labels(truth)
    return values, truth, None if clusters is None else cluster_codes(clusters, truth.size)


def check_labels(truth: Floats) -> None:
    """Refuse labels that are neither 0, 1 nor missing.

    Raises:
        ValueError: there are some.
    """
    strange = np.unique(truth[~np.isnan(truth) & (truth != 0) & (truth != 1)])
    if strange.size:
        raise ValueError(f"labels must be 0, 1 or missing, found {strange[:5].tolist()}")


def cluster_codes(clusters: Values, size: int) -> Codes:
    """Codes 0 .. C-1 [N] of groups that are named by numbers; a missing name is a group of its own.

    Raises:
        ValueError: there are not `size` of them.
    """
    names = np.asarray(clusters, dtype=np.float64)
    if names.shape != (size,):
        raise ValueError(f"clusters {names.shape}: expected {size}, one a document")
    missing = np.isnan(names)
    codes = np.zeros(size, dtype=np.intp)
    groups, codes[~missing] = np.unique(names[~missing], return_inverse=True)
    codes[missing] = groups.size + np.arange(np.count_nonzero(missing))
    return codes


def split(scores: Floats, labels: Floats, clusters: Codes | None = None) -> Classes:
    """The defined scores of both classes; either may be empty."""
    defined = ~np.isnan(scores)
    positive, negative = defined & (labels == 1), defined & (labels == 0)
    if clusters is None:
        return Classes(scores[positive], scores[negative])
    return Classes(scores[positive], scores[negative], clusters[positive], clusters[negative])


def defined_classes(scores: Values, labels: Values, clusters: Values | None = None) -> Classes:
    """The defined scores of both classes.

    Raises:
        ValueError: a class has none, lengths differ, or a label is neither 0, 1 nor missing.
    """
    classes = split(*as_columns(scores, labels, clusters))
    if classes.is_empty:
        found = f"{classes.positive.size} positives and {classes.negative.size} negatives"
        raise ValueError(f"{found} with a defined score: need both")
    return classes
