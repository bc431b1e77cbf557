"""Puts features of documents on one scale, by what some documents say of it and nobody else.

    [N, F] with NaN --> clip at quantiles --> z-score --> NaN to 0, the mean --> [N, F]

Quantiles, means and deviations come from the documents that `fit` is given, so a caller that fits on one half and looks
at the other keeps them apart. Infinite values are legal scores (an outcome of probability 0): they are clipped.

Letters: `N` documents, `F` features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CLIP = 0.025  # share of the values cut off at either end, arXiv 2406.06443


@dataclass(frozen=True)
class Standardiser:
    """`low`, `high`, `mean`, `deviation`: [F] each, in the units of the features.

    A deviation of 0 marks a feature that says nothing, constant or never defined where it was fitted: it becomes 0.
    """

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, features_NF: Floats, clip: float = CLIP) -> Standardiser:
        """Learn the scale; `clip` is the share cut off at each end, by quantiles of the finite values."""
        finite_NF = np.where(np.isfinite(features_NF), features_NF, np.nan)
        known_F = ~np.isnan(finite_NF).all(axis=0)
        finite_NF = np.where(known_F, finite_NF, 0.0)
        whole = not np.isnan(finite_NF).any()
        quantile = np.quantile if whole else np.nanquantile  # the second walks the columns one by one
        low_F, high_F = quantile(finite_NF, [clip, 1 - clip], axis=0)
        clipped_NF = np.clip(np.where(known_F, features_NF, 0.0), low_F, high_F)
        mean_F, deviation_F = np.nanmean(clipped_NF, axis=0), np.nanstd(clipped_NF, axis=0)
        # What rounding leaves of a constant is no deviation.
        constant_F = deviation_F <= 1e-12 * np.maximum(np.abs(mean_F), np.finfo(np.float64).tiny)
        return cls(low_F, high_F, mean_F, np.where(constant_F, 0.0, deviation_F))

    def __call__(self, features_NF: Floats) -> Floats:
        """[N, F] without NaN: standard deviations from the mean, 0 where undefined or where a feature says nothing."""
        useful_F = self.deviation > 0
        centred_NF = np.clip(features_NF, self.low, self.high) - self.mean
        scaled_NF = centred_NF / np.where(useful_F, self.deviation, 1.0)
        return np.where(useful_F & ~np.isnan(scaled_NF), scaled_NF, 0.0)
