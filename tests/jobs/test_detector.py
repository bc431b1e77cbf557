"""`assay detector`: train, look at, apply; and what is said where that cannot be."""

from __future__ import annotations

from pathlib import Path

import labelled
import numpy as np
import pytest
import runs
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.detectors.files import load
from operators.lake import Lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    rng = np.random.default_rng(0)
    labelled.write_run(Lake(str(path)), "run", labelled.documents(rng, 25, shift=0.8, tokens=10))
    labelled.write_run(Lake(str(path)), "other", labelled.documents(rng, 5, tokens=10), model="model-b")
    return path


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(lake: Path, folder: Path, *more: object) -> Result:
    return assay("detector", "train", lake, "--run-id", "run", "--output", folder, "--folds", 2, *more)


def test_train_show_and_apply(lake: Path, tmp_path: Path) -> None:
    result = train(lake, tmp_path / "mine", "--kind", "logistic", "--score", "loss", "--score", "zlib")
    assert result.exit_code == 0, result.output
    card = load(str(tmp_path / "mine")).card
    assert card.out_of_fold.auroc > 0.6
    said = unfolded(result.stdout)
    assert f"out of fold AUROC {card.out_of_fold.auroc:.3f}" in said
    assert f"assay scores {lake} --run-id RUN --detector {tmp_path / 'mine'}" in result.stdout.replace("\n", "")
    shown = assay("detector", "show", tmp_path / "mine")
    assert shown.exit_code == 0, shown.output
    assert "loss, zlib" in unfolded(shown.stdout)

    kept = assay("scores", lake, "--run-id", "run", "--detector", tmp_path / "mine")
    assert kept.exit_code == 0, kept.output
    rows = assay("sql", lake, "select variant, count(value) as n from scores group by all", "--format", "csv")
    assert rows.stdout.splitlines()[1:] == ['"logistic(mine)",50']
    refused = assay("scores", lake, "--run-id", "other", "--detector", tmp_path / "mine")
    assert refused.exit_code == 2
    assert "trained on run run, model model-a; run other is of model model-b" in unfolded(refused.output)


def test_a_network_is_trained_as_asked(lake: Path, tmp_path: Path) -> None:
    asked = ("--kind", "pawn", "--epochs", 2, "--positions", 6, "--seed", 3)
    result = train(lake, tmp_path, *asked)
    assert result.exit_code == 0, result.output
    card = load(str(tmp_path)).card
    assert card.inputs.positions == 6  # type: ignore[union-attr]
    assert card.seed == 3
    assert all(fold.epochs <= 2 for fold in card.folds)
    assert train(lake, tmp_path, *asked).exit_code == 2
    assert train(lake, tmp_path, *asked, "--overwrite").exit_code == 0
    assert load(str(tmp_path)).card == card


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--kind", "logistic", "--folds", "30"], "25 documents of label 0: 30 folds need one each"),
        (["--kind", "logistic", "--cluster", "book"], "no document of run run has a column 'book'"),
        (["--kind", "logistic", "--score", "lowercase"], "--transform lowercase"),
        (["--kind", "logistic", "--run-id", "nobody"], "no run 'nobody'"),
    ],
)
def test_what_cannot_be_trained_is_said(lake: Path, tmp_path: Path, more: list[str], said: str) -> None:
    result = train(lake, tmp_path, *more)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.output)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_detector_is_said(tmp_path: Path) -> None:
    result = assay("detector", "show", tmp_path)
    assert result.exit_code == 2
    assert "no detector in" in unfolded(result.output)


@pytest.mark.parametrize(("kind", "features"), [("los_net", ["topk"]), ("pawn", ["extremes", "nucleus"])])
def test_a_run_of_a_model_can_be_learned_from(
    kind: str, features: list[str], model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    runs.run(model_folder, corpus, tmp_path / "lake", features=features, **runs.WITH_COLUMNS)
    folder = tmp_path / "detector"
    result = train(tmp_path / "lake", folder, "--kind", kind, "--epochs", 1)
    assert result.exit_code == 0, result.output
    card = load(str(folder)).card
    assert (card.positives, card.negatives) == (15, 15)
    assert card.run.model_fingerprint is not None
    assert card.inputs.vocab_size == (331 if kind == "los_net" else 0)  # type: ignore[union-attr]
    assert assay("scores", tmp_path / "lake", "--run-id", "run", "--detector", folder).exit_code == 0
