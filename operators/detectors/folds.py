"""Deals labelled documents into folds: alike in both labels, documents of one cluster together.

documents --> K folds; model k is fitted without fold k --> part of those held out again, for stopping early
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from operators.detectors.card import DetectorError

Codes = npt.NDArray[np.int64]

VALIDATION_PARTS = 6  # one of so many parts of what a model is fitted on tells when to stop


def deal(labels: Codes, clusters: Codes | None, folds: int, seed: int) -> Codes:
    """The fold [N] of each document, 0 .. folds - 1.

    Args:
        labels: [N] of 0 and 1.
        clusters: [N] codes of documents that must not be parted, or None.

    Raises:
        DetectorError: a label has too few documents or clusters: some model would see one label only.
    """
    for label in (0, 1):
        found = np.count_nonzero(labels == label) if clusters is None else np.unique(clusters[labels == label]).size
        if found < folds:
            what = "documents" if clusters is None else "clusters with documents"
            raise DetectorError(f"{found} {what} of label {label}: {folds} folds need one each, better many")
    splitter = StratifiedKFold if clusters is None else StratifiedGroupKFold
    dealt = np.zeros(labels.size, dtype=np.int64)
    parts = splitter(folds, shuffle=True, random_state=seed).split(labels, labels, clusters)
    for fold, (rest, part) in enumerate(parts):
        if np.unique(labels[rest]).size < 2:
            raise DetectorError(f"without fold {fold} there is one label only: too few clusters for {folds} folds")
        dealt[part] = fold
    return dealt


def hold_out(labels: Codes, clusters: Codes | None, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the documents [N] that a model may see are kept from its fitting, to tell when to stop.

    Raises:
        DetectorError: as `deal`.
    """
    units = [labels == label if clusters is None else np.unique(clusters[labels == label]) for label in (0, 1)]
    few = min(int(np.count_nonzero(unit)) if clusters is None else unit.size for unit in units)
    if few < 2:
        what = "documents" if clusters is None else "clusters with documents"
        raise DetectorError(f"a network needs two {what} of each label beside every fold: more folds, or more labels")
    return np.equal(deal(labels, clusters, max(2, min(VALIDATION_PARTS, few)), seed), 0)
