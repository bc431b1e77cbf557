"""Dataset inference: was a set of documents trained on, judged as a whole from many weak scores?

    suspect, held out [*, F] --> halves A | B of each
    A: clip, z-score, logistic regression of "suspect"  --> one combination of the scores
    B: log-odds of both sets --> Welch's t-test, one-sided: are those of the suspect set larger?

Everything that learns, the scale of the features included, sees A only; B is tested. Without a difference the p-value
is uniform, up to the t-test's own approximation. With several splits the p-values p_(1) <= ... <= p_(K) become one by
`min(1, K / k * p_(k))`, `k = K // 2 + 1`: just under twice the median, valid however they depend on each other
(Rueger 1978; Vovk and Wang 2020, arXiv 1212.4966), and conservative. The smallest of them is never it.

A small p-value says that the sets differ in how the model takes them. That training is the reason follows only where
the sets are drawn alike: look at the blind baseline first, and take held-out documents from the same source. Documents
are tested as independent; pieces cut from one text are not, and make p-values too small.

Where this leaves the authors' code (`parity=True` keeps these conventions): it clips each set by its own quantiles and
scales by the suspect set, before the split; fits without a penalty (Adam, 1000 steps of 0.01); and takes Student's test
of equal variances. There the held-out half leaks into the scale. Left out with `parity`, too: a start at random instead
of at 0, up to 1000 documents a set for fitting instead of half, and p-values for growing subsets of one split, of which
the smallest is no p-value.

Source: Maini et al. 2024, LLM Dataset Inference, arXiv 2406.06443.
Letters: `N` documents, `F` features, `K` splits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LogisticRegression
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # comes with scikit-learn

from operators.evaluation.standardise import CLIP, Floats, Standardiser

LEVEL = 0.05
MIN_DOCUMENTS = 4  # of each set: two to fit on, two whose spread the test needs
INVERSE_PENALTY = 1.0  # scikit-learn's C, on features of unit deviation
HALVES_DOCUMENTS = 4_000  # of the held-out set that one draw of `false_positive_rate` takes

_ADAM_STEPS, _ADAM_RATE = 1000, 0.01  # the authors'


@dataclass(frozen=True)
class Feature:
    """What one score adds. `weight`: log-odds of "suspect" a standard deviation. `difference`: mean over suspect minus
    mean over held-out documents of B, in standard deviations of A. Both are means over the splits."""

    name: str
    weight: float
    difference: float
    undefined_suspect: int
    undefined_held_out: int


@dataclass(frozen=True)
class DatasetInference:
    """`p_value` of "the suspect set scores no higher than the held-out set", over all splits.

    `n_*` are documents, `tested_*` those in the tested half; `difference` is that of the mean log-odds on B in pooled
    standard deviations, mean over the splits.
    """

    p_value: float
    split_p_values: tuple[float, ...]
    difference: float
    n_suspect: int
    n_held_out: int
    tested_suspect: int
    tested_held_out: int
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class FalsePositives:
    """How often halves of one set are told apart: `positives` of `draws` had p < `level`; `low`, `high` are the ends of
    the Clopper-Pearson interval of 95 %. Each half had `n_half` documents."""

    level: float
    draws: int
    positives: int
    rate: float
    low: float
    high: float
    n_half: int


def dataset_inference(
    suspect_NF: npt.ArrayLike,
    held_out_NF: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    splits: int = 1,
    seed: int = 0,
    parity: bool = False,
) -> DatasetInference:
    """Test whether a model takes the suspect documents differently from held-out ones.

    Args:
        suspect_NF: [N, F] scores of the suspect documents, NaN where undefined; infinities are clipped.
        held_out_NF: [M, F] the same scores of documents that the model has certainly not seen, drawn alike.
        names: of the F features.
        splits: random splits into halves; p-values of several are combined, see above.
        seed: of the splits.
        parity: the conventions of the authors' code, see above.

    Raises:
        ValueError: shapes disagree, fewer than four documents in a set, or no feature that varies.
    """
    suspect, held_out = _matrix(suspect_NF, "suspect"), _matrix(held_out_NF, "held-out")
    labels = [f"feature {i}" for i in range(suspect.shape[1])] if names is None else list(names)
    if not suspect.shape[1] == held_out.shape[1] == len(labels) or not labels:
        shapes = f"suspect {suspect.shape}, held-out {held_out.shape}, {len(labels)} names"
        raise ValueError(f"{shapes}: expected the same features, one or more")
    if splits < 1:
        raise ValueError(f"splits: {splits}, expected 1 or more")
    if (Standardiser.fit(np.concatenate([suspect, held_out])).deviation == 0).all():
        raise ValueError("no feature varies over the documents: nothing to combine")
    with _controller().limit(limits=1):  # the problems are small: threads would wait for each other
        drawn = [_split(suspect, held_out, np.random.default_rng([seed, k]), parity) for k in range(splits)]
    return _summary(suspect, held_out, labels, drawn)


def false_positive_rate(
    held_out_NF: npt.ArrayLike,
    *,
    draws: int = 200,
    level: float = LEVEL,
    splits: int = 1,
    seed: int = 0,
    parity: bool = False,
) -> FalsePositives:
    """How often random halves of the held-out set give p < `level`: what the test says where there is nothing to find.

    Each draw takes at most `HALVES_DOCUMENTS` of the documents. The interval is over draws of these documents: it shows
    a test that misjudges them, not whether they resemble the suspect set.

    Raises:
        ValueError: fewer than eight documents, no feature that varies, or less than one draw.
    """
    held_out = _matrix(held_out_NF, "held-out")
    half = min(len(held_out), HALVES_DOCUMENTS) // 2
    if half < MIN_DOCUMENTS or draws < 1:
        raise ValueError(f"{len(held_out)} held-out documents, {draws} draws: halves need 8 documents and 1 draw")
    positives = 0
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(len(held_out))
        first, second = held_out[order[:half]], held_out[order[half : 2 * half]]
        positives += dataset_inference(first, second, splits=splits, seed=seed + draw, parity=parity).p_value < level
    exact = stats.binomtest(positives, draws).proportion_ci(0.95, method="exact")
    return FalsePositives(level, draws, positives, positives / draws, float(exact.low), float(exact.high), half)


def combine_p_values(p_values: Sequence[float]) -> float:
    """One p-value of several that depend on each other in any way: `min(1, K / k * p_(k))`, `k = K // 2 + 1`.

    One p-value stays as it is. Source: Rueger 1978; Vovk and Wang 2020, arXiv 1212.4966.

    Raises:
        ValueError: none is given.
    """
    if not p_values:
        raise ValueError("no p-values to combine")
    count, place = len(p_values), len(p_values) // 2 + 1
    return min(1.0, count / place * sorted(p_values)[place - 1])


# One split


@dataclass(frozen=True)
class _Split:
    p_value: float
    difference: float
    weights_F: Floats
    differences_F: Floats


def _split(suspect: Floats, held_out: Floats, rng: np.random.Generator, parity: bool) -> _Split:
    """Fit on one random half of each set, test on the other."""
    fitted, tested = [], []
    for features_NF in _officially_scaled(suspect, held_out) if parity else (suspect, held_out):
        order = rng.permutation(len(features_NF))
        fitted.append(features_NF[order[: order.size // 2]])
        tested.append(features_NF[order[order.size // 2 :]])
    if not parity:
        scale = Standardiser.fit(np.concatenate(fitted))
        fitted, tested = [scale(rows) for rows in fitted], [scale(rows) for rows in tested]
    truth = np.repeat([1, 0], [len(rows) for rows in fitted])
    weights_F = (_adam_weights if parity else _penalised_weights)(np.concatenate(fitted), truth)
    p_value, difference = _t_test(tested[0] @ weights_F, tested[1] @ weights_F, equal_variances=parity)
    return _Split(p_value, difference, weights_F, tested[0].mean(axis=0) - tested[1].mean(axis=0))


def _penalised_weights(features_NF: Floats, truth_N: npt.NDArray[np.int64]) -> Floats:
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", solver="newton-cholesky", max_iter=200)
    weights: Floats = model.fit(features_NF, truth_N).coef_[0]
    return weights


def _adam_weights(features_NF: Floats, truth_N: npt.NDArray[np.int64]) -> Floats:
    """A linear layer as the authors train it: binary cross-entropy, full batches, from 0."""
    inputs = np.column_stack([features_NF, np.ones(len(features_NF))])
    weights, first, second = (np.zeros(inputs.shape[1]) for _ in range(3))
    for step in range(1, _ADAM_STEPS + 1):
        gradient = inputs.T @ (1 / (1 + np.exp(-np.clip(inputs @ weights, -500, 500))) - truth_N) / len(inputs)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        weights = weights - _ADAM_RATE * first / (1 - 0.9**step) / corrected
    return weights[:-1]


def _officially_scaled(suspect: Floats, held_out: Floats) -> list[Floats]:
    """Both sets clipped by their own quantiles and scaled by the suspect set, all of it, as the authors do."""
    clipped = []
    for features_NF in (suspect, held_out):
        own = Standardiser.fit(features_NF, CLIP)
        clipped.append(np.clip(features_NF, own.low, own.high))
    scale = Standardiser.fit(clipped[0], clip=0)
    moments = np.where(scale.deviation > 0, scale.deviation, np.inf)  # what does not vary becomes 0
    return [np.nan_to_num((features_NF - scale.mean) / moments) for features_NF in clipped]


def _t_test(suspect_N: Floats, held_out_N: Floats, *, equal_variances: bool) -> tuple[float, float]:
    """The one-sided p-value, and the difference of the means in pooled standard deviations (0 where both are 0)."""
    sizes = suspect_N.size, held_out_N.size
    means = float(suspect_N.mean()), float(held_out_N.mean())
    deviations = float(suspect_N.std(ddof=1)), float(held_out_N.std(ddof=1))
    gap = means[0] - means[1]
    pooled = math.sqrt(((sizes[0] - 1) * deviations[0] ** 2 + (sizes[1] - 1) * deviations[1] ** 2) / (sum(sizes) - 2))
    if pooled == 0:  # all alike within each set, where t is 0 / 0 or infinite: what a permutation test would say
        return (1 / math.comb(sum(sizes), sizes[0]) if gap > 0 else 1.0), 0.0
    test = stats.ttest_ind_from_stats(
        means[0], deviations[0], sizes[0], means[1], deviations[1], sizes[1],
        equal_var=equal_variances, alternative="greater",
    )  # fmt: skip
    return float(test.pvalue), gap / pooled


# Around the splits


def _summary(suspect: Floats, held_out: Floats, names: Sequence[str], drawn: Sequence[_Split]) -> DatasetInference:
    p_values = tuple(split.p_value for split in drawn)
    features = zip(
        names,
        np.mean([split.weights_F for split in drawn], axis=0).tolist(),
        np.mean([split.differences_F for split in drawn], axis=0).tolist(),
        np.isnan(suspect).sum(axis=0).tolist(),
        np.isnan(held_out).sum(axis=0).tolist(),
        strict=True,
    )
    return DatasetInference(
        p_value=combine_p_values(p_values),
        split_p_values=p_values,
        difference=float(np.mean([split.difference for split in drawn])),
        n_suspect=len(suspect),
        n_held_out=len(held_out),
        tested_suspect=len(suspect) - len(suspect) // 2,
        tested_held_out=len(held_out) - len(held_out) // 2,
        features=tuple(Feature(*values) for values in features),
    )


def _matrix(features: npt.ArrayLike, what: str) -> Floats:
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < MIN_DOCUMENTS:
        raise ValueError(
            f"{what} features {matrix.shape}: expected [documents, features], {MIN_DOCUMENTS} or more rows"
        )
    return matrix


@cache
def _controller() -> Any:
    return ThreadpoolController()  # finding the libraries costs more than a fit
