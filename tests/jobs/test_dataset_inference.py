"""`assay dataset-inference`: finds a difference, warns where it is not the model's, refuses what makes no sense."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.catalog import connect
from operators.evaluation.dataset_inference import dataset_inference
from operators.evaluation.features import document_features
from operators.lake import Lake

TWO_STATEMENTS = "true), false))::double as label, n_bytes from documents; select coalesce(((1"
FEW = ("--score", "loss", "--score", "min_k", "--score", "zlib", "--score", "lrr", "--draws", "20")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    made, rng = Lake(str(path)), np.random.default_rng(0)
    labelled.write_run(made, "members", labelled.documents(rng, 60, shift=0.5, tokens=14))
    labelled.write_run(made, "strangers", labelled.documents(rng, 60, shift=-0.5, tokens=14, prefix="s"))
    same = labelled.documents(rng, 60, tokens=14, prefix="same")
    labelled.write_run(made, "same", same)
    words = [
        replace(d, text=f"{d.text[:-12]} {'news' if d.label else 'book'} {i % 10:06d}") for i, d in enumerate(same)
    ]
    labelled.write_run(made, "shifted", words)
    labelled.write_run(made, "new", labelled.documents(rng, 20, tokens=14, prefix="new"))
    labelled.write_run(made, "other", labelled.documents(rng, 5, tokens=14, prefix="other"), model="model-b")
    numbered = labelled.documents(rng, 20, tokens=14, prefix="same")  # as the ids of another corpus are
    labelled.write_run(made, "numbered", [*numbered, *same[60:63]], features=("extremes",))
    return path


def infer(lake: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["dataset-inference", str(lake), *arguments])


def as_json(lake: Path, *arguments: str) -> dict[str, Any]:
    result = infer(lake, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_the_numbers_are_those_of_the_scores(lake: Path) -> None:
    found = as_json(lake, "--run-id", "members", *FEW, "--splits", "3", "--seed", "5")
    with connect(lake) as connection:
        rows = connection.execute("select doc_id, label from documents where run_id = 'members'").fetchall()
        sets = [np.array(sorted(d for d, label in rows if label == wanted)) for wanted in (1, 0)]
        values = [document_features(connection, "members", ids, names=FEW[1:8:2]) for ids in sets]
    expected = dataset_inference(values[0].values, values[1].values, names=values[0].variants, splits=3, seed=5)
    assert found["p_value"] == pytest.approx(expected.p_value)
    assert found["p_value"] < 0.01
    assert found["split_p_values"] == pytest.approx(list(expected.split_p_values))
    weights = {feature.name: feature.weight for feature in expected.features}
    assert {row["score"]: row["weight"] for row in found["features"]} == pytest.approx(weights)
    assert (found["n_suspect"], found["n_held_out"]) == (60, 60)
    halves = found["held_out_halves"]
    assert halves["draws"] == 20
    assert halves["low"] <= halves["rate"] <= halves["high"]
    assert {each["features"] for each in found["blind"]} == {"words", "lengths", "zlib"}
    assert not [note for note in found["notes"] if note.startswith("warning")]


def test_no_difference_is_no_evidence(lake: Path) -> None:
    result = infer(lake, "--run-id", "same", *FEW)
    assert result.exit_code == 0, result.output
    said = unfolded(result.stdout)
    assert "no evidence that the model takes the sets differently" in said
    assert "60 documents of same where label = 1" in said
    assert "halves of the held-out set: p < 0.05 in" in said
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_sets_that_words_tell_apart_are_warned_of(lake: Path) -> None:
    found = as_json(lake, "--run-id", "shifted", *FEW)
    assert any("blind words separate the sets" in note and note.startswith("warning") for note in found["notes"])
    assert next(each for each in found["blind"] if each["features"] == "words")["flagged"]


def test_a_suspect_set_that_is_less_member_like_is_warned_of(lake: Path) -> None:
    found = as_json(lake, "--run-id", "strangers", *FEW)
    assert found["p_value"] < 0.01
    assert any("membership scores are lower in the suspect set" in note for note in found["notes"])


def test_the_held_out_set_may_be_another_run(lake: Path) -> None:
    found = as_json(lake, "--run-id", "members", "--suspect", "label = 1", "--held-out-run", "new", *FEW)
    assert (found["n_suspect"], found["n_held_out"], found["held_out"]) == (60, 40, "true")
    assert found["p_value"] < 0.05


def test_documents_of_two_corpora_may_share_ids_but_not_texts(lake: Path) -> None:
    asked = ("--run-id", "same", "--held-out-run", "numbered", "--score", "loss", "--draws", "0")
    result = infer(lake, *asked)
    assert result.exit_code == 2
    assert "3 documents are in both sets" in unfolded(result.output)
    found = as_json(lake, *asked, "--held-out", "row < 40")
    assert (found["n_suspect"], found["n_held_out"]) == (120, 40)


def test_scores_that_one_run_alone_has_are_said(lake: Path) -> None:
    asked = ("--run-id", "same", "--held-out-run", "numbered", "--held-out", "row < 40", "--draws", "0")
    found = as_json(lake, *asked, "-F", "membership", "-F", "uncertainty")
    assert any(note.startswith("note: only same has ") and "dynamic_instability" in note for note in found["notes"])
    assert not [row for row in found["features"] if row["score"] == "dynamic_instability"]


def test_csv_has_every_feature_and_parity_is_said(lake: Path, tmp_path: Path) -> None:
    written = tmp_path / "features.csv"
    result = infer(lake, "--run-id", "same", *FEW, "--output", str(written))
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(written.read_text())))
    assert {row["score"] for row in rows} == {"loss", "min_k", "zlib", "lrr"}
    weights = [abs(float(row["weight"])) for row in rows]
    assert weights == sorted(weights, reverse=True)
    official = as_json(lake, "--run-id", "same", *FEW, "--draws", "0", "--parity")
    assert official["held_out_halves"] is None
    assert official["p_value"] != float(rows[0]["p_value"])
    assert any("conventions of the authors' code" in note for note in official["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run-id", "nobody"], "no run 'nobody'"),
        (["--run-id", "same", "--suspect", "label is not null"], "60 documents are in both sets"),
        (["--run-id", "same", "--held-out", "labl = 0"], "--held-out 'labl = 0': "),
        (
            ["--run-id", "same", "--output", "x.csv", "--format", "json"],
            "'x.csv' is a name for csv, --format says",
        ),
        (["--run-id", "same", "--suspect", "n_bytes"], "'n_bytes' is no condition"),
        (["--run-id", "same", "--suspect", "domain = 'x') or (label is null"], "no suspect document"),
        (["--run-id", "same", "--held-out-run", "other"], "model_fingerprint of same is model-a, of other model-b"),
        (["--run-id", "same", "--held-out", TWO_STATEMENTS], "expected one statement"),
        (["--run-id", "same", "--score", "min_q"], "min_q"),
        (["--run-id", "same", "--suspect", "key in ('same-1', 'same-3')", "--score", "loss"], "4 or more rows"),
    ],
)
def test_what_makes_no_sense_is_refused(lake: Path, arguments: list[str], said: str) -> None:
    result = infer(lake, *arguments)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.output)
    assert "Traceback" not in result.output


def test_where_there_is_no_lake(tmp_path: Path) -> None:
    result = infer(tmp_path, "--run-id", "r")
    assert result.exit_code == 2
    assert "no lake at" in unfolded(result.output)
