"""Pairs positives with negatives of the same length, so that a score cannot separate them by length.

    log length   1.10   1.12   1.13          1.90   2.00  2.01
    class          +      -      +             -      +     -
                   +------+    (taken)         |      +-----+        within the caliper, each document once

One to one, greedy: positives come in a random order, each takes the nearest negative that is still free and at most
the caliper away on the scale of log length; of two equally near, a random one. Documents without a partner are left
out: where the classes' lengths do not overlap, nothing is left.

`assay evaluate` takes the length in UTF-8 bytes, which do not depend on the tokenizer and are kept where the text is
dropped. The caliper of 0.05 pairs lengths that differ by at most 5 %; a wider one leaves room for positives that are
longer than the negatives they are paired with.

Price: a walk in Python, some 2 microseconds a document.
Sources: greedy matching with a caliper: Rubin 1973, doi 10.2307/2529684; lengths as a confounder: Duan et al. 2024,
arXiv 2402.07841.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.evaluation.area import area, delong_interval
from operators.evaluation.classes import Codes, Floats, Interval, Values, as_columns, split

CALIPER = 0.05


@dataclass(frozen=True)
class Matched:
    """The AUROC on matched documents; `n_pairs` of them have the score defined on both sides."""

    n_pairs: int
    auroc: float
    interval: Interval


def match_lengths(lengths: Values, labels: Values, *, caliper: float = CALIPER, seed: int = 0) -> Codes:
    """Pairs of documents of nearly the same length: [P, 2], places of a positive and a negative.

    Args:
        lengths: [N] above 0, in any unit; documents without one (None, NaN, 0) are left out.
        labels: [N] 1, 0, or None or NaN (left out).
        caliper: largest difference within a pair, in natural logarithms.
        seed: of the order of the positives.

    Raises:
        ValueError: lengths of the lists differ, a label is neither 0, 1 nor missing, or the caliper is negative.
    """
    if not caliper >= 0:
        raise ValueError(f"caliper: {caliper}, expected 0 or more")
    values, truth, _ = as_columns(lengths, labels)
    usable = np.nan_to_num(values, nan=0.0) > 0
    positive, negative = (np.flatnonzero(usable & (truth == label)) for label in (1, 0))
    generator = np.random.default_rng(seed)
    positive, negative = generator.permutation(positive), generator.permutation(negative)
    negative = negative[np.argsort(values[negative], kind="stable")]
    partners = _nearest_free(np.log(values[positive]), np.log(values[negative]), caliper, generator)
    found = partners >= 0
    return np.column_stack([positive[found], negative[partners[found]]])


def matched_auroc(scores: Values, labels: Values, pairs_P2: Codes, clusters: Values | None = None) -> Matched:
    """The AUROC of a score on matched documents, with DeLong's interval over the pairs (or over the clusters given).

    A pair is left out where the score is undefined on either side.

    Raises:
        ValueError: as `auroc`.
    """
    values, truth, codes = as_columns(scores, labels, clusters)
    pairs_P2 = pairs_P2[~np.isnan(values[pairs_P2]).any(axis=1)]
    if not len(pairs_P2):
        return Matched(0, np.nan, Interval(np.nan, np.nan))
    rows = pairs_P2.ravel()
    groups = np.repeat(np.arange(len(pairs_P2)), 2) if codes is None else codes[rows]
    classes = split(values[rows], truth[rows], groups)
    return Matched(len(pairs_P2), area(classes), delong_interval(classes))


def _nearest_free(wanted: Floats, offered: Floats, caliper: float, generator: np.random.Generator) -> Codes:
    """For each of `wanted` in order, the place of the nearest of `offered` (ascending) not taken yet, or -1.

    `right[i]` leads to the first free place at or after i, or to `size`; `left[i + 1]` to the last one at or before i,
    plus 1, or to 0. Paths are shortened as they are walked (union-find).
    """
    size = offered.size
    left, right = list(range(size + 1)), list(range(size + 1))
    starts = np.searchsorted(offered, wanted).tolist()
    coins = (generator.random(wanted.size) < 0.5).tolist()
    values, goals, partners = offered.tolist(), wanted.tolist(), [-1] * wanted.size
    for i, (start, goal) in enumerate(zip(starts, goals, strict=True)):
        below, above = _end(left, start) - 1, _end(right, start)
        down = goal - values[below] if below >= 0 else np.inf
        up = values[above] - goal if above < size else np.inf
        if min(down, up) > caliper:
            continue
        chosen = below if down < up or (down == up and coins[i]) else above
        partners[i] = chosen
        left[chosen + 1], right[chosen] = chosen, chosen + 1
    return np.array(partners, dtype=np.intp)


def _end(links: list[int], at: int) -> int:
    """The place that links itself, from `at` on; what lies between is linked nearer to it."""
    while links[at] != at:
        links[at] = links[links[at]]
        at = links[at]
    return at
