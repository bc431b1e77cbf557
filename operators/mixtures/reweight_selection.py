"""Selective language modelling: which tokens of all are the top share by excess loss, and where they lie.

    tokens of both runs, range by range --> excess (not clipped), to a file --> histogram of them all
    histogram --> the two values between which the quantile lies, exactly --> selected: excess >= quantile
              --> counts by group of documents and bin of excess          --> intervals (`DocumentGroups`)

The quantile is the linear one of DuckDB's quantile_cont at 1 - keep. All tokens that tie with it are selected, so the
share can be more than was asked for: with equal models it is all of them.

Price: 12 bytes a token in a temporary file, and in memory a range of tokens and the counts. A bin of the histogram is a
64th of an octave; the values of the one that holds the quantile are counted, each once.
Source: Lin et al. 2024, arXiv 2404.07965; its keep ratio is of a batch, here of all tokens of the run.
Letters: `T` tokens of a range, `N` its documents, `B` bins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Keys = npt.NDArray[np.uint64]

_BITS = 18  # of a key that name its bin: sign, exponent and 6 of the mantissa
_SHIFT = np.uint64(64 - _BITS)
_SIGN = np.uint64(1 << 63)
_STEPS = 16  # bins on either side of the quantile, each wider than the one before


class ExcessFile:
    """Excess losses of all tokens on local disk, in the order in which they came. Use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="assay-excess-")
        self._ranges = 0
        self.n_tokens = 0
        self._histogram = np.zeros(1 << _BITS, dtype=np.int64)

    def __enter__(self) -> ExcessFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, rows_T: Codes, excess_T: Floats) -> None:
        """Keep tokens: the group row of each one's document, and its excess, finite."""
        np.save(self._path("rows"), rows_T.astype(np.uint32))
        np.save(self._path("excess"), excess_T)
        self._ranges += 1
        self.n_tokens += excess_T.size
        bins = (_keys(excess_T) >> _SHIFT).astype(np.intp)
        self._histogram += np.bincount(bins, minlength=self._histogram.size)

    def ranges(self) -> Iterator[tuple[Codes, Floats]]:
        """Everything that was kept, as it was added."""
        for place in range(self._ranges):
            yield np.load(self._path("rows", place)).astype(np.intp), np.load(self._path("excess", place))

    def quantile(self, share: float) -> tuple[float, float]:
        """The linear quantile, as numpy and DuckDB define it, and the smallest value that is not below it.

        Raises:
            ValueError: there is no token.
        """
        if not self.n_tokens:
            raise ValueError("no token has an excess loss: nothing can be selected")
        place = (self.n_tokens - 1) * share
        low, high = self._ordered(int(np.floor(place))), self._ordered(int(np.ceil(place)))
        middle = low + (place - np.floor(place)) * (high - low)
        return middle, low if low >= middle else high

    def edges(self, share: float, atom: float) -> Floats:
        """Ends of bins of excess: the atom alone in one, the others wider the further they are from the quantile.

        Bin `b` holds values from `edges[b - 1]` on and below `edges[b]`.
        """
        steps = 5e-4 * 1.5 ** np.arange(_STEPS)
        shares = np.concatenate([share - steps, share + steps])
        ranks = np.clip(shares[(shares > 0) & (shares < 1)], 0, 1) * (self.n_tokens - 1)
        bins = np.searchsorted(np.cumsum(self._histogram), ranks, side="right")
        lower = _values(bins.astype(np.uint64) << _SHIFT)
        return np.unique(np.concatenate([lower[np.isfinite(lower)], [atom, np.nextafter(atom, np.inf)]]))

    def _ordered(self, rank: int) -> float:
        """The value of this rank, from 0, ascending: counted within its bin of the histogram."""
        upto = np.cumsum(self._histogram)
        chosen = int(np.searchsorted(upto, rank, side="right"))
        within = rank - int(upto[chosen] - self._histogram[chosen])
        values: Keys = np.zeros(0, dtype=np.uint64)
        counts = np.zeros(0, dtype=np.int64)
        for _, excess_T in self.ranges():
            keys = _keys(excess_T)
            here, n = np.unique(keys[(keys >> _SHIFT) == chosen], return_counts=True)
            values, places = np.unique(np.concatenate([values, here]), return_inverse=True)
            counts = np.bincount(places, np.concatenate([counts, n]), values.size).astype(np.int64)
        return float(_values(values[[np.searchsorted(np.cumsum(counts), within, side="right")]])[0])

    def _path(self, what: str, place: int | None = None) -> Path:
        return Path(self._folder.name) / f"{self._ranges if place is None else place}.{what}.npy"


