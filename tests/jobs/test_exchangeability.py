"""`assay exchangeability`: makes the orders once, says what they cost, tests them, warns, refuses what makes none."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import small
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.exchangeability.examine import examine
from operators.lake import Lake, orders_path

pytestmark = pytest.mark.usefixtures("no_catalog")
FEW = ("--shards", "4", "--permutations", "19", "--engine", "inline")
HOSTILE = "[bold]\u202e item \x1b[31m 'x'; drop table documents --"


@pytest.fixture(scope="module")
def lake(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mixed`: items in no order; `sorted`: by length, one twice; both with hostile ids and texts."""
    folder = tmp_path_factory.mktemp("lake")
    pieces = small.stdlib_texts(61)[5::9]
    lengths = 30 + np.random.default_rng(0).permutation(31)[:18]
    mixed = [f"{HOSTILE}{text}"[:length] for text, length in zip(pieces[:18], lengths, strict=True)]
    for run_id, texts in (("mixed", mixed), ("sorted", sorted([*mixed[1:], min(mixed[1:], key=len)], key=len))):
        path = folder.parent / f"{run_id}.jsonl"
        records = [{"id": f"{HOSTILE}{i}", "text": text} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        runs.run(model_folder, path, folder, run_id, id_column="id", context=96, stride=48)
    return folder


def invoke(lake: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["exchangeability", str(lake), *arguments])


def test_a_dry_run_says_what_it_costs_and_writes_nothing(lake: Path) -> None:
    result = invoke(lake, "--benchmark-run", "mixed", "--run-id", "dry", *FEW, "--items", "12", "--dry-run")
    assert result.exit_code == 0, result.output
    said = unfolded(result.stdout)
    assert "run dry: the first 12 of 18 items of run mixed in 4 shards, as they stand and in 19 other orders" in said
    assert "cost: 20 times the benchmark, about " in said
    assert not (lake / orders_path("dry")).exists()
    assert "dry" not in Lake(str(lake)).run_ids()


def test_from_the_benchmark_to_the_verdict(lake: Path) -> None:
    result = invoke(lake, "--benchmark-run", "mixed", *FEW)
    assert result.exit_code == 0, result.output
    said = unfolded(result.stdout)
    found = examine(str(lake), "mixed-orders")
    assert f"p = {found.result.p_permutation:.3g}: the model " in said
    assert "18 items of mixed in 4 shards of up to 5" in said
    assert "no evidence is no proof of a clean model" in said
    assert "blind words: p =" in said
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "\x1b" not in result.stdout


def as_json(lake: Path, *arguments: str) -> dict[str, Any]:
    result = invoke(lake, *arguments, "--only-test", "--format", "json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")))


def test_json_and_csv_hold_the_numbers_of_the_test(lake: Path, tmp_path: Path) -> None:
    invoke(lake, "--benchmark-run", "mixed", *FEW)
    found, result = as_json(lake, "--benchmark-run", "mixed"), examine(str(lake), "mixed-orders").result
    assert found["p_permutation"] == result.p_permutation
    assert (found["p_t"], found["t"], found["t_official"]) == (result.p_t, result.t, result.t_official)
    assert found["p_tail"] == result.p_tail
    assert found["gain_low"] < found["gain_nats_per_token"] < found["gain_high"]
    assert (found["n_items"], found["n_shards"], found["n_permutations"], found["resolution"]) == (18, 4, 19, 0.05)
    assert (found["benchmark_run"], found["transform"]) == ("mixed", "orders:shards=4,permutations=19")
    written = tmp_path / "out.csv"
    assert invoke(lake, "--benchmark-run", "mixed", "--only-test", "--output", str(written)).exit_code == 0
    (row,) = csv.DictReader(io.StringIO(written.read_text()))
    assert float(row["p_permutation"]) == result.p_permutation


def test_a_file_in_an_order_of_its_own_is_warned_of(lake: Path) -> None:
    how = ("--shards", "2", "--permutations", "19", "--engine", "inline", "--items", "16")  # blind: more are drawn
    assert invoke(lake, "--benchmark-run", "sorted", *how).exit_code == 0
    notes = as_json(lake, "--benchmark-run", "sorted")["notes"]
    assert any(note.startswith("warning: blind lengths: neighbouring items are more alike") for note in notes)
    assert any(note.startswith("note: the first 16 of 18 items") for note in notes)
    assert any(note.startswith("note: items that repeat the text of an earlier one: 1") for note in notes)
    assert not [note for note in as_json(lake, "--benchmark-run", "mixed")["notes"] if note.startswith("warning")]


def test_a_benchmark_that_was_made_anew_is_noticed(lake: Path, model_folder: Path, tmp_path: Path) -> None:
    invoke(lake, "--benchmark-run", "mixed", "--run-id", "stale", *FEW)
    there = Lake(str(lake))
    ledger = there.read_run("mixed")
    try:
        there.write_run("mixed", {**ledger, "config_digest": "0" * 32})
        found = as_json(lake, "--benchmark-run", "mixed", "--run-id", "stale")
        assert any("run mixed was made anew since its items were ordered" in note for note in found["notes"])
        assert (found["blind"], found["no_blind"]) == ([], "the items that were ordered are not in the lake any more")
        result = invoke(lake, "--benchmark-run", "mixed", "--run-id", "stale", *FEW)
        assert result.exit_code == 2
        assert "the orders of run stale were made of something else: base_digest was" in unfolded(result.output)
    finally:
        there.write_run("mixed", ledger)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark-run", "nobody"], "--benchmark-run: "),
        (["--benchmark-run", "nobody"], "has no run 'nobody'"),
        (["--benchmark-run", "mixed", "--only-test", "--shards", "5"], "--only-test: the run is tested as it was made"),
        (["--benchmark-run", "mixed", "--only-test", "--dry-run"], "--only-test: the run is tested as it was made"),
        (["--benchmark-run", "mixed", "--output", "no-such/x.json"], "there is no folder 'no-such'"),
        (["--benchmark-run", "mixed", "--shards", "50"], "18 items in 50 shards"),
        (["--benchmark-run", "mixed", "--only-test", "--run-id", "mixed"], "run mixed holds no orders of a benchmark"),
        (["--benchmark-run", "mixed", "--only-test", "--run-id", "none"], "no run 'none'"),
        (["--benchmark-run", "sorted", "--only-test", "--run-id", "mixed-orders"], "holds orders of run mixed, not of"),
        (["--benchmark-run", "mixed", "--overwrite", "mixed"], "it names 'mixed', the run is 'mixed-orders'"),
        (["--benchmark-run", "mixed", "--stride", "96"], "must be smaller than the context"),
        (["--benchmark-run", "mixed", "--output", "x.csv", "--format", "json"], "'x.csv' is a name for csv"),
        (["--benchmark-run", "mixed", "--run-id", "a/b"], "run id 'a/b'"),
    ],
)
def test_what_makes_no_sense_is_refused(lake: Path, arguments: list[str], said: str) -> None:
    invoke(lake, "--benchmark-run", "mixed", *FEW)
    result = invoke(lake, *arguments)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.output)
    assert "Traceback" not in result.output


def test_where_there_is_no_lake(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--benchmark-run", "b")
    assert result.exit_code == 2
    assert "no lake at" in unfolded(result.output)
