"""What `assay bench calibration` checks: a promise, what was found of it, and the worst of each kind of promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

LOW, HIGH, MIN_KS_P = 0.93, 0.97, 0.01

Kind = Literal["auroc", "tpr", "uniform", "at most", "covers", "fit", "mixture", "nights"]
_TWO_SIDED = ("auroc", "fit", "mixture")  # kinds whose intervals are to be no wider than they need be


@dataclass(frozen=True)
class Check:
    """One promise: `value` is to lie in `low` to `high`; `error` is its standard error. `sample`: what each draw has,
    such as "50 + 50" documents of two classes, or "60 nights"."""

    kind: Kind
    name: str
    sample: str
    value: float
    error: float
    low: float = 0.0
    high: float = 1.0

    @property
    def is_met(self) -> bool:
        return self.low <= self.value <= self.high

    @property
    def wanted(self) -> str:
        if self.low and self.high < 1:
            return f"{self.low:.2f} .. {self.high:.2f}"
        return f">= {self.low:.2f}" if self.low else f"<= {self.high:.3f}"


def coverage(kind: Kind, name: str, sample: str, covered: Sequence[bool]) -> Check:
    """How often intervals hold the truth; of none, never."""
    high = HIGH if kind in _TWO_SIDED else 1.0
    share = float(np.mean(covered)) if len(covered) else 0.0
    return Check(kind, name, sample, share, _error(0.95, max(1, len(covered))), LOW, high)


def uniform(name: str, sample: str, p_values: Sequence[float]) -> Check:
    """Whether p-values are uniform, by Kolmogorov and Smirnov."""
    return Check("uniform", name, sample, float(stats.kstest(p_values, "uniform").pvalue), 0.0, MIN_KS_P)


def at_most(name: str, sample: str, shares: Sequence[float], limit: float) -> Check:
    """The mean of the shares against a limit. `error` is of what was found; where nothing was, of the limit."""
    error = float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) or _error(limit, len(shares))
    return Check("at most", name, sample, float(np.mean(shares)), error, 0.0, limit + 2 * error)


def _error(share: float, draws: int) -> float:
    return math.sqrt(share * (1 - share) / draws)


def summary(checks: Sequence[Check]) -> dict[str, Any]:
    """What the targets are judged by: the worst of each kind; a kind that was not drawn is left out."""

    def worst(kind: Kind, **of: Callable[[list[Check]], float]) -> dict[str, float]:
        found = [c for c in checks if c.kind == kind]
        return {name: pick(found) for name, pick in of.items()} if found else {}

    def lowest(found: list[Check]) -> float:
        return min(c.value for c in found)

    def highest(found: list[Check]) -> float:
        return max(c.value for c in found)

    return {
        "auroc_coverage": worst("auroc", lowest=lowest, highest=highest),
        "tpr_coverage": worst("tpr", lowest=lowest),
        "fit_coverage": worst("fit", lowest=lowest, highest=highest),
        "mixture_coverage": worst("mixture", lowest=lowest, highest=highest),
        "conservative_coverage": worst("covers", lowest=lowest),
        "night_coverage": worst("nights", lowest_of_wanted=lambda found: min(c.value / c.low for c in found)),
        "uniform": worst("uniform", lowest_p=lowest),
        "at_most": worst("at most", largest_of_allowed=lambda found: max(c.value / c.high for c in found)),
    }
