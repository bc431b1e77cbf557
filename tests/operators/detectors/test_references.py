"""A detector of scores that compare with other runs: whose runs stand in for those it was trained with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import labelled
import numpy as np
import pyarrow as pa
import pytest

from operators.catalog import connect
from operators.detectors import apply, files, logistic
from operators.detectors.card import DetectorError, Scores
from operators.detectors.references import against_prefixes, references_in, renamed
from operators.detectors.training import TrainSettings, train
from operators.evaluation.features import document_features
from operators.lake import Lake

FEATURES = ("loss", "reference(small)", "reference_ratio(small)")


@dataclass(frozen=True)
class World:
    connection: duckdb.DuckDBPyConnection
    detector: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Trained on `run` against `small`; `other` and `other-small` hold other documents, by the same models."""
    path = tmp_path_factory.mktemp("lake")
    lake, rng = Lake(str(path)), np.random.default_rng(0)
    made = [replace(d, domain=f"d{i // 4}") for i, d in enumerate(labelled.documents(rng, 20, shift=0.6, tokens=10))]
    other = labelled.documents(rng, 6, tokens=10, prefix="other")
    for run_id, documents in (("run", made), ("other", other)):
        labelled.write_run(lake, run_id, documents)
    for run_id, documents in (("small", made), ("other-small", other)):
        weaker = [replace(d, logprobs=d.logprobs * rng.uniform(1, 2, d.logprobs.size)) for d in documents]
        labelled.write_run(lake, run_id, weaker, model="model-small")
    with connect(path, macros=False) as connection:
        settings = TrainSettings("logistic", folds=2, scores=("loss", "reference", "reference_ratio"),
                                 references=("small",), cluster="domain")  # fmt: skip
        trained = train(connection, "run", settings)
        files.save(str(path / "d"), trained.card, trained.tensors, overwrite=False, storage_options=None)
        yield World(connection, str(path / "d"))


def values(rows: pa.Table) -> dict[int, float]:
    return dict(zip(rows["doc_id"].to_pylist(), rows["value"].to_pylist(), strict=True))


def test_the_card_says_which_runs_are_compared_with(world: World) -> None:
    inputs = files.load(world.detector).card.inputs
    assert isinstance(inputs, Scores)
    assert inputs.features == FEATURES
    assert inputs.references == {"small": "model-small"}
    assert apply(world.detector, world.connection, "run").equals(
        apply(world.detector, world.connection, "run", references=["small"])
    )


def test_a_run_by_the_same_model_stands_in(world: World) -> None:
    rows = values(apply(world.detector, world.connection, "other", references=["other-small"]))
    detector = files.load(world.detector)
    ids = np.array(sorted(rows))
    theirs = ("loss", "reference(other-small)", "reference_ratio(other-small)")
    scores = document_features(world.connection, "other", ids, names=theirs, references=["other-small"])
    assert scores.variants == theirs
    mean = np.mean([logistic.log_odds(detector.model(fold), scores.values) for fold in range(2)], axis=0)
    assert list(rows.values()) == pytest.approx(mean.tolist())


def test_without_one_it_is_said_what_to_name(world: World, tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"no document of run other has reference\(small\), reference_ratio\(small"):
        apply(world.detector, world.connection, "other")  # `small` has none of its documents
    with pytest.raises(DetectorError, match="no run 'nobody'"):
        apply(world.detector, world.connection, "other", references=["nobody"])
    labelled.write_run(Lake(str(tmp_path)), "run", labelled.documents(np.random.default_rng(1), 4, tokens=8))
    with (
        connect(tmp_path, macros=False) as connection,
        pytest.raises(DetectorError, match=r"run small, by model model-small: name a run .* with --reference"),
    ):
        apply(world.detector, connection, "run")


def test_scores_that_no_document_has_are_warned_of_where_that_is_forced(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = apply(world.detector, world.connection, "other", force=True)
    assert all(value is not None for value in found["value"].to_pylist())
    assert "no document of run other has reference(small)" in caplog.text


def test_a_run_without_the_clusters_of_training_is_scored_and_that_is_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        apply(world.detector, world.connection, "other", references=["other-small"])
    assert "no document of run other has 'domain', which d kept whole" in caplog.text


def test_names_keep_everything_but_the_run() -> None:
    variants = ["loss", "min_k(ratio=0.1)", "reference(small)", "lowercase", "neighbourhood(perturb:kind=swap_words)"]
    assert references_in(variants) == ["small"]
    assert renamed(variants, {"small": "tuesday-small"}) == [*variants[:2], "reference(tuesday-small)", *variants[3:]]
    assert against_prefixes([*variants, "recall", "con_recall(prefix:label=0,shots=3; prefix:label=1,shots=3)"]) == [
        "recall",
        "con_recall(prefix:label=0,shots=3; prefix:label=1,shots=3)",
    ]


def test_documents_that_a_prefix_was_made_of_are_not_told_by_that() -> None:
    """They have no value of the score, and were chosen by label: here a fifth of label 0, and none of label 1."""
    rng = np.random.default_rng(2)
    labels = np.arange(100) % 2
    scores = rng.standard_normal((100, 2))
    scores[np.flatnonzero(labels == 0)[:10], 1] = np.nan
    weights = {
        unmarked: logistic.fit(
            scores, labels, Scores(kind="logistic", features=("loss", "recall"), unmarked=unmarked, clip=0.025)
        )["undefined_weight"]
        for unmarked in ((), ("recall",))
    }
    assert weights[()][1] < -1
    assert weights["recall",].tolist() == [0, 0]
