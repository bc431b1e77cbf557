"""The scale on which nights are compared: shares by their arcsine, so that errors near 0 and 1 are those of the rest.

arcsine    level = asin(sqrt((n p + 3/8) / (n + 3/4))), error = 1 / (2 sqrt(n + 1/2)), n: documents, or as many
           independent ones as the share's own error stands for (Anscombe 1948, doi 10.1093/biomet/35.3-4.246)
identity   everything else
"""

from __future__ import annotations

from math import asin, pi, sin, sqrt

from schemas.nights import ARCSINE


def share_level(share: float, n: float) -> tuple[float, float]:
    """The level of a share of `n` independent ones, and its error."""
    level = asin(sqrt(min(1.0, max(0.0, (n * share + 0.375) / (n + 0.75)))))
    return level, 1 / (2 * sqrt(n + 0.5))


def natural(level: float, scale: str) -> float:
    """A level in the number's own unit."""
    return sin(min(pi / 2, max(0.0, level))) ** 2 if scale == ARCSINE else level


def natural_difference(before: float, after: float, difference: float, scale: str) -> float:
    """A difference of levels in the number's own unit, about the middle of two levels: `after` - `before` gives the
    difference of both in that unit exactly."""
    middle = (before + after) / 2
    return natural(middle + difference / 2, scale) - natural(middle - difference / 2, scale)
