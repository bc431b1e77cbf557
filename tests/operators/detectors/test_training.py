"""Training out of fold: finds what is there, finds nothing where nothing is, and never looks at the tested fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import labelled
import numpy as np
import pytest
import torch

from operators.catalog import connect
from operators.detectors.card import KINDS, DetectorError, Kind
from operators.detectors.folds import deal, hold_out
from operators.detectors.training import Trained, TrainSettings, train
from operators.lake import Lake

NETWORKS: tuple[Kind, ...] = ("los_net", "pawn")
WITHOUT_ORDER = ("loss", "min_k", "min_k_plus_plus", "zlib", "lrr")  # the same however a document's tokens are ordered


class Runs:
    """A lake, its connection, and a run for each training."""

    def __init__(self, path: str) -> None:
        self.lake = Lake(path)
        labelled.write_run(self.lake, "empty", [])
        self.connection = connect(path)
        self.count = 0

    def write(self, made: list[labelled.Document], **more: Any) -> str:
        self.count += 1
        labelled.write_run(self.lake, f"run-{self.count}", made, **more)
        return f"run-{self.count}"

    def train(self, made: list[labelled.Document], kind: Kind, **more: Any) -> Trained:
        settings = {"scores": WITHOUT_ORDER, "folds": 3, "epochs": 12, **more}
        return train(self.connection, self.write(made), TrainSettings(kind, **settings))

    def folds(self, result: Trained) -> dict[str, int]:
        """The fold of each document by key."""
        fold_of = dict(zip(result.doc_ids.tolist(), result.tensors["trained.fold"].tolist(), strict=True))
        rows = self.connection.execute("select distinct key, doc_id from documents").fetchall()
        return {key: fold_of[doc_id] for key, doc_id in rows if doc_id in fold_of}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(str(tmp_path_factory.mktemp("lake")))
    yield made
    made.connection.close()


def test_networks_see_the_order_that_document_scores_do_not(runs: Runs) -> None:
    made = labelled.ordered(np.random.default_rng(0), 50, tokens=20)
    found = {kind: runs.train(made, kind, epochs=30, folds=2).card.out_of_fold for kind in KINDS}
    assert found["logistic"].low < 0.5 < found["logistic"].high
    assert found["los_net"].low > 0.75
    assert found["pawn"].low > 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_in_level_is_found(kind: Kind, runs: Runs) -> None:
    made = labelled.documents(np.random.default_rng(1), 50, shift=0.9, tokens=14)
    result = runs.train(made, kind, epochs=20, folds=2)
    assert result.card.out_of_fold.low > 0.75
    assert (result.card.positives, result.card.negatives, result.card.undefined) == (50, 50, 0)
    assert (
        result.log_odds[result.labels == 1].mean() > result.log_odds[result.labels == 0].mean()
    )  # the right way round


@pytest.mark.parametrize("kind", KINDS)
def test_random_labels_stay_at_chance(kind: Kind, runs: Runs) -> None:
    """Any leak of a tested document would lift this above one half: there is nothing else to learn."""
    rng = np.random.default_rng(2)
    found = []
    for seed in range(4 if kind == "logistic" else 2):
        made = labelled.documents(rng, 50, tokens=16)
        labels = rng.permutation([0, 1] * 50).tolist()
        result = runs.train(labelled.relabelled(made, labels), kind, seed=seed)
        found.append(result.card.out_of_fold)
    assert np.mean([each.auroc for each in found]) == pytest.approx(0.5, abs=0.1)
    assert all(each.low < 0.55 for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_fold_holds_changes_nothing_in_the_model_that_is_tested_on_it(kind: Kind, runs: Runs) -> None:
    made = labelled.documents(np.random.default_rng(3), 25, shift=0.5, tokens=12)
    first = runs.train(made, kind, epochs=3)
    fold_of = runs.folds(first)
    spoilt = [
        replace(document, logprobs=3 * document.logprobs[::-1]) if fold_of[document.key] == 0 else document
        for document in made
    ]
    second = runs.train(spoilt, kind, epochs=3)
    same = [np.array_equal(first.tensors[name], second.tensors[name]) for name in of_fold(first, 0)]
    assert all(same)
    assert not all(np.array_equal(first.tensors[name], second.tensors[name]) for name in of_fold(first, 1))
    tested = first.tensors["trained.fold"] == 0
    assert not np.array_equal(first.log_odds[tested], second.log_odds[tested])


def of_fold(result: Trained, fold: int) -> list[str]:
    return [name for name in result.tensors if name.startswith(f"fold.{fold}.")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: Kind, runs: Runs) -> None:
    made = labelled.documents(np.random.default_rng(4), 20, shift=0.5, tokens=12)
    before = torch.get_rng_state()
    first = runs.train(made, kind, epochs=3)
    assert torch.equal(before, torch.get_rng_state())  # nobody else's random numbers are used up
    torch.rand(5)
    second = runs.train(made, kind, epochs=3)
    other = runs.train(made, kind, epochs=3, seed=1)
    assert first.tensors.keys() == second.tensors.keys()
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert first.card == second.card.model_copy(update={"run": first.card.run})
    assert not np.array_equal(first.tensors["trained.fold"], other.tensors["trained.fold"])


def test_documents_of_one_cluster_stay_together(runs: Runs) -> None:
    """Clusters of near copies, labelled by cluster: only where they are parted is there something to learn."""
    rng = np.random.default_rng(5)
    made = []
    for cluster in range(14):
        document = labelled.documents(rng, 1, tokens=14)[0]
        for copy in range(5):
            near = document.logprobs * rng.uniform(0.98, 1.02, document.logprobs.size)
            of = {"domain": f"domain {cluster}", "attributes": {"book": f"book {cluster}"}}
            made.append(replace(document, key=f"{cluster}/{copy}", label=cluster % 2, logprobs=near, **of))
    parted = runs.train(made, "pawn", epochs=50)
    whole = runs.train(made, "pawn", epochs=50, cluster="domain")
    assert whole.card.out_of_fold.auroc < parted.card.out_of_fold.auroc - 0.1
    for result in (whole, runs.train(made, "logistic", cluster="book")):
        together = {key.split("/")[0]: set() for key in runs.folds(result)}
        for key, fold in runs.folds(result).items():
            together[key.split("/")[0]].add(fold)
        assert all(len(folds) == 1 for folds in together.values())
        assert result.tensors["trained.cluster"].size == 14
    assert whole.card.cluster == "domain"


def test_documents_without_a_label_teach_nothing(runs: Runs) -> None:
    rng = np.random.default_rng(6)
    made = labelled.documents(rng, 15, shift=0.5, tokens=12)
    unlabelled = labelled.relabelled(labelled.documents(rng, 10, shift=-3, tokens=12, prefix="more"), [None] * 20)
    first = runs.train(made, "logistic")
    second = runs.train([*made, *unlabelled], "logistic")
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_what_cannot_be_trained_is_said(runs: Runs) -> None:
    rng = np.random.default_rng(7)
    made = labelled.documents(rng, 10, tokens=10)
    with pytest.raises(DetectorError, match="10 documents of label 1 and 0 of label 0"):
        runs.train(labelled.relabelled(made, [1, None] * 10), "logistic")
    with pytest.raises(DetectorError, match="2 documents of label 1: 3 folds"):
        runs.train(labelled.relabelled(made, [1, 1] + [0] * 18), "pawn")
    with pytest.raises(DetectorError, match=r"no document of run run-\d+ has a column 'book'"):
        runs.train(made, "logistic", cluster="book")
    bare = runs.write(made, features=())
    for kind, groups in (("los_net", "topk"), ("pawn", "extremes,nucleus")):
        with pytest.raises(DetectorError, match=f"--features {groups}"):
            train(runs.connection, bare, TrainSettings(kind))  # type: ignore[arg-type]
    with pytest.raises(DetectorError, match="no run 'other'"):
        train(runs.connection, "other", TrainSettings("logistic"))


# Folds


def test_folds_are_dealt_evenly_over_labels() -> None:
    labels = np.array([0] * 40 + [1] * 20)
    folds = deal(labels, None, 4, seed=0)
    assert [np.count_nonzero((folds == fold) & (labels == 1)) for fold in range(4)] == [5] * 4
    held = hold_out(labels, None, seed=0)
    assert 0 < np.count_nonzero(held & (labels == 1)) < 20
    assert not np.array_equal(folds, deal(labels, None, 4, seed=1))


def test_a_label_in_too_few_clusters_is_refused() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(DetectorError, match="1 clusters with documents of label 1"):
        deal(labels, np.array([0, 1, 2, 3, 3, 3]), 2, seed=0)
    folds = deal(labels, np.array([0, 1, 1, 2, 3, 3]), 2, seed=0)
    assert folds[1] == folds[2]
    assert folds[4] == folds[5]
