"""`assay contamination` on the command line: its table, its JSON, the gate, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import benchmarks
import numpy as np
import pytest
import s3
import typer
from judged import HOSTILE, ONE_SCORE, N, as_json, judge
from output import unfolded
from typer.testing import CliRunner

from jobs.cli import app
from jobs.contamination import commands
from operators.lake import Lake

ROW = {
    "evidence", "test", "n", "estimate", "unit", "low", "high", "method", "p_value", "p_adjusted", "resolution",
    "verdict", "doubt", "detail", "examples", "matches", "shows", "cannot_show", "command",
}  # fmt: skip
TWO_STATEMENTS = "true), false))::double as label, n_bytes from documents; select coalesce(((1"


def test_the_json_is_what_its_description_says(judgement: dict[str, Any]) -> None:
    assert (judgement["schema"], judgement["version"], judgement["level"], judgement["adjustment"]) == (
        "assay.contamination",
        1,
        0.95,
        "holm",
    )
    assert set(judgement) == {
        "schema", "version", "lake", "settings", "level", "adjustment", "tests", "failed", "benchmarks", "notes",
    }  # fmt: skip
    assert set(judgement["settings"]) == {
        "alpha", "max_overlap", "overlap_rule", "min_answer_tokens", "require", "overlaps", "clean", "clean_where",
        "fail_on", "splits", "seed", "draws",
    }  # fmt: skip
    for each in judgement["benchmarks"]:
        assert set(each) == {"benchmark", "documents", "items", "clean_items", "outcome", "why", "evidence"}
        assert (each["documents"], each["items"], each["clean_items"]) == (N, N, N)
        assert all(set(row) == ROW for row in each["evidence"])
        kinds = [row["evidence"] for row in each["evidence"]]
        assert list(dict.fromkeys(kinds)) == [
            "overlap",
            "memorised",
            "exchangeability",
            "dataset_inference",
            "loss_gap",
        ]


def test_the_table_fits_and_holds_no_control_codes(judged_lake: Path, tmp_path: Path) -> None:
    arguments = ["--benchmark", "seen", "--benchmark", "fresh", "--benchmark", "lonely"]
    result = judge(judged_lake, *arguments)
    assert result.exit_code == 0, result.output
    wide = [line for line in result.stdout.splitlines() if len(line) > 100]
    assert all(line.startswith("  assay ") for line in wide), "commands can be pasted"
    assert "\x1b" not in result.stdout
    said = unfolded(result.stdout)
    assert "seen: CONTAMINATED" in said
    assert "fresh: NO EVIDENCE FOUND" in said
    assert 'is not "clean"' in said
    assert "contaminated: adjusted p of at most 0.05 (Holm, over" in said
    assert "Cannot show whether the model was trained on that corpus" in said
    written = tmp_path / "verdict.txt"
    assert judge(judged_lake, *arguments, "--output", str(written), "--format", "table").exit_code == 0
    assert written.read_text() == result.stdout


def test_a_hostile_key_is_shown_escaped(judged_lake: Path) -> None:
    condition = "key <> '" + HOSTILE.replace("'", "''") + "'"
    result = judge(judged_lake, "--benchmark", "seen", "--clean-where", condition, *ONE_SCORE)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred" in result.stdout
    assert "[bold]" in result.stdout, "no markup"


def test_a_lake_on_s3_gives_the_same(tmp_path: Path) -> None:
    folder, rng = tmp_path / "buckets" / "bucket" / "lake", np.random.default_rng(5)
    folder.mkdir(parents=True)
    made = benchmarks.items(rng, 30, written=0.5)
    benchmarks.write_run(Lake(str(folder)), "b", made)
    benchmarks.write_orders(Lake(str(folder)), "b", rng.normal(-500, 3, (10, 20)))
    benchmarks.write_overlap(Lake(str(folder)), "web", made, [(10, 0)] * 30)
    here = as_json(folder, "--benchmark", "b", "--clean-where", "key < 'item-2'", *ONE_SCORE)
    options = tmp_path / "options.json"
    with s3.lone_server(tmp_path / "buckets") as server:
        options.write_text(json.dumps({"s3": server.options}))
        arguments = [
            "contamination",
            "s3://bucket/lake",
            "--benchmark",
            "b",
            "--clean-where",
            "key < 'item-2'",
            *ONE_SCORE,
        ]
        result = CliRunner().invoke(app, [*arguments, "--storage-options", str(options), "--format", "json"])
    assert result.exit_code == 0, result.output
    assert s3.SECRET not in result.output
    there = json.loads(result.stdout)
    assert there["lake"] == "s3://bucket/lake"
    commandless = [{k: v for k, v in row.items() if k != "command"} for row in there["benchmarks"][0]["evidence"]]
    assert commandless == [
        {k: v for k, v in row.items() if k != "command"} for row in here["benchmarks"][0]["evidence"]
    ]


# Commands for what is missing


def test_what_is_missing_comes_with_a_command_that_there_is(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "lonely")
    by_kind = {row["evidence"]: row for row in result["benchmarks"][0]["evidence"]}
    assert {kind for kind, row in by_kind.items() if row["verdict"] == "missing"} == {
        "overlap", "exchangeability", "dataset_inference", "loss_gap",
    }  # fmt: skip
    assert by_kind["memorised"]["verdict"] == "not judged"
    assert result["benchmarks"][0]["outcome"] == "incomplete"
    assert "run lonely-half is not finished" in by_kind["loss_gap"]["detail"]
    assert any("run lonely is interrupted" in note for note in result["notes"])
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for row in by_kind.values():
        if row["command"]:
            assay, verb, *rest = shlex.split(row["command"])
            known = {flag for parameter in verbs[verb].params for flag in parameter.opts}
            assert assay == "assay"
            assert {word for word in rest if word.startswith("--")} <= known, row["command"]
    assert (
        "--benchmark 'a b.jsonl' --id-column id --input-column question --answer-column answer"
        in (by_kind["overlap"]["command"])
    )


def test_commands_hold_no_credentials() -> None:
    lake, file = "s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI@bucket/lake", "https://host/x?sig=wJalrXUtnFEMI"
    made = [
        commands.overlap_command(lake, "b", {"input": [file]}),
        commands.exchangeability_command(lake, "b"),
        commands.memorization_command(lake, "b"),
        commands.perturbed_command(lake, "b"),
        commands.clean_command(lake, "b", {}),
    ]
    assert not [command for command in made if "wJalrXUtnFEMI" in command]
    assert all("bucket/lake" in command for command in made)


# The gate


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--benchmark", "seen", "--fail-on", "contaminated"], 3),
        (["--benchmark", "fresh", "--benchmark", "seen", "--fail"], 3),
        (["--benchmark", "fresh", "--fail", "--require", "overlap,exchangeability"], 0),
        (["--benchmark", "fresh", "--fail", "--require", "overlap, dataset_inference"], 3),
        (["--benchmark", "fresh", "--fail-on", "contaminated", "--require", "dataset_inference"], 0),
        (["--benchmark", "lonely", "--fail"], 3),
    ],
)
def test_the_exit_code(judged_lake: Path, arguments: list[str], code: int) -> None:
    result = judge(judged_lake, *arguments)
    assert result.exit_code == code, result.output


# What makes no sense


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark", "nobody"], "no run 'nobody'"),
        (["--benchmark", "fresh", "--clean", "nobody"], "no run 'nobody'"),
        (["--benchmark", "../x"], "--benchmark: run id '../x'"),
        (["--benchmark", "fresh", "--benchmark", "fresh"], "--benchmark: fresh is named twice"),
        (["--benchmark", "fresh", "--clean", "fresh"], "it is a benchmark itself"),
        (["--benchmark", "fresh", "--clean", "clean", "--clean-where", "label = 0"], "not both"),
        (["--benchmark", "fresh", "--clean", "foreign"], "model_fingerprint of fresh is model-a, of foreign model-b"),
        (["--benchmark", "copied", "--clean", "clean"], "5 of its documents have the text of items of copied"),
        (["--benchmark", "fresh-swap-1"], "it is a transformed run"),
        (["--benchmark", "fresh", "--clean", "clean-swap-1"], "it is a transformed run"),
        (["--benchmark", "fresh", "--clean-where", "labl = 0"], "--clean-where 'labl = 0'"),
        (["--benchmark", "fresh", "--clean-where", "n_bytes"], "'n_bytes' is no condition"),
        (["--benchmark", "fresh", "--clean-where", "label = 0"], "has no such document"),
        (["--benchmark", "fresh", "--clean-where", TWO_STATEMENTS], "expected one statement"),
        (["--benchmark", "fresh", "--overlap", "nothing"], "--overlap: there is no nothing; the lake has"),
        (["--benchmark", "fresh", "--overlap-rule", "most"], "expected 'any' or 'share:S'"),
        (["--benchmark", "fresh", "--alpha", "0", "--max-overlap", "2"], "--max-overlap: 2, expected a share"),
        (["--benchmark", "fresh", "--min-answer-tokens", "0"], "--min-answer-tokens: 0"),
        (["--benchmark", "fresh", "--require", "overlap,luck"], "no evidence is called 'luck': choose overlap"),
        (["--benchmark", "fresh", "--fail-on", "monday"], "--fail-on: 'monday'"),
        (["--benchmark", "fresh", "--format", "csv"], "choose table or json"),
        (["--benchmark", "fresh", "--output", "x.json", "--format", "table"], "is a name for json"),
        (["--benchmark", "fresh", "--clean", "clean", "--score", "min_q"], "min_q"),
        ([], "benchmark"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(judged_lake: Path, arguments: list[str], said: str) -> None:
    result = judge(judged_lake, *arguments)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.output)
    assert "Traceback" not in result.output


def test_where_there_is_no_lake(tmp_path: Path) -> None:
    result = judge(tmp_path, "--benchmark", "b")
    assert result.exit_code == 2
    assert "no lake at" in unfolded(result.output)