@dataclass(frozen=True)
class Bins:
    """Bins of excess, ascending; `atom` is the one that holds the smallest selected value alone."""

    edges: Floats
    atom: int

    @property
    def size(self) -> int:
        return self.edges.size + 1

    def of(self, excess_T: Floats) -> Codes:
        """The bin of each value."""
        return np.asarray(np.searchsorted(self.edges, excess_T, side="right"), dtype=np.intp)

    def tied(self, kept: ExcessFile) -> npt.NDArray[np.bool_]:
        """Which bins hold one value alone [B]: log-probs of compact precision are multiples of 1/512, so many tie."""
        lowest, highest = np.full(self.size, np.inf), np.full(self.size, -np.inf)
        for _, excess_T in kept.ranges():
            bins_T = self.of(excess_T)
            np.minimum.at(lowest, bins_T, excess_T)
            np.maximum.at(highest, bins_T, excess_T)
        return np.asarray(lowest == highest)


def make_bins(kept: ExcessFile, share: float, atom: float) -> Bins:
    """Bins around the quantile at `share`, with the smallest selected value in one of its own."""
    edges = kept.edges(share, atom)
    return Bins(edges, int(np.searchsorted(edges, atom, side="right")))


@dataclass(frozen=True)
class Cut:
    """Where the threshold falls in resamples [R]: the bin, and the part of it that is selected; what is above is."""

    bin_R: Codes
    part_R: Floats

    def selected(self, counts_RB: Floats) -> Floats:
        """Tokens [R] that are selected of counts by bin: of all, or of some."""
        is_above_RB = np.arange(counts_RB.shape[1]) > self.bin_R[:, None]
        of_bin_R = np.take_along_axis(counts_RB, self.bin_R[:, None], axis=1)[:, 0]
        return np.asarray((counts_RB * is_above_RB).sum(axis=1) + self.part_R * of_bin_R)


def cut_at(counts_RB: Floats, keep: float, is_tied_B: npt.NDArray[np.bool_]) -> Cut:
    """Where the top `keep` of all tokens ends, given counts of them all.

    The bin in which that is splits evenly, unless its tokens tie (are of one value): then all of them are selected.
    """
    from_top_RB = np.cumsum(counts_RB[:, ::-1], axis=1)[:, ::-1]
    wanted_R1 = keep * from_top_RB[:, :1]
    bin_R = np.maximum(0, (from_top_RB >= wanted_R1).sum(axis=1) - 1)
    above_R = np.take_along_axis(np.pad(from_top_RB, ((0, 0), (0, 1))), bin_R[:, None] + 1, axis=1)[:, 0]
    mass_R = np.take_along_axis(counts_RB, bin_R[:, None], axis=1)[:, 0]
    part_R = (wanted_R1[:, 0] - above_R) / np.maximum(mass_R, np.finfo(np.float64).tiny)
    return Cut(bin_R, np.where(is_tied_B[bin_R], 1.0, np.clip(part_R, 0, 1)))


def _keys(values: Floats) -> Keys:
    """Unsigned numbers in the order of the values."""
    bits = values.view(np.uint64)
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _values(keys: Keys) -> Floats:
    """What `_keys` was made from."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).astype(np.uint64).view(np.float64)
