"""Dataset inference and exchangeability as evidence: what their tests found, and whether their conditions hold.

Dataset inference compares the items with a clean set. Its p-value is about training only where the two are drawn alike
and the test holds its level, so these are conditions, and where one fails the evidence is inconclusive:

    blind          no classifier that never sees the model may tell the sets apart (lower end of its AUROC > 0.55)
    halves         random halves of the clean set must not be told apart more often than the level says
    direction      of a small p-value, most membership scores must be higher for the items, as of trained-on texts

The first of them is one of every comparison with a clean set. Exchangeability needs no clean set, but items that are
in no order of their own: it has a blind baseline, too.
Sources: Maini et al. 2024, arXiv 2406.06443; Das et al. 2024, arXiv 2406.16201; Oren et al. 2024, arXiv 2310.17623.
Interval of a standardised difference: Hedges & Olkin 1985, normal approximation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from operators.blind import FLAG_ABOVE, BlindResult
from operators.contamination.evidence import EXCHANGEABILITY, INFERENCE, Evidence
from operators.evaluation.blind_order import BlindOrder
from operators.evaluation.classes import CONFIDENCE, Interval
from operators.evaluation.dataset_inference import LEVEL, DatasetInference, FalsePositives
from operators.evaluation.exchangeability import Exchangeability


def blind_doubt(blind: Sequence[BlindResult]) -> str:
    """Why two sets cannot be compared: a baseline that never sees the model tells them apart. Empty: none does."""
    flagged = [f"{each.features} (AUROC {each.auroc:.3f})" for each in blind if each.is_flagged]
    if not flagged:
        return ""
    return f"{' and '.join(flagged)} alone tell the items from the clean set: two kinds of text (above {FLAG_ABOVE})"


def inference_evidence(
    benchmark: str,
    found: DatasetInference,
    families: Sequence[str],
    halves: FalsePositives | None,
    blind: Sequence[BlindResult],
    *,
    level: float = LEVEL,
) -> Evidence:
    """One comparison of a benchmark with a clean set. `families` are those of the features, in their order; `level`:
    the p-value up to which the direction matters."""
    said = f"{found.tested_suspect:,} items and {found.tested_held_out:,} of the clean set tested"
    if halves is not None:
        said += f"; halves of the clean set told apart in {halves.positives} of {halves.draws} draws"
    said += "".join(f"; blind {each.features} AUROC {each.auroc:.3f}" for each in blind)
    doubts = (blind_doubt(blind), _level_doubt(halves), _direction_doubt(found, families, level))
    return Evidence(
        benchmark, INFERENCE, f"{len(found.features)} scores together", found.n_suspect,
        estimate=found.difference,
        unit="standard deviations of the log-odds",
        interval=_standardised(found.difference, found.tested_suspect, found.tested_held_out),
        method="Welch's t on the tested halves, one-sided" + _combined(len(found.split_p_values)),
        p_value=found.p_value,
        doubt="; ".join(filter(None, doubts)),
        detail=said,
    )  # fmt: skip


def exchangeability_evidence(
    benchmark: str, orders_run: str, n_items: int, found: Exchangeability, blind: Sequence[BlindOrder] = ()
) -> Evidence:
    """The test of one run of shuffled orders: its exact p-value. `blind`: what the order gives away without a model."""
    ordered = [f"{each.features} (p {each.p_value:.2g})" for each in blind if each.is_flagged]
    said = f"{found.n_shards:,} shards, {found.n_permutations:,} permutations"
    if found.p_tail is not None:
        said += f"; by a curve fitted to them p is about {found.p_tail:.2g}"
    return Evidence(
        benchmark, EXCHANGEABILITY, orders_run, n_items,
        estimate=found.gain,
        unit="nats per token",
        interval=None if found.low is None or found.high is None else Interval(found.low, found.high),
        method="permutation test; interval Student's t over shards",
        p_value=found.p_permutation,
        resolution=found.resolution,
        doubt=f"the file is sorted or grouped, as {' and '.join(ordered)} of neighbours show" if ordered else "",
        detail=said,
    )  # fmt: skip


def _combined(splits: int) -> str:
    return f"; p-values of {splits} splits as one (Rueger)" if splits > 1 else ""


def _level_doubt(halves: FalsePositives | None) -> str:
    if halves is None or halves.low <= halves.level:
        return ""
    return f"the test does not hold its level: {halves.rate:.0%} of halves of the clean set are told apart"


def _direction_doubt(found: DatasetInference, families: Sequence[str], level: float) -> str:
    pairs = zip(found.features, families, strict=True)
    differences = [feature.difference for feature, family in pairs if family == "membership"]
    lower = sum(difference < 0 for difference in differences)
    if found.p_value > level or lower <= len(differences) / 2:
        return ""
    return f"{lower} of {len(differences)} membership scores are lower for the items: not as trained-on texts differ"


def _standardised(difference: float, n: int, base_n: int) -> Interval:
    error = math.sqrt((n + base_n) / (n * base_n) + difference**2 / (2 * (n + base_n)))
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Interval(difference - half, difference + half)
