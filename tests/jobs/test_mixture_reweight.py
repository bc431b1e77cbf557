"""`assay mixture doremi` and `select`: from runs to a kept result, and every way to ask for what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reweighted
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.lake import Lake
from operators.query import query
from operators.verify import verify

RESULT = ("--resamples", "100")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    reweighted.make_lake(path)
    return path


pytestmark = pytest.mark.usefixtures("no_catalog")


def mixture(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["mixture", *map(str, arguments)])


def doremi(lake: Path, *arguments: object, proxy: str = "early") -> Result:
    return mixture("doremi", lake, "--proxy", proxy, "--reference", "ref", *RESULT, *arguments)


def select(lake: Path, *arguments: object) -> Result:
    return mixture("select", lake, "--current", "early", "--reference", "ref", *RESULT, *arguments)


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(result.stdout, parse_constant=refuse))


def rows_of(lake: Path, name: str, table: str = "mixtures") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query(str(lake), f"from {table} where mixture = '{name}'", macros=False).to_pylist()
    return rows


def test_weights_are_printed_kept_and_drawn(lake: Path, tmp_path: Path) -> None:
    figure = tmp_path / "weights.svg"
    done = doremi(lake, "--name", "weights", "--figure", figure)
    assert done.exit_code == 0, done.output
    said = unfolded(done.stdout)
    assert "weights of 5 domains by excess loss over ref" in said
    assert "scoring frozen checkpoints, not the training-time game of the paper" in said
    assert "documents without a domain are a component of their own, (no domain)" in said
    assert "0 documents are in run early alone and 4 in run ref alone: they are left out" in said
    assert "one document: its spread is not known" in said
    assert "from mixtures where mixture = 'weights'" in said
    assert "\x1b" not in done.stdout
    kept = rows_of(lake, "weights")
    assert {row["component"] for row in kept} == {"web", "books", reweighted.HOSTILE, "alone", "(no domain)"}
    assert {(row["method"], row["unit"]) for row in kept} == {("doremi", "weight")}
    assert sum(row["share"] for row in kept) == pytest.approx(1)
    assert [row["share_low"] for row in kept if row["component"] == "alone"] == [None]
    assert "<svg" in figure.read_text()
    assert [fault for fault in verify(Lake(str(lake))) if "weights" in str(fault)] == []


def test_steps_are_kept_each_and_a_curve_of_them(lake: Path) -> None:
    found = as_json(doremi(lake, "--proxy", "late", "--steps", "--name", "steps", "--format", "json"))
    kept = rows_of(lake, "steps")
    shares = {(row["method"], row["component"]): row["share"] for row in kept}
    assert {method for method, _ in shares} == {"doremi", "doremi/1", "doremi/2"}
    for component in ("web", reweighted.HOSTILE):
        steps = [shares[f"doremi/{i}", component] for i in (1, 2)]
        assert shares["doremi", component] == pytest.approx(np.mean(steps))
    assert [row["step"] for row in rows_of(lake, "steps", "mixture_curves")] == [0, 1, 2]
    assert found["settings"]["proxies"] == ["early", "late"]
    assert any("the mean of the weights after 2 steps" in note for note in found["notes"])


def test_weights_to_start_from(lake: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.json"
    weights = {"web": 0.5, "books": 0.2, reweighted.HOSTILE: 0.1, "alone": 0.1, "(no domain)": 0.1}
    for content in (weights, {"train_domain_weights": weights}):
        start.write_text(json.dumps(content))
        done = doremi(lake, "--start", start, "--smoothing", 0, "--name", "start", "--overwrite", "start",
                      "--format", "json")  # fmt: skip
        found = as_json(done)
        raised = {row["component"]: weights[row["component"]] * np.exp(row["estimate"]) for row in found["mixtures"]}
        for row in found["mixtures"]:
            assert row["share"] == pytest.approx(raised[row["component"]] / sum(raised.values()))


def test_selection_is_printed_kept_and_drawn(lake: Path, tmp_path: Path) -> None:
    figure = tmp_path / "tokens.png"
    done = select(lake, "--keep", "0.5", "--name", "tokens", "--figure", figure)
    assert done.exit_code == 0, done.output
    said = unfolded(done.stdout)
    assert "tokens of early in the top 50.0% by excess loss over ref" in said
    assert "nats or more are selected" in said
    kept = rows_of(lake, "tokens")
    assert {row["method"] for row in kept} == {"selective"}
    assert sum(row["share"] for row in kept) == pytest.approx(1)
    selected = sum(row["estimate"] * row["n"] for row in kept) / sum(row["n"] for row in kept)
    assert selected == pytest.approx(0.5, abs=0.02)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_model_against_its_own_losses_selects_everything_and_says_why(lake: Path) -> None:
    done = mixture("select", lake, "--current", "ref", "--reference", "other", "--name", "same")
    assert done.exit_code == 2
    assert "have different tokenizers" in unfolded(done.output)
    Lake(str(lake)).write_run("other", Lake(str(lake)).read_run("ref") | {"run_id": "other"})
    done = mixture("select", lake, "--current", "ref", "--reference", "other", "--name", "same", *RESULT)
    assert "100.0000% of all" in unfolded(done.stdout)
    assert "60.0% were asked for, but tokens tie at the threshold" in unfolded(done.stdout)


def test_the_same_command_gives_the_same_numbers(lake: Path, tmp_path: Path) -> None:
    written = [tmp_path / f"{i}.csv" for i in range(2)]
    for path in written:
        assert doremi(lake, "--name", "again", "--overwrite", "again", "--output", path).exit_code == 0
    assert written[0].read_bytes() == written[1].read_bytes()
    rows = list(csv.DictReader(io.StringIO(written[0].read_text())))
    assert {row["component"] for row in rows} >= {"web", reweighted.HOSTILE}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--proxy", "earyl"], "no run 'earyl' in"),
        (["--proxy", "early"], "run early is named twice"),
        (["--proxy", "ref"], "run ref is the reference itself"),
        (["--proxy", "half"], "run half is interrupted, not finished"),
        (["--proxy", "shifted"], "hold different tokens at"),
        (["--by", "topic"], "--by topic: no document of run ref has one"),
        (["--start", "/nowhere.json"], "--start /nowhere.json: No such file or directory"),
        (["--figure", "weights.pdf"], "--figure weights.pdf: expected a name that ends in .svg or .png"),
        (["--overwrite", "another"], "it names 'another', the mixture is 'bad'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_kept(lake: Path, arguments: list[str], message: str) -> None:
    done = doremi(lake, *arguments, "--name", "bad")
    assert done.exit_code == 2, done.output
    assert message in unfolded(done.output)
    assert rows_of(lake, "bad") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[0.5, 0.5]", "expected uniform, or a JSON file"),
        ("{not json", "expected uniform, or a JSON file"),
        ('{"web": "much"}', "expected uniform, or a JSON file"),
        ('{"web": true}', "expected uniform, or a JSON file"),
        ('{"web": false, "books": 1}', "expected uniform, or a JSON file"),
        ('\ufeff{"web": 1, "wbe": 0}', "no domain 'wbe'"),
        ('{"web": 0.5, "wbe": 0.5}', "no weight for '(no domain)'"),
        ('{"web": 0.5, "wbe": 0.5}', "no domain 'wbe'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(lake: Path, tmp_path: Path, content: str, message: str) -> None:
    start = tmp_path / "start.json"
    start.write_text(content)
    done = doremi(lake, "--start", start, "--name", "bad")
    assert done.exit_code == 2
    assert message in unfolded(done.output)


def test_a_name_that_is_taken_is_refused_before_the_work(lake: Path) -> None:
    assert doremi(lake, "--name", "taken").exit_code == 0
    done = select(lake, "--name", "taken")
    assert done.exit_code == 2
    assert "has a mixture 'taken': choose another --name" in unfolded(done.output)


def test_no_lake_is_said(tmp_path: Path) -> None:
    done = doremi(tmp_path / "nowhere", "--name", "w")
    assert done.exit_code == 2
    assert "no lake at" in unfolded(done.output)
