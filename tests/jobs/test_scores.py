"""`assay scores` as a user types it: what it keeps and prints, what is missing, mistakes, and the list of scores."""

from __future__ import annotations

import json
from pathlib import Path

import lakes
import ledgers
import pyarrow as pa
import pytest
from output import unfolded
from typer.testing import CliRunner, Result

import operators.detectors
from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from operators.score_cards import DOCUMENT_FAMILIES, load_scores
from operators.scores import SCORE_TABLE
from operators.verify import verify

RUN = lakes.RUN
SCORES_PAGE = Path(__file__).parents[2] / "operators" / "sql" / "SCORES.md"


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "my lake"))
    config = {"features": ["renyi"], "model": "m"}
    lakes.write_run(lake, features=("renyi",), config=config, finished_at="2026-11-21T08:00:00+00:00")
    lakes.write_run(lake, "small", features=(), config={"features": []})
    return lake


def variants(lake: Lake) -> list[str]:
    with connect(lake.root, macros=False) as connection:
        found = connection.execute("select distinct variant from scores order by variant").fetchall()
    return [variant for (variant,) in found]


def test_scores_are_kept_and_shown(lake: Lake) -> None:
    result = assay("scores", lake.root, "--run-id", RUN, "--family", "membership", "--reference", "small")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["family", "variant", "documents", "undefined", "min", "median", "max"]
    rows = {line.split()[1]: line.split() for line in lines[1:] if line.startswith("membership")}
    assert rows["loss"][2:4] == ["5", "0"]
    assert "reference(small)" in rows
    assert list(rows) == sorted(rows) == variants(lake)
    assert f"kept: scores/run_id={RUN}/" in result.stdout
    missing = result.stdout.partition("not computed:")[2]
    assert "  lowercase: it needs a run of the same documents, transformed: lowercase\n" in missing
    expected = f"assay score --transform lowercase --base-run r --run-id r-lowercase --lake '{lake.root}'"
    assert f"    {expected}\n" in missing
    assert "loss" not in missing
    assert "reference" not in missing
    assert verify(lake) == []


def test_a_variant_as_printed_is_what_is_typed(lake: Lake) -> None:
    typed = ("--score", "min_k(ratio=0.5,parity=true)", "--score", "min_k(ratio=0.25)", "--score", "loss")
    result = assay("scores", lake.root, "--run-id", RUN, *typed)
    assert result.exit_code == 0, result.output
    assert variants(lake) == ["loss", "min_k(ratio=0.25)", "min_k(ratio=0.5, parity=true)"]
    assert "not computed" not in result.stdout
    again = assay("scores", lake.root, "--run-id", RUN, "--score", "min_k(ratio=0.5, parity=true)")
    assert "it replaces a file that also had loss, min_k(ratio=0.25)" in again.stdout
    assert variants(lake) == ["min_k(ratio=0.5, parity=true)"]


def test_everything_that_a_run_gives(lake: Lake) -> None:
    assert assay("scores", lake.root, "--run-id", RUN).exit_code == 0
    cards = load_scores()
    families = {cards[variant].family for variant in variants(lake)}
    assert families == set(DOCUMENT_FAMILIES)
    assert {"fisher_rao", "sequence_nll", "perplexity"} <= set(variants(lake))


def test_scores_that_no_document_has_are_said(lake: Lake) -> None:
    """The run has no prompts."""
    result = assay("scores", lake.root, "--run-id", RUN, "--score", "sequence_entropy", "--score", "loss")
    assert result.exit_code == 0, result.output
    said = "undefined for every document: sequence_entropy (`assay scores --list --format markdown` says when)\n"
    assert said in result.stdout
    assert "undefined for every" not in assay("scores", lake.root, "--run-id", RUN, "--score", "loss").stdout


