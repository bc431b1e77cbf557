"""Domain weights by excess loss: DoReMi's update, over checkpoints that are frozen.

    score of a domain   lambda = mean over its tokens of max(0, loss of proxy - loss of reference), clipped per token
    one step            w <- softmax(ln w + eta * lambda), then w <- (1 - c) * w + c / D
    the end             mean of the weights after every step; with one step, the weights after it

A domain that a step has no token of keeps its last score. Before its first token that is 0 here; the trainer begins
with the log of the vocabulary's size, which raises every domain until it is seen.

The paper plays this game while the proxy trains, thousands of steps of a batch each, and the weights decide what the
proxy sees next. Checkpoints that were scored know nothing of the weights: one step says which domains have something
left to learn, several follow a training run that was not steered. Neither is the paper's optimum.
Letters: `R` resamples, `S` steps, `D` domains.
Source: Xie et al. 2023, arXiv 2305.10429; eta 1 and c 1e-3 as its scripts run it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ETA, SMOOTHING = 1.0, 1e-3
_SUM_TOLERANCE = 1e-6  # of weights that a file gives in decimals


def doremi_path(scores_RSD: Floats, start_D: Floats, eta: float = ETA, smoothing: float = SMOOTHING) -> Floats:
    """Weights `[..., S, D]` after each step.

    Args:
        scores_RSD: `[..., S, D]` nats, NaN where a step has no token of the domain.
        start_D: weights before the first step.
        eta: step size, above 0.
        smoothing: c, the part of the weights that is dealt evenly, 0 to 1.

    Raises:
        ValueError: weights that are negative or do not sum to 1, or settings out of range.
    """
    if not (np.isfinite(start_D).all() and (start_D >= 0).all() and abs(start_D.sum() - 1) <= _SUM_TOLERANCE):
        raise ValueError(f"weights to start from: expected 0 or more each, 1 together; they sum to {start_D.sum():.6g}")
    if not (np.isfinite(eta) and eta > 0 and 0 <= smoothing <= 1):
        raise ValueError(f"eta {eta} and smoothing {smoothing}: expected above 0, and 0 to 1")
    weights = np.broadcast_to(start_D, (*scores_RSD.shape[:-2], start_D.size))
    path = []
    for score_RD in np.moveaxis(carried(scores_RSD), -2, 0):
        with np.errstate(divide="ignore"):  # the log of a weight of 0
            logits = np.log(weights) + eta * score_RD
        raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
        raised /= raised.sum(axis=-1, keepdims=True)
        weights = (1 - smoothing) * raised + smoothing / start_D.size
        path.append(weights)
    return np.stack(path, axis=-2)


def carried(scores_RSD: Floats) -> Floats:
    """The scores that each step works with: where it has none the last one before it, 0 before the first."""
    filled = np.array(scores_RSD, dtype=np.float64)
    last = np.zeros((*filled.shape[:-2], filled.shape[-1]))
    for step in range(filled.shape[-2]):
        last = filled[..., step, :] = np.where(np.isnan(filled[..., step, :]), last, filled[..., step, :])
    return filled
