"""Applies a detector to a run: log-odds of label 1 for every document, batch after batch.

    documents --> of the training set? --> the one model that did not see it
                  of none of its clusters --> the mean of all models' log-odds

So the numbers of the training run are out of fold, always, and those of its transformed runs, whose documents have the
same ids. A logistic detector holds a row of scores per document, a network the sequences of one batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.detectors.card import DetectorError, Scores
from operators.detectors.documents import Ids, read_documents, read_run
from operators.detectors.files import Detector, load
from operators.detectors.learners import Learner, LogisticLearner, NetworkLearner
from operators.detectors.sequences import read_batches
from operators.evaluation.features import document_features
from operators.evaluation.standardise import Floats
from schemas import SCORES

FAMILY = "learned"


def apply(
    detector_folder: str,
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    *,
    force: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> pa.Table:
    """Score the documents of a run as rows of `scores`, sorted by doc_id; NULL where a document has nothing to read.

    `connection` is one from `catalog.connect`; `storage_options` are those of the detector's folder.

    Raises:
        DetectorError: no sound detector there; or the run is of another model or tokenizer than the one it was trained
            with, unless `force` is set; or the run lacks what the detector reads.
        ScoreError: the run cannot give a score that the detector combines, with the command that makes what it lacks.
    """
    detector = load(detector_folder, storage_options)
    if not force:
        _check_run(detector, connection, run_id)
    documents = read_documents(connection, run_id, detector.card.cluster)
    folds = detector.fold_of(documents.doc_ids, documents.clusters)
    odds = np.full(documents.doc_ids.size, np.nan)
    for start, learner in _learners(detector, connection, run_id, documents.doc_ids):
        end = start + learner.defined.size
        odds[start:end] = _by_fold(detector, learner, folds[start:end])
    return _rows(detector, run_id, documents.doc_ids, odds)


def _check_run(detector: Detector, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    trained, here = detector.card.run, read_run(connection, run_id)
    for what in ("model", "tokenizer"):
        expected, found = getattr(trained, f"{what}_fingerprint"), getattr(here, f"{what}_fingerprint")
        if expected != found:
            raise DetectorError(
                f"detector {detector.name} was trained on run {trained.run_id}, {what} {expected}; run {run_id} is of "
                f"{what} {found}: its log-odds would mean nothing. Train one on a run of that {what}"
            )


def _learners(
    detector: Detector, connection: duckdb.DuckDBPyConnection, run_id: str, doc_ids: Ids
) -> Iterator[tuple[int, Learner]]:
    """The documents as the detector reads them, with the place of the first."""
    inputs = detector.card.inputs
    if isinstance(inputs, Scores):
        found = document_features(connection, run_id, doc_ids, names=inputs.features)
        place = {variant: column for column, variant in enumerate(found.variants)}
        lacking = [variant for variant in inputs.features if variant not in place]
        if lacking:
            raise DetectorError(f"run {run_id} gives no {', '.join(lacking)}, which {detector.name} combines")
        yield 0, LogisticLearner(inputs, found.values[:, [place[variant] for variant in inputs.features]])
        return
    start = 0
    for batch in read_batches(connection, run_id, inputs, doc_ids):
        yield start, NetworkLearner(inputs, batch.values, batch.mask)
        start += batch.doc_ids.size


def _by_fold(detector: Detector, learner: Learner, folds: npt.NDArray[np.int64]) -> Floats:
    """Log-odds [N], of each document by the model that may score it; by all, averaged, where `folds` [N] is -1."""
    odds, count = np.zeros(folds.size), len(detector.card.folds)
    for fold in range(count):
        chosen = np.flatnonzero((folds == fold) | (folds < 0))
        if chosen.size:
            own = learner.only(chosen).log_odds(detector.model(fold))
            odds[chosen] += np.where(folds[chosen] < 0, own / count, own)
    return odds


def _rows(detector: Detector, run_id: str, doc_ids: Ids, odds: Floats) -> pa.Table:
    parameters = {"detector": detector.name, "digest": detector.card.digest, "trained_on": detector.card.run.run_id}
    same = {
        "run_id": run_id,
        "family": FAMILY,
        "score": detector.card.kind,
        "variant": detector.variant,
        "parameters": json.dumps(parameters, sort_keys=True),
    }
    columns = {name: pa.repeat(pa.scalar(text, pa.string()), doc_ids.size) for name, text in same.items()}
    columns |= {"doc_id": pa.array(doc_ids), "value": pa.array(odds, mask=~np.isfinite(odds))}
    schema = SCORES.arrow(with_partitions=True)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)
