"""Documents of many components, dealt into groups that a bootstrap draws: memory is bounded, whatever the corpus.

    documents, by doc_id --> dealt in turn to the groups of their component --> sums by group [G, K]
                         --> draws of groups with replacement --> sums of a resample [R, C, K]

A component with no more documents than it has groups has one in each, and groups are documents. Beyond that a group
holds documents dealt without regard to what they are (doc_id is a hash), as many as the next group or one fewer: means
of groups spread as means of documents do, so resampling groups says the same of a sum or a ratio of sums.
Letters: `C` components, `G` groups of a component, `K` numbers of a document, `N` documents, `R` resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

GROUPS = 40_000  # of all components together
MOST_GROUPS = 4000  # of one component: more would tell nothing more
FEWEST_GROUPS = 50  # of a component that has the documents, however many components there are

_FARTHEST = 7.0  # nats that a ratio is moved at most: a thousandfold is as good as not known


class DocumentGroups:
    """Sums by group. `n_documents` [C] were dealt."""

    def __init__(self, n_components: int, n_columns: int) -> None:
        self.per_component = max(FEWEST_GROUPS, min(MOST_GROUPS, GROUPS // max(1, n_components)))
        self.n_documents = np.zeros(n_components, dtype=np.int64)
        self._sums = np.zeros((n_components * self.per_component, n_columns))

    def deal(self, components_N: Codes) -> Codes:
        """The group [N] of each document, given its component: a row for `add` and `add_counts`."""
        order = np.argsort(components_N, kind="stable")
        ordered = components_N[order]
        counts = np.bincount(components_N, minlength=self.n_documents.size)
        begins = np.cumsum(counts) - counts
        turn = np.empty(components_N.size, dtype=np.int64)
        turn[order] = self.n_documents[ordered] + np.arange(ordered.size) - begins[ordered]
        self.n_documents += counts
        return np.asarray(components_N * self.per_component + turn % self.per_component, dtype=np.intp)

    def add(self, rows_N: Codes, values_NK: Floats) -> None:
        """Add the numbers of documents to their groups."""
        np.add.at(self._sums, rows_N, values_NK)

    def add_counts(self, rows: Codes, columns: Codes) -> None:
        """Add 1 at each pair of a group and a column."""
        width = self._sums.shape[1]
        self._sums += np.bincount(rows * width + columns, minlength=self._sums.size).reshape(self._sums.shape)

    def with_columns(self, n_columns: int) -> DocumentGroups:
        """The same documents in the same groups, with so many numbers each, all 0."""
        other = DocumentGroups(self.n_documents.size, n_columns)
        other.n_documents[:] = self.n_documents
        return other

    @property
    def totals(self) -> Floats:
        """Sums of each component [C, K]."""
        return np.asarray(self._sums.reshape(self.n_documents.size, self.per_component, -1).sum(axis=1))

    def resamples(self, draws: int, seed: int, *, is_stratified: bool) -> Iterator[Resampled]:
        """Component by component, what was drawn of it. The same seed draws the same again.

        is_stratified: whether a component keeps its number of documents; else it is drawn too, so that the whole corpus
            keeps its own.
        """
        total = int(self.n_documents.sum())
        scale_RC = np.ones((draws, self.n_documents.size))
        if not is_stratified and total:
            drawn_RC = np.random.default_rng(seed).multinomial(total, self.n_documents / total, size=draws)
            scale_RC = drawn_RC / np.maximum(1, self.n_documents)
        for component, n in enumerate(self.n_documents.tolist()):
            size = min(n, self.per_component)
            groups = max(1, size)  # without a document one group of nothing, drawn 0 times
            start = component * self.per_component
            generator = np.random.default_rng([seed, component])
            counts_RG = generator.multinomial(size, np.full(groups, 1 / groups), size=draws).astype(np.float64)
            counts_RG *= scale_RC[:, component, None]
            yield Resampled(component, counts_RG, self._sums[start : start + groups])


@dataclass(frozen=True)
class Resampled:
    """One component: how often each of its groups is in each resample, and the groups' sums."""

    component: int
    counts_RG: Floats
    sums_GK: Floats

    @property
    def sums(self) -> Floats:
        """Sums of each resample [R, K]."""
        return np.asarray(self.counts_RG @ self.sums_GK)

    def ratios(self, above: int, below: int) -> Floats:
        """Values [R] that the ratio of two columns may have: its own bootstrap, studentised on the logarithmic scale.

        ratio x exp(-t x error), t of the resample's own ratio and error: percentiles of these are the bootstrap-t
        interval, which holds its level better than the percentiles of the resamples do where documents are few or of
        very unequal length. Where the resample or the ratio has no error, as with a ratio of 0, its own ratio stands.
        """
        everything = np.concatenate([np.ones((1, self.counts_RG.shape[1])), self.counts_RG])
        x_G, n_G = self.sums_GK[:, above], self.sums_GK[:, below]
        x, n, xx, xn, nn = (everything @ np.column_stack([x_G, n_G, x_G**2, x_G * n_G, n_G**2])).T
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = x / n
            error = np.sqrt(np.maximum(0, xx - 2 * ratio * xn + ratio**2 * nn)) / x
            moved = -np.log(ratio[1:] / ratio[0]) * error[0] / error[1:]
            values = ratio[0] * np.exp(np.clip(moved, -_FARTHEST, _FARTHEST))
        return np.asarray(np.where(np.isfinite(moved), values, ratio[1:]))
