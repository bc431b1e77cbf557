"""Applying a detector: out of fold where it has seen a document, by all models where not, never to another model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import labelled
import numpy as np
import pyarrow as pa
import pytest

from operators.catalog import connect
from operators.detectors import apply, files, sequences
from operators.detectors.card import KINDS, DetectorError, Kind
from operators.detectors.learners import NetworkLearner
from operators.detectors.training import Trained, TrainSettings, train
from operators.lake import Lake
from operators.scores import ScoreError
from schemas import SCORES

SCORED = ("loss", "min_k", "max_renyi_inf", "min_k(ratio=0.5)")


@dataclass(frozen=True)
class World:
    connection: duckdb.DuckDBPyConnection
    trained: dict[str, Trained]
    folder: Path

    def detector(self, kind: str) -> str:
        return str(self.folder / kind)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run `a` is trained on, but for its documents without a label; `b` has some of them and others; `c` another model.

    The first three documents have no scored token."""
    path = tmp_path_factory.mktemp("lake")
    lake = Lake(str(path))
    rng = np.random.default_rng(0)
    made = [
        replace(document, domain=f"domain {i // 4}")
        for i, document in enumerate(labelled.documents(rng, 24, shift=0.6, tokens=12))
    ]
    made = [replace(d, logprobs=d.logprobs[:0]) if i < 3 else d for i, d in enumerate(made)]
    unlabelled = [replace(d, label=None) for d in labelled.documents(rng, 3, tokens=12, prefix="new")]
    labelled.write_run(lake, "a", [*made, *unlabelled])
    labelled.write_run(lake, "b", [*made[10:20], *unlabelled])
    labelled.write_run(lake, "c", made, model="model-c")
    labelled.write_run(lake, "bare", made, features=())
    with connect(path) as connection:
        found = {}
        for kind in KINDS:
            settings = TrainSettings(kind, folds=3, epochs=4, scores=SCORED, cluster="domain")
            found[kind] = train(connection, "a", settings)
            saved = found[kind]
            files.save(str(path / "detectors" / kind), saved.card, saved.tensors, overwrite=False, storage_options=None)
        yield World(connection, found, path / "detectors")


def values(rows: pa.Table) -> dict[int, float | None]:
    return dict(zip(rows["doc_id"].to_pylist(), rows["value"].to_pylist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_run_is_scored_out_of_fold(world: World, kind: Kind) -> None:
    rows = apply(world.detector(kind), world.connection, "a")
    trained = world.trained[kind]
    found = values(rows)
    assert len(found) == 54
    expected = dict(zip(trained.doc_ids.tolist(), trained.log_odds.tolist(), strict=True))
    assert len(expected) == 45  # 48 with a label, but three have nothing to read
    assert {doc_id: found[doc_id] for doc_id in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert sum(value is None for value in found.values()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_other_documents_get_the_mean_of_all_models(world: World, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the numbers of a document do not depend on which others are in the run, or in its batch."""
    monkeypatch.setattr(sequences, "BATCH_BYTES", 1 << 15)
    found, of_a = (values(apply(world.detector(kind), world.connection, run)) for run in ("b", "a"))
    assert found == pytest.approx({doc_id: of_a[doc_id] for doc_id in found}, rel=1e-5, abs=1e-5)
    detector = files.load(world.detector(kind))
    ids = np.array(sorted(set(found) - set(world.trained[kind].doc_ids.tolist())))
    assert ids.size == 6
    if isinstance(detector.card.inputs, sequences.Sequences):
        monkeypatch.setattr(sequences, "BATCH_BYTES", 1 << 20)
        (batch,) = sequences.read_batches(world.connection, "b", detector.card.inputs, ids)
        learner = NetworkLearner(detector.card.inputs, batch.values, batch.mask)
        mean = np.mean([learner.log_odds(detector.model(fold)) for fold in range(3)], axis=0)
        assert [found[doc_id] for doc_id in ids.tolist()] == pytest.approx(mean.tolist(), rel=1e-5, abs=1e-5)


def test_a_document_of_a_known_cluster_is_scored_by_the_model_that_did_not_see_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    made = [
        replace(d, domain=f"domain {i // 4}") for i, d in enumerate(labelled.documents(rng, 16, shift=0.5, tokens=10))
    ]
    more = [replace(d, key=f"more-{i}", label=None) for i, d in enumerate(made[::4])]
    lake = Lake(str(tmp_path))
    labelled.write_run(lake, "run", [*made, *more])
    with connect(tmp_path) as connection:
        trained = train(
            connection, "run", TrainSettings("logistic", folds=2, scores=("loss", "zlib"), cluster="domain")
        )
        saved = str(tmp_path / "detector")
        files.save(saved, trained.card, trained.tensors, overwrite=False, storage_options=None)
        found = values(apply(saved, connection, "run"))
        ids = dict(connection.execute("select key, doc_id from documents").fetchall())
    for twin, original in zip(more, made[::4], strict=True):
        assert found[ids[twin.key]] == pytest.approx(found[ids[original.key]], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_table_of_scores(world: World, kind: Kind) -> None:
    rows = apply(world.detector(kind), world.connection, "b")
    assert rows.schema.equals(SCORES.arrow(with_partitions=True))
    assert SCORES.validate(rows) == []
    first = rows.slice(0, 1).to_pylist()[0]
    assert (first["run_id"], first["family"], first["score"], first["variant"]) == (
        "b",
        "learned",
        kind,
        f"{kind}({kind})",
    )
    digest = files.load(world.detector(kind)).card.digest
    assert json.loads(first["parameters"]) == {"detector": kind, "digest": digest, "trained_on": "a"}
    assert rows["doc_id"].to_pylist() == sorted(rows["doc_id"].to_pylist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_another_model_is_refused_unless_forced(world: World, kind: Kind) -> None:
    with pytest.raises(DetectorError, match=r"model-a.*model-c"):
        apply(world.detector(kind), world.connection, "c")
    forced = apply(world.detector(kind), world.connection, "c", force=True)
    assert forced.num_rows == 48


def test_a_run_that_lacks_what_the_detector_reads_is_refused(world: World) -> None:
    for kind, error, said in (
        ("los_net", DetectorError, "--features topk"),
        ("pawn", DetectorError, "--features extremes,nucleus"),
        ("logistic", ScoreError, "--features extremes"),
    ):
        with pytest.raises(error, match=said):
            apply(world.detector(kind), world.connection, "bare")
    with pytest.raises(DetectorError, match="no run 'nobody'"):
        apply(world.detector("pawn"), world.connection, "nobody")
