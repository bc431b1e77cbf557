"""Turns one estimate a domain into shares that sum to 1, none above its cap: what to train on.

    linear  largest sum of estimate x share: the best domains are filled to their caps until the mass is spent
    l2      nearest to the estimates: share = clip(estimate + c, 0, cap), c by bisection

A cap says how much of a mixture a domain may be, as a rule what it holds without repetition. `linear` needs only the
order of the estimates. Tied domains have no order: they are filled together, each by the same part of its cap; the
authors' code takes them as they stand. With caps of 1 `linear` gives all to one domain.
Letters: `R` rows of estimates, `D` domains.
Source: Thrush et al. 2024, arXiv 2409.05816.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from operators.mixtures.correlations import Floats, runs_of_equals

Projection = Literal["linear", "l2"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

_HALVINGS = 200  # until doubles have nothing left between the ends; the authors stop at 1e-12
_MASS_TOLERANCE = 1e-9  # caps that sum to 1 may come to a little less in doubles


def project(estimates: Floats, caps_D: Floats, projection: Projection) -> Floats:
    """Shares of the same shape, [D] or [R, D].

    Raises:
        ValueError: estimates that are not finite, caps not above 0 or below 1 together, or no such projection.
    """
    if not np.isfinite(estimates).all():
        raise ValueError("estimates must be finite: leave out domains without one")
    if not (np.isfinite(caps_D).all() and (caps_D > 0).all()):
        raise ValueError("caps must be above 0: leave out a domain that is to have none")
    if caps_D.sum() < 1 - _MASS_TOLERANCE:
        raise ValueError(f"caps sum to {caps_D.sum():.6g}: shares cannot sum to 1 below them")
    if projection not in PROJECTIONS:
        raise ValueError(f"projection {projection!r}: expected one of {', '.join(PROJECTIONS)}")
    rows = np.atleast_2d(estimates)
    shares = _linear(rows, caps_D) if projection == "linear" else _nearest(rows, caps_D)
    return np.asarray(shares.reshape(estimates.shape))


def _linear(estimates_RD: Floats, caps_D: Floats) -> Floats:
    order_RD = np.argsort(-estimates_RD, axis=1, kind="stable")
    first_RD, last_RD = runs_of_equals(np.take_along_axis(estimates_RD, order_RD, axis=1))
    caps_RD = caps_D[order_RD]
    upto_RD = np.cumsum(caps_RD, axis=1)
    before = np.take_along_axis(upto_RD - caps_RD, first_RD, axis=1)
    through = np.take_along_axis(upto_RD, last_RD, axis=1)
    shares_RD = np.empty_like(caps_RD)
    np.put_along_axis(shares_RD, order_RD, caps_RD * np.clip((1 - before) / (through - before), 0, 1), axis=1)
    return shares_RD


def _nearest(estimates_RD: Floats, caps_D: Floats) -> Floats:
    low_R1 = -estimates_RD.max(axis=1, keepdims=True)
    high_R1 = (caps_D - estimates_RD).max(axis=1, keepdims=True)
    for _ in range(_HALVINGS):
        middle_R1 = (low_R1 + high_R1) / 2
        is_above = np.clip(estimates_RD + middle_R1, 0, caps_D).sum(axis=1, keepdims=True) > 1
        low_R1, high_R1 = np.where(is_above, low_R1, middle_R1), np.where(is_above, middle_R1, high_R1)
    return np.asarray(np.clip(estimates_RD + low_R1, 0, caps_D))
