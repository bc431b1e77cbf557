"""What a detector reads of some documents, held in memory, and how one model is fitted to it and asked.

LogisticLearner    scores of documents [N, F], 8 bytes a cell
NetworkLearner     sequences [N, T, C], 4 bytes a cell, and 0.8 of it again in training: 1 GB for 100,000 documents of
                   LOS-Net with ten log-probs, 1.8 GB of PAWN
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import duckdb
import numpy as np
import numpy.typing as npt

from operators.detectors import fitting, logistic
from operators.detectors.card import DetectorError, Kind, Scores, Sequences
from operators.detectors.documents import read_run
from operators.detectors.folds import hold_out
from operators.detectors.references import against_prefixes, references_in
from operators.detectors.sequences import Mask, Values, layout, longest_document, read_batches
from operators.evaluation.features import document_features
from operators.evaluation.standardise import CLIP, Floats

Ids = npt.NDArray[np.int64]
Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A fitted model: tensors by name, passes over the documents, documents that told when to stop."""

    tensors: Tensors
    epochs: int = 0
    validation: int = 0


class Learner(Protocol):
    """Documents [N] as a kind of detector reads them."""

    @property
    def inputs(self) -> Scores | Sequences: ...

    @property
    def defined(self) -> Mask:
        """[N]: which documents have anything to read."""

    def only(self, chosen: npt.NDArray[Any]) -> Self:
        """Some of the documents, by index or mask."""

    def fit(self, labels: Ids, clusters: Ids | None, *, epochs: int, seed: int) -> Model: ...

    def log_odds(self, tensors: Tensors) -> Floats:
        """[N]; NaN where nothing can be read."""


@dataclass(frozen=True)
class LogisticLearner:
    """Scores of documents."""

    inputs: Scores
    values: Floats

    @classmethod
    def read(
        cls, connection: duckdb.DuckDBPyConnection, run_id: str, doc_ids: Ids, *, lake: str, **asked: Any
    ) -> LogisticLearner:
        """Compute the scores asked for, as `document_features`; one that no document has is left out.

        Raises:
            DetectorError: there is none.
        """
        found = document_features(connection, run_id, doc_ids, lake=lake, **asked)
        some = np.asarray(~np.isnan(found.values).all(axis=0))
        if not some.any():
            raise DetectorError(f"run {run_id} gives no score of the labelled documents: nothing to combine")
        variants = tuple(variant for variant, kept in zip(found.variants, some, strict=True) if kept)
        named = {run: read_run(connection, run).model_fingerprint for run in references_in(variants)}
        unmarked = tuple(against_prefixes(variants))
        inputs = Scores(kind="logistic", features=variants, references=named, unmarked=unmarked, clip=CLIP)
        return cls(inputs, found.values[:, some])

    @property
    def defined(self) -> Mask:
        return np.asarray(~np.isnan(self.values).all(axis=1))

    def only(self, chosen: npt.NDArray[Any]) -> LogisticLearner:
        return replace(self, values=self.values[chosen])

    def fit(self, labels: Ids, clusters: Ids | None, *, epochs: int, seed: int) -> Model:
        return Model(logistic.fit(self.values, labels, self.inputs))

    def log_odds(self, tensors: Tensors) -> Floats:
        return logistic.log_odds(tensors, self.values)


@dataclass(frozen=True)
class NetworkLearner:
    """Sequences of tokens."""

    inputs: Sequences
    values: Values
    mask: Mask

    @classmethod
    def read(
        cls,
        connection: duckdb.DuckDBPyConnection,
        run_id: str,
        doc_ids: Ids,
        kind: Kind,
        *,
        width: int,
        positions: int,
    ) -> NetworkLearner:
        """Read the sequences of all these documents, sorted by id, as long as the longest document of the run.

        Raises:
            DetectorError: the run lacks what this kind reads.
        """
        inputs = layout(connection, run_id, kind, width, positions)
        longest = min(inputs.positions, longest_document(connection, run_id))
        shape = doc_ids.size, longest
        values, mask = np.zeros((*shape, len(inputs.channels)), np.float32), np.zeros(shape, bool)
        start = 0
        for batch in read_batches(connection, run_id, inputs.model_copy(update={"positions": longest}), doc_ids):
            end = start + batch.doc_ids.size
            values[start:end], mask[start:end] = batch.values, batch.mask
            start = end
        return cls(inputs, values, mask)

    @property
    def defined(self) -> Mask:
        return np.asarray(self.mask.any(axis=1))

    def only(self, chosen: npt.NDArray[Any]) -> NetworkLearner:
        return replace(self, values=self.values[chosen], mask=self.mask[chosen])

    def fit(self, labels: Ids, clusters: Ids | None, *, epochs: int, seed: int) -> Model:
        held = hold_out(labels, clusters, seed)
        truth = labels.astype(np.float64)
        found = fitting.fit(self.inputs, self.values, self.mask, truth, held, epochs=epochs, seed=seed)
        return Model(found.tensors, found.epochs, int(np.count_nonzero(held)))

    def log_odds(self, tensors: Tensors) -> Floats:
        return fitting.log_odds(fitting.restore(self.inputs, tensors), self.values, self.mask)
