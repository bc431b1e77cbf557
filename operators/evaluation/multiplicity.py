"""Many p-values at once: Holm's and Benjamini and Hochberg's adjustments, and selection at a false-discovery rate.

    Holm   the chance of any false rejection among all tests is at most the level, whatever their dependence
    BH     the expected share of false ones among those rejected is at most the level, for p-values that are independent
           or depend positively, conformal p-values with one calibration set among them

Missing p-values (NaN) stay missing and are not counted among the tests.
Sources: Holm 1979, Scand. J. Statist. 6; Benjamini & Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x; conformal
p-values: Bates et al. 2023, arXiv 2104.08279.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from operators.evaluation.classes import Floats


def holm_adjusted(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values [N]: rejecting those at most alpha errs anywhere with probability at most alpha.

    Raises:
        ValueError: a p-value is outside [0, 1].
    """
    p, adjusted, order = _ordered(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)))
    return adjusted


def bh_adjusted(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values [N] (q-values): rejecting those at most q has a false-discovery rate of at most q.

    Raises:
        ValueError: a p-value is outside [0, 1].
    """
    p, adjusted, order = _ordered(p_values)
    scaled = p[order] * order.size / np.arange(1, order.size + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike, fdr: float) -> npt.NDArray[np.bool_]:
    """Which of the hypotheses [N] are rejected at this false-discovery rate.

    The largest k with p_(k) <= fdr * k / N decides; compared as written, so that p-values that are multiples of
    1 / (n + 1) are not lost to rounding.

    Raises:
        ValueError: a p-value is outside [0, 1], or `fdr` outside (0, 1).
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr: {fdr}, expected a share above 0 and below 1")
    p, _, order = _ordered(p_values)
    steps = fdr * np.arange(1, order.size + 1) / max(1, order.size)
    passed = np.flatnonzero(p[order] <= steps * (1 + 1e-12))
    selected = np.zeros(p.size, dtype=bool)
    selected[order[: passed[-1] + 1 if passed.size else 0]] = True
    return selected


def _ordered(p_values: npt.ArrayLike) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """The p-values, as many NaN to fill in, and the places of those that are there, smallest first."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise ValueError("p-values: expected a list of numbers from 0 to 1")
    present = np.flatnonzero(~np.isnan(p))
    return p, np.full(p.size, np.nan), present[np.argsort(p[present], kind="stable")]
