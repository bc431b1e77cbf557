"""The mean over domains, each weighing the same, and its interval: documents are drawn within each domain.

    v = mean_d v_d        se^2 = sum_d se_d^2 / D^2        interval as `fit_intervals` makes it, on log v

A domain that no document was drawn of in a sample stands there as it is. That is rare from six documents on; a domain
so small that it has no interval leaves the mean without one.
Source: Magnusson et al. 2023, arXiv 2312.10523 (Paloma). Shapes: `R` bootstrap samples, `D` domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log
from typing import Any

import numpy as np

from operators.mixtures.fit_intervals import Estimates, exponential, log_ratio, studentised
from operators.mixtures.fit_sums import Floats, Sums

_COUNTS = ("n_documents", "n_undefined", "n_tokens", "n_fed", "n_bytes", "n_words")
_MEANS = ("bits_per_byte", "bits_per_byte_extrapolated", "perplexity")


class Macro:
    """Takes in domains one by one; holds sums over them, whatever their number."""

    def __init__(self, resamples: int) -> None:
        self._resamples = resamples
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._sums = dict.fromkeys(_MEANS, 0.0)
        self._n = 0
        self._has_interval = {"bits_per_byte": True, "perplexity": True}
        # Values and squared errors, of all documents in the first place and then of each sample.
        self._drawn = {name: np.zeros((2, 1 + resamples)) for name in self._has_interval}

    def add(self, sums: Sums, row: Mapping[str, Any]) -> None:
        """Take in a domain, given its sums and its row of `domain_fit`; one without numbers is left out."""
        if row["bits_per_byte"] is None:
            return
        self._n += 1
        for name in _COUNTS:
            self._counts[name] += row[name]
        for name in _MEANS:
            self._sums[name] += inf if row[name] is None else row[name]  # a perplexity too large for a number
        for name, bottom in (("bits_per_byte", "bytes"), ("perplexity", "tokens")):
            self._has_interval[name] &= row[f"{name}_low"] is not None
            whole_RF = np.vstack([sums.exact_F, sums.drawn_RF])
            self._drawn[name] += _values(log_ratio(whole_RF, "loss", bottom), is_exponent=name == "perplexity")

    def row(self, level: float) -> dict[str, Any]:
        """The macro row but its shares; NULL where no domain has a number."""
        means = {name: total / self._n if self._n and total < inf else None for name, total in self._sums.items()}
        ends = {}
        for name in self._has_interval:
            ends[f"{name}_low"], ends[f"{name}_high"] = exponential(self._interval(name, level))
        return {**self._counts, **means, **ends}

    def _interval(self, name: str, level: float) -> tuple[float, float] | None:
        if not (self._n and self._has_interval[name]):
            return None
        values, squares = self._drawn[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs, errors = np.log(values / self._n), np.sqrt(squares) / values
        return studentised((logs[0], errors[0]), (logs[1:], errors[1:]), level)


def _values(logs: Estimates, *, is_exponent: bool) -> Floats:
    """Numbers and squared errors [2, 1 + R] from logarithms; empty samples stand as all documents do, first."""
    log_mean, log_error = logs
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.exp(log_mean)
        values, errors = (np.exp(mean), np.exp(mean) * mean * log_error) if is_exponent else (mean, mean * log_error)
    is_empty = ~np.isfinite(values)
    values, squares = np.where(is_empty, values[0], values), np.where(is_empty, 0.0, errors**2)
    unit = 1.0 if is_exponent else log(2)
    return np.stack([values / unit, squares / unit**2])
