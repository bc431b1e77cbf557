"""Conformal p-values: how unusual a document's score is among documents known to be held out.

    p_i = (1 + #{held-out scores >= s_i}) / (n0 + 1)

If document i is exchangeable with the n0 held-out ones (not a member, drawn in the same way), P(p_i <= t) <= t for
every t, whatever the score's distribution. Ties count against the document. `seed` draws its place among its equals
instead, itself included: then p_i is uniform, and a little more is found.

The smallest value is 1 / (n0 + 1): selection at a false-discovery rate q among m documents needs some k of them with
k >= m / (q (n0 + 1)), so a small calibration set can select nothing, or a lot at once.

Sources: Vovk et al. 2005, Algorithmic Learning in a Random World; Bates et al. 2023, arXiv 2104.08279.
"""

from __future__ import annotations

import numpy as np

from operators.evaluation.classes import Floats, Values


def conformal_p_values(calibration: Values, test: Values, *, seed: int | None = None) -> Floats:
    """P-values [N] of "this document is like the calibration ones", small for high scores.

    Args:
        calibration: scores of documents known to be negative; undefined ones (None, NaN) are left out.
        test: [N] scores of the documents in question; undefined ones have p-value NaN.
        seed: smooth with random numbers from this seed; None counts ties as higher, the conservative way.

    Raises:
        ValueError: no calibration score is defined.
    """
    known, asked = (np.asarray(values, dtype=np.float64) for values in (calibration, test))
    known = np.sort(known[~np.isnan(known)])
    if not known.size:
        raise ValueError("no held-out document has a defined score: nothing to compare with")
    at_least = known.size - np.searchsorted(known, asked, side="left")
    count = np.asarray(1.0 + at_least, dtype=np.float64)
    if seed is not None:
        above = known.size - np.searchsorted(known, asked, side="right")
        # 1 - random() is in (0, 1]: a p-value of 0 would claim more than any sample shows.
        share = 1.0 - np.random.default_rng(seed).random(asked.shape)
        count = np.asarray(above + share * (count - above), dtype=np.float64)
    return np.where(np.isnan(asked), np.nan, count / (known.size + 1))
