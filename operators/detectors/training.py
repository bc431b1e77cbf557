"""Trains a detector on the labelled documents of a run, out of fold.

    labelled documents --> K folds --> model k fitted without fold k --> log-odds of fold k --> AUROC, interval
                                         |  logistic: fitted on all of the rest
                                         |  networks: a part of the rest tells when to stop

A fold's documents reach no model that scores them: not its weights, not its scale, not the moment it stopped. Texts
that nearly repeat each other, or pieces of one text, would still tell in other folds: `cluster` keeps them together.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import duckdb
import numpy as np
import numpy.typing as npt

from operators.detectors.card import FORMAT, LABEL, PAPERS, Card, DetectorError, Fold, Kind, OutOfFold
from operators.detectors.documents import Documents, Floats, Ids, read_documents, read_run
from operators.detectors.folds import deal
from operators.detectors.learners import Learner, LogisticLearner, NetworkLearner, Tensors
from operators.evaluation.area import auroc, auroc_interval

WIDTH = 32


@dataclass(frozen=True)
class TrainSettings:
    """How a detector is trained. `label`: the SQL expression that the labels were had by. `epochs`: passes over the
    documents at most; `positions`: tokens of a document that a network reads (0: the paper's); `families`, `scores` and
    `references` say which scores a logistic one reads."""

    kind: Kind
    folds: int = 5
    seed: int = 0
    epochs: int = 40
    label: str = LABEL
    cluster: str | None = None
    families: tuple[str, ...] | None = None
    scores: tuple[str, ...] | None = None
    references: tuple[str, ...] = ()
    positions: int = 0
    width: int = WIDTH


@dataclass(frozen=True)
class Trained:
    """What training gives: the card (its digest comes with saving), the tensors, and out of fold the log-odds [N] of
    the documents that were trained on, sorted by id."""

    card: Card
    tensors: Tensors
    doc_ids: Ids
    labels: Floats
    log_odds: Floats


def train(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    settings: TrainSettings,
    lake: str = "LAKE",
    labelled: tuple[Ids, Floats] | None = None,
) -> Trained:
    """Train on the labelled documents of a run; `connection` is one from `catalog.connect`.

    The same documents and settings give the same tensors, on the same processor and versions. `labelled`: sorted ids of
    documents and their labels (1, 0, NaN for none) where those are not the column `label`.

    Raises:
        DetectorError: too few documents of a label, or the run lacks what this kind reads, or the clusters.
        ScoreError: as `operators.scores.plan_scores`.
    """
    run = read_run(connection, run_id)
    every = read_documents(connection, run_id, settings.cluster)
    if every.doc_ids.size and every.lacks_clusters:
        raise DetectorError(
            f"no document of run {run_id} has a column {settings.cluster!r}: "
            "--cluster takes source, domain, or what `assay score --keep-columns` kept"
        )
    if labelled is not None:
        every = every.relabelled(*labelled)
    known = ~np.isnan(every.labels)
    if not (every.labels == 1).any() or not (every.labels == 0).any():
        counts = [int(np.count_nonzero(every.labels == label)) for label in (1, 0)]
        raise DetectorError(f"run {run_id} has {counts[0]} documents of label 1 and {counts[1]} of label 0: need both; "
                            "`assay score --label-column` keeps them, --label makes them of other columns")  # fmt: skip
    learner = _learner(connection, run_id, every.doc_ids[known], settings, lake)
    chosen = np.flatnonzero(known)[learner.defined]
    learner = learner.only(learner.defined)
    some = Documents(every.doc_ids[chosen], every.labels[chosen], _at(every.clusters, chosen))
    tensors, folds, log_odds = _out_of_fold(learner, some, settings)
    labels = some.labels
    interval = auroc_interval(log_odds, labels, clusters=_codes(some))
    card = Card(
        format=FORMAT,
        inputs=learner.inputs,
        value="log-odds of label 1 against label 0, at the shares they have in training",
        label=settings.label,
        paper=PAPERS[settings.kind],
        run=run,
        cluster=settings.cluster,
        positives=int(np.count_nonzero(labels == 1)),
        negatives=int(np.count_nonzero(labels == 0)),
        undefined=int(np.count_nonzero(known) - labels.size),
        seed=settings.seed,
        folds=tuple(folds),
        out_of_fold=OutOfFold(auroc=auroc(log_odds, labels), low=interval.low, high=interval.high),
        versions=_versions(),
        digest="0" * 32,
    )
    return Trained(card, tensors, some.doc_ids, labels, log_odds)


def _out_of_fold(learner: Learner, some: Documents, settings: TrainSettings) -> tuple[Tensors, list[Fold], Floats]:
    labels, clusters = some.labels.astype(np.int64), _codes(some)
    dealt = deal(labels, clusters, settings.folds, settings.seed)
    tensors: Tensors = {"trained.doc_id": some.doc_ids, "trained.fold": dealt}
    tensors |= _cluster_table(some.clusters, dealt)
    folds, log_odds = [], np.full(labels.size, np.nan)
    for fold in range(settings.folds):
        rest, part = np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)
        seed = settings.seed + fold
        model = learner.only(rest).fit(labels[rest], _at(clusters, rest), epochs=settings.epochs, seed=seed)
        log_odds[part] = learner.only(part).log_odds(model.tensors)
        tensors |= {f"fold.{fold}.{name}": tensor for name, tensor in model.tensors.items()}
        counts = {"fitted": rest.size - model.validation, "validation": model.validation, "tested": part.size}
        folds.append(Fold(**counts, epochs=model.epochs))
    return tensors, folds, log_odds


def _learner(
    connection: duckdb.DuckDBPyConnection, run_id: str, doc_ids: Ids, settings: TrainSettings, lake: str
) -> Learner:
    if settings.kind != "logistic":
        return NetworkLearner.read(
            connection, run_id, doc_ids, settings.kind, width=settings.width, positions=settings.positions
        )
    asked = {"names": settings.scores, "families": settings.families, "references": settings.references}
    return LogisticLearner.read(connection, run_id, doc_ids, lake=lake, **asked)


def _cluster_table(clusters: Ids | None, dealt: Ids) -> Tensors:
    """Which fold each cluster is in; documents without one need none, they are told by their ids."""
    if clusters is None:
        return {name: np.zeros(0, np.int64) for name in ("trained.cluster", "trained.cluster_fold")}
    names, first = np.unique(clusters, return_index=True)
    named = names >= 0
    return {"trained.cluster": names[named], "trained.cluster_fold": dealt[first[named]]}


def _codes(some: Documents) -> npt.NDArray[np.int64] | None:
    """Codes of the clusters, a document without one being its own."""
    if some.clusters is None:
        return None
    names, codes = np.unique(some.clusters, return_inverse=True)
    alone = some.clusters < 0
    return np.where(alone, names.size + np.arange(codes.size), codes).astype(np.int64)


def _at(values: Ids | None, chosen: npt.NDArray[np.intp]) -> Ids | None:
    return None if values is None else values[chosen]


def _versions() -> dict[str, str]:
    packages = ("corpus-assay", "torch", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