def test_detectors_are_applied_and_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(folder: str, connection: object, run_id: str, **_: object) -> pa.Table:
        name = f"pawn({Path(folder).name})"
        row = {"run_id": run_id, "doc_id": 7, "family": "learned", "score": "pawn", "variant": name,
               "parameters": "{}", "value": 0.5}  # fmt: skip
        return pa.Table.from_pylist([row], schema=SCORE_TABLE)

    monkeypatch.setattr(operators.detectors, "apply", apply)
    result = assay("scores", lake.root, "--run-id", RUN, "--detector", "a/mine", "--detector", "other")
    assert result.exit_code == 0, result.output
    assert variants(lake) == ["pawn(mine)", "pawn(other)"]
    assert "learned" in result.stdout
    assert "not computed" not in result.stdout
    assert assay("scores", lake.root, "--run-id", RUN, "--detector", "mine", "--score", "loss").exit_code == 0
    assert variants(lake) == ["loss", "pawn(mine)", "pawn(other)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", "rr"], r"no run 'rr' in .* \(did you mean r\?\)"),
        (["--run-id", "nowhere"], "no run 'nowhere' in .*: it holds r, small, stopped"),
        (["--run-id", "stopped"], "run 'stopped' is interrupted: .* goes on where it stopped"),
        (["--run-id", RUN, "--score", "mink"], r"called 'mink' \(did you mean min_k"),
        (["--run-id", RUN, "--score", "min_k(ratios=1)"], r"no parameter 'ratios' \(did you mean ratio"),
        (["--run-id", RUN, "--score", "min_k(ratio=7)"], r"min_k: ratio = 7.0 is not in \(0, 1\]"),
        (["--run-id", RUN, "--family", "membersip"], r"no family 'membersip' \(did you mean membership"),
        (["--run-id", RUN, "--family", "memb"], r"'memb' \(did you mean membership\?\); they are membership, "),
        (["--run-id", RUN, "--score", "min_k(rat=1)"], r"'rat' \(did you mean ratio\?\); its parameters: ratio, "),
        (["--run-id", RUN, "--reference", "smal"], r"no such run \(did you mean small"),
        (["--run-id", RUN, "--score", "lowercase"], "What makes it: assay score --transform lowercase"),
        (["--run-id", RUN, "--format", "json"], "--format is for --list"),
        (["--list"], "--list shows what scores there are"),
        ([], "name the lake and a run"),
    ],
)
def test_mistakes_are_said_in_one_message(lake: Lake, arguments: list[str], message: str) -> None:
    ledgers.write(lake, "stopped", state="interrupted")
    before = lakes.content(lake)
    result = assay("scores", lake.root, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert_matches(message, unfolded(result.stderr))
    assert "Traceback" not in result.output
    assert lakes.content(lake) == before


def assert_matches(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_there_must_be_a_lake(tmp_path: Path) -> None:
    result = assay("scores", tmp_path / "none", "--run-id", RUN)
    assert result.exit_code == 2
    assert "no lake at" in result.stderr


def test_hostile_names_are_printed_harmless(lake: Lake) -> None:
    result = assay("scores", lake.root, "--run-id", RUN, "--score", "min_k\x1b[2J(\x07)", "--reference", "a\x1b]0;x")
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


# The list


def test_the_list_needs_no_lake() -> None:
    result = assay("scores", "--list")
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[:6] == ["family", "score", "formula", "higher", "needs", "source"]
    for name, card in load_scores().items():
        assert f" {name} " in result.stdout
        assert card.formula in result.stdout


def test_the_list_as_json_says_all_of_a_card() -> None:
    result = assay("scores", "--list", "--format", "json", "--family", "membership", "--family", "fit")
    found = {row["score"]: row for row in map(json.loads, result.stdout.splitlines())}
    cards = {name: card for name, card in load_scores().items() if card.family in ("membership", "fit")}
    assert set(found) == set(cards)
    assert list(dict.fromkeys(row["family"] for row in found.values())) == ["membership", "fit"]
    min_k = found["min_k"]
    assert min_k["parameters"][0] == {
        "name": "ratio", "type": "DOUBLE", "default": 0.2, "range": "(0, 1]",
        "description": cards["min_k"].parameters[1].description,
    }  # fmt: skip
    assert min_k["arxiv"] == ["2310.16789"]
    assert found["lowercase"]["companions"] == [
        {"name": "lowercased", "type": "VARCHAR", "kind": "transform", "transform": "lowercase", "such_as": "lowercase"}
    ]
    assert found["neighbourhood"]["companions"][0]["such_as"] == "perturb:kind=substitute_words"
    assert found["max_renyi_half"]["needs"] == "column group renyi"


def test_the_list_as_markdown_is_the_page_in_the_tree() -> None:
    page = SCORES_PAGE.read_text(encoding="utf-8")
    result = assay("scores", "--list", "--format", "markdown")
    head, _, below = page.partition("## ")
    assert "python -m operators.score_cards" in head
    assert f"## {below}" == result.stdout, "run `python -m operators.score_cards > operators/sql/SCORES.md`"


def test_families_that_are_none_are_said() -> None:
    result = assay("scores", "--list", "--family", "fitt")
    assert result.exit_code == 2
    assert "no family 'fitt' (did you mean fit?). The families: membership, " in unfolded(result.stderr)
