"""Applies a detector to a run: log-odds of label 1 for every document, batch after batch.

    documents --> of the training set? --> the one model that did not see it
                  of none of its clusters --> the mean of all models' log-odds

So the numbers of the training run are out of fold, always, and those of its transformed runs, whose documents have the
same ids. A logistic detector holds a row of scores per document, a network the sequences of one batch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.detectors.card import DetectorError, Scores
from operators.detectors.documents import Ids, read_documents, read_run
from operators.detectors.files import Detector, load
from operators.detectors.learners import Learner, LogisticLearner, NetworkLearner
from operators.detectors.references import renamed, stand_ins
from operators.detectors.sequences import read_batches
from operators.evaluation.features import document_features
from operators.evaluation.standardise import Floats
from schemas import SCORES

FAMILY = "learned"

log = logging.getLogger(__name__)


def apply(
    detector_folder: str,
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    *,
    references: Sequence[str] = (),
    force: bool = False,
    lake: str = "LAKE",
    storage_options: dict[str, Any] | None = None,
) -> pa.Table:
    """Score the documents of a run as rows of `scores`, sorted by doc_id; NULL where a document has nothing to read.

    Args:
        connection: one from `catalog.connect`.
        references: runs of the same documents by other models; those by the models of the reference runs that were
            trained with stand in for these.
        force: go on, with a warning, where the run is of another model or tokenizer, or has no value at all of a score.
        lake: how the lake is called in the commands of hints.
        storage_options: of the detector's folder.

    Raises:
        DetectorError: no sound detector there; or the run is of another model or tokenizer than the one it was trained
            with; or the run lacks what the detector reads.
        ScoreError: the run cannot give a score that the detector combines, with the command that makes what it lacks.
    """
    detector = load(detector_folder, storage_options)
    asked = _Asked(detector, connection, run_id, tuple(references), force, lake)
    asked.check_run()
    documents = read_documents(connection, run_id, detector.card.cluster)
    if documents.doc_ids.size and documents.lacks_clusters:
        log.warning(
            "no document of run %s has %r, which %s kept whole in training: only by their ids are documents known that "
            "it was trained on, not by what they were cut from", run_id, detector.card.cluster, detector.name
        )  # fmt: skip
    folds = detector.fold_of(documents.doc_ids, documents.clusters)
    odds = np.full(documents.doc_ids.size, np.nan)
    for start, learner in asked.learners(documents.doc_ids):
        end = start + learner.defined.size
        odds[start:end] = _by_fold(detector, learner, folds[start:end])
    return _rows(detector, run_id, documents.doc_ids, odds)


@dataclass(frozen=True)
class _Asked:
    """A detector and the run that it is applied to."""

    detector: Detector
    connection: duckdb.DuckDBPyConnection
    run_id: str
    references: tuple[str, ...]
    force: bool
    lake: str

    def check_run(self) -> None:
        """That the run is of the model and tokenizer that were trained with."""
        trained, here = self.detector.card.run, read_run(self.connection, self.run_id)
        for what in ("model", "tokenizer"):
            expected, found = getattr(trained, f"{what}_fingerprint"), getattr(here, f"{what}_fingerprint")
            if expected != found:
                self._object(
                    f"detector {self.detector.name} was trained on run {trained.run_id}, {what} {expected}; run "
                    f"{self.run_id} is of {what} {found}: its log-odds would mean nothing. "
                    f"Train one on a run of that {what}"
                )

    def _object(self, fault: str) -> None:
        if not self.force:
            raise DetectorError(fault)
        log.warning("%s", fault)

    def learners(self, doc_ids: Ids) -> Iterator[tuple[int, Learner]]:
        """The documents as the detector reads them, with the place of the first."""
        inputs = self.detector.card.inputs
        if isinstance(inputs, Scores):
            yield 0, LogisticLearner(inputs, self._scores(inputs, doc_ids))
            return
        start = 0
        for batch in read_batches(self.connection, self.run_id, inputs, doc_ids):
            yield start, NetworkLearner(inputs, batch.values, batch.mask)
            start += batch.doc_ids.size

    def _scores(self, inputs: Scores, doc_ids: Ids) -> Floats:
        """[N, F], F as in training."""
        runs = stand_ins(self.connection, inputs, self.references, self.detector.name)
        names = renamed(inputs.features, runs)
        found = document_features(
            self.connection, self.run_id, doc_ids, names=names, references=tuple(runs.values()), lake=self.lake
        )
        place = {variant: column for column, variant in enumerate(found.variants)}
        lacking = [variant for variant in names if variant not in place]
        if lacking:
            raise DetectorError(f"run {self.run_id} gives no {', '.join(lacking)}, which {self.detector.name} combines")
        values = found.values[:, [place[variant] for variant in names]]
        undefined = np.isnan(values)
        nowhere = np.asarray(undefined[~undefined.all(axis=1)].all(axis=0)) & (not undefined.all())
        if nowhere.any():
            said = ", ".join(name for name, absent in zip(names, nowhere, strict=True) if absent)
            self._object(
                f"no document of run {self.run_id} has {said}, which {self.detector.name} combines: have the runs that "
                "these scores compare with the same documents?"
            )
        return values


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
