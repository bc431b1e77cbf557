"""Premiums on parallel text: how many more tokens a domain needs than the baseline for the same records.

    records of two domains that share an id -> sums by domain and group of ids -> premium, parity

Source: Petrov et al. 2023, arXiv 2305.15425 (NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.tokenizer_statistics.formulas import ratio
from operators.tokenizer_statistics.jackknife import jackknife
from operators.tokenizer_statistics.options import group_of
from operators.tokenizer_statistics.probe import TokenizerProbe
from operators.tokenizer_statistics.registry import STATISTICS
from operators.tokenizer_statistics.rows import as_table

__all__ = ["ALIGNED", "group_of", "premium_rows"]

ALIGNED = pa.schema(
    [
        pa.field("tokenizer", pa.string(), nullable=False),
        pa.field("domain", pa.string()),
        pa.field("group", pa.int32(), nullable=False),  # of the records' shared id
        pa.field("n", pa.int64(), nullable=False),  # records that the baseline domain has too
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("baseline_tokens", pa.int64(), nullable=False),
        pa.field("ratio_sum", pa.float64(), nullable=False),  # of tokens / baseline tokens of each record
    ]
)
_SUMS = ("n", "tokens", "baseline_tokens", "ratio_sum")


def premium_rows(
    aligned: pa.Table, probes: Sequence[TokenizerProbe], baseline_domain: str, confidence: float = 0.95
) -> pa.Table:
    """`premium` and `parity` of every tokenizer and domain of `aligned`, as `rows.statistic_rows` gives its own.

    A record is one unit of the interval: both of its sides are left out together.
    """
    fingerprints = {probe.name: probe.fingerprint for probe in probes}
    places = aligned.group_by(["tokenizer", "domain"]).aggregate([])
    rows = []
    for place in places.to_pylist():
        mine = pc.equal(aligned["tokenizer"], place["tokenizer"])
        domain = place["domain"]
        of_domain = pc.is_null(aligned["domain"]) if domain is None else pc.equal(aligned["domain"], domain)
        by_group = aligned.filter(pc.fill_null(pc.and_(mine, of_domain), False)).group_by("group")
        sums = by_group.aggregate([(name, "sum") for name in _SUMS])
        n, tokens, baseline, ratios = (_without(sums[f"{name}_sum"].to_numpy()) for name in _SUMS)
        occupied = np.ones(len(n) - 1, np.bool_)
        for name, values in (("premium", ratio(tokens, baseline)), ("parity", ratio(ratios, n))):
            value = float(values[0])
            ends = jackknife(values, occupied, confidence)
            low, high = ends if ends is not None else (None, None)
            rows.append(
                {
                    **place,
                    "part": "domain",
                    "statistic": name,
                    "baseline": baseline_domain,
                    "value": value,
                    "value_low": None if low is None else max(low, 0.0),
                    "value_high": high,
                    "confidence": None if low is None else confidence,
                    "unit": STATISTICS[name].unit,
                    "n": int(n[0]),
                    "tokenizer_fingerprint": fingerprints[place["tokenizer"]],
                }
            )
    return as_table(rows)


def _without(groups: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The sum, and the sum without each group."""
    whole = groups.sum()
    return np.concatenate([[whole], whole - groups]).astype(np.float64)
