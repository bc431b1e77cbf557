"""How long the tails of nights are: every night of every number as if it were tonight, all numbers together.

    z_t    (y_t - level without night t) / its spread,  t of T - 2 degrees of freedom where nights scatter normally
    fit    z ~ s t_nu, nu on a grid, s by maximum likelihood (EM), over the nights of all numbers that scatter beyond
           their errors
    taken where its log-likelihood beats that of the normal model by GAIN:  P(|z|) = 2 P(t_nu > |z| / s)

The smallest p-value of many numbers lies far out, where a normal tail is wrong by orders of magnitude: one number
has too few nights to say how far its own go, all of them together often have enough. One tail is taken for all numbers:
that of those with the longest. What it costs: nights that were strange once make later ones less so.
Letters: `N` nights of all numbers.
Source: Lange, Little & Taylor 1989, doi 10.1080/01621459.1989.10478852.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
from scipy import special

from operators.nights.levels import Floats, between, weights_of

GAIN = 2.0  # nats: for two numbers fitted (Akaike)
DOUBT = 2.0  # nats: of tails that fit nearly as well, the longest is taken
FEWEST = 100  # nights of all numbers that a tail is fitted to
_FREEDOMS = (2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0)
_LEAST = 1e-12
_STEPS = 30  # of EM


@dataclass(frozen=True)
class Tail:
    """`s` and `nu` above; `freedom` inf: nothing is known beyond the normal model."""

    scale: float = 1.0
    freedom: float = inf

    def p_value(self, far: float) -> float:
        """Two-sided, of a night that is `far` spreads off; 0 where nothing is known."""
        return 0.0 if self.freedom == inf else float(2 * special.stdtr(self.freedom, -abs(far) / self.scale))

    def far(self, p_value: float) -> float:
        """How many spreads off a night with this p-value is; 0 where nothing is known."""
        return 0.0 if self.freedom == inf else float(-special.stdtrit(self.freedom, p_value / 2)) * self.scale


def left_out(values_T: Floats, errors_T: Floats) -> Floats:
    """How far each night is from the others, in spreads, [T]; weights are those of all nights. Needs three nights.

    None, [0], where errors explain the scatter, or nothing varies: by what is believed of them such nights lie close
    together, and beside them the nights of every other number would look like a long tail.
    """
    tau2 = between(values_T, errors_T)
    if tau2 == 0:
        return np.zeros(0)
    weights_T = weights_of(values_T, errors_T, tau2)
    share_T = weights_T / weights_T.sum()
    residuals_T = values_T - float((share_T * values_T).sum())
    apart_T = residuals_T / (1 - share_T)
    squares_T = weights_T * residuals_T * apart_T
    scale_T = np.maximum(_LEAST, ((weights_T * residuals_T**2).sum() - squares_T) / (values_T.size - 2))
    return np.asarray(apart_T * np.sqrt(weights_T * (1 - share_T) / scale_T), dtype=np.float64)


def tail_of(nights: Iterable[Floats]) -> Tail:
    """The tail of the nights of several numbers, each as `left_out` gives them."""
    numbers = [each for each in nights if each.size >= 3]
    z_N = np.concatenate([np.zeros(0), *numbers])
    if z_N.size < FEWEST or not (z_N != 0).any():
        return Tail()
    normal = sum(float(_log_density(each, each.size - 2.0, 1.0).sum()) for each in numbers)
    fits = [(float(_log_density(z_N, nu, s := _scale(z_N, nu)).sum()), Tail(s, nu)) for nu in _FREEDOMS]
    best = max(fit for fit, _ in fits)
    return next(tail for fit, tail in fits if fit > best - DOUBT) if best > normal + GAIN else Tail()


def _scale(z_N: Floats, freedom: float) -> float:
    squares_N = z_N**2
    scale2 = float(np.median(squares_N)) or float(squares_N.mean())
    for _ in range(_STEPS):
        scale2 = float(((freedom + 1) * squares_N / (freedom + squares_N / scale2)).mean())
    return sqrt(scale2)


def _log_density(z_N: Floats, freedom: float, scale: float) -> Floats:
    of_both = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2) - log(freedom * np.pi) / 2 - log(scale)
    return np.asarray(of_both - (freedom + 1) / 2 * np.log1p((z_N / scale) ** 2 / freedom), dtype=np.float64)
