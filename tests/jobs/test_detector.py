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
    assert '"logistic(mine)",50' in rows.stdout.splitlines()[1:]
    refused = assay("scores", lake, "--run-id", "other", "--detector", tmp_path / "mine")
    assert refused.exit_code == 2
    assert "trained on run run, model model-a; run other is of model model-b" in unfolded(refused.output)
    forced = assay("scores", lake, "--run-id", "other", "--detector", tmp_path / "mine", "--force-detector")
    assert forced.exit_code == 0, forced.output
    assert "kept: scores/run_id=other/" in forced.stdout


def test_the_command_that_applies_it_names_the_reference_runs(lake: Path, tmp_path: Path) -> None:
    made = labelled.documents(np.random.default_rng(0), 25, shift=0.8, tokens=10)
    labelled.write_run(Lake(str(lake)), "small", made, model="model-small")
    folder = tmp_path / "my detector"
    result = train(lake, folder, "--kind", "logistic", "--score", "reference", "--reference", "small")
    assert result.exit_code == 0, result.output
    assert f"--detector '{folder}' --reference small" in result.stdout
    kept = assay("scores", lake, "--run-id", "run", "--detector", folder, "--reference", "small")
    assert kept.exit_code == 0, kept.output


def test_labels_may_be_made_by_an_expression(lake: Path, tmp_path: Path) -> None:
    upside_down = "case when key <> 'doc-0' then 1 - label end"
    asked = ("--kind", "logistic", "--score", "loss")
    for name, more in (("plain", ()), ("made", ("--label", upside_down))):
        result = train(lake, tmp_path / name, *asked, *more)
        assert result.exit_code == 0, result.output
    plain, made = (load(str(tmp_path / name)) for name in ("plain", "made"))
    assert (plain.card.positives, plain.card.negatives) == (25, 25)
    assert (made.card.positives, made.card.negatives) == (24, 25)
    assert made.card.label == upside_down
    assert upside_down in unfolded(assay("detector", "show", tmp_path / "made").stdout)
    assert plain.model(0)["weight"][0] > 0 > made.model(0)["weight"][0]


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
        (["--kind", "logistic", "--label", "n_bytes"], "--label: label n_bytes: expected 1, 0 or NULL"),
        (["--kind", "logistic", "--label", "nothing"], "nothing"),
        (["--kind", "logistic", "--label", "(select 1 from read_text('/etc/hostname'))"], "Permission Error"),
        (
            ["--kind", "pawn", "--label", "case when key in ('doc-1', 'doc-3') or label = 0 then label end"],
            "needs two documents",
        ),
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


@pytest.fixture(scope="module")
def scored(model_folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a run of the small model."""
    path = tmp_path_factory.mktemp("scored")
    runs.run(model_folder, corpus, path, features=["extremes", "nucleus", "topk"], **runs.WITH_COLUMNS)
    return path


@pytest.mark.parametrize("kind", ["los_net", "pawn"])
def test_a_run_of_a_model_can_be_learned_from(kind: str, scored: Path, tmp_path: Path) -> None:
    result = train(scored, tmp_path / "detector", "--kind", kind, "--epochs", 1)
    assert result.exit_code == 0, result.output
    card = load(str(tmp_path / "detector")).card
    assert (card.positives, card.negatives) == (15, 15)
    assert card.run.model_fingerprint is not None
    assert card.inputs.vocab_size == (331 if kind == "los_net" else 0)  # type: ignore[union-attr]
    assert assay("scores", scored, "--run-id", "run", "--detector", tmp_path / "detector").exit_code == 0
