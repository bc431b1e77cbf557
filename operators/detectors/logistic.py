"""A logistic regression of document scores, as plain numbers.

    scores [N, F] --> clip, z-score, undefined to 0 | undefined or not --> weights --> log-odds [N]

That a score is undefined may itself tell the classes apart, so it has a weight of its own; but for scores that are
undefined where a document was chosen by its label (`Scores.unmarked`), of which it is 0.
Letters: `N` documents, `F` scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from operators.detectors.card import Scores
from operators.evaluation.standardise import Floats, Standardiser

INVERSE_PENALTY = 1.0  # scikit-learn's C, on scores of unit deviation

_OF_SCORES = ("low", "high", "mean", "deviation", "weight", "undefined_weight")


def shapes(inputs: Scores) -> dict[str, tuple[int, ...]]:
    """The tensors of one model."""
    return {**dict.fromkeys(_OF_SCORES, (len(inputs.features),)), "bias": (1,)}


def fit(scores_NF: Floats, labels: npt.NDArray[np.int64], inputs: Scores) -> dict[str, Floats]:
    """The tensors of a model of these documents; none but these are looked at."""
    scale = Standardiser.fit(scores_NF, inputs.clip)
    model = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", max_iter=200)
    design = _design(scores_NF, scale)
    design[:, len(inputs.features) :] *= ~np.isin(inputs.features, inputs.unmarked)
    model.fit(design, labels)
    weights, count = model.coef_[0].astype(np.float64), len(inputs.features)
    return {
        "low": scale.low,
        "high": scale.high,
        "mean": scale.mean,
        "deviation": scale.deviation,
        "weight": weights[:count],
        "undefined_weight": weights[count:],
        "bias": model.intercept_.astype(np.float64),
    }


def log_odds(tensors: Mapping[str, Floats], scores_NF: Floats) -> Floats:
    """[N]; NaN where no score of the document is defined."""
    scale = Standardiser(*(tensors[name] for name in _OF_SCORES[:4]))
    weights = np.concatenate([tensors["weight"], tensors["undefined_weight"]])
    # Summed score by score and not as a product of matrices, whose rounding depends on how many rows there are.
    odds: Floats = (_design(scores_NF, scale) * weights).sum(axis=1) + tensors["bias"]
    return np.where(np.isnan(scores_NF).all(axis=1), np.nan, odds)


def _design(scores_NF: Floats, scale: Standardiser) -> Floats:
    return np.concatenate([scale(scores_NF), np.isnan(scores_NF)], axis=1)
