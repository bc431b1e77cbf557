"""What `assay contamination` compares: items with a clean set, each text once, in runs of one model and one state."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarks
import numpy as np
import pytest
from judged import ONE_SCORE, N, as_json, judge, rows
from output import unfolded

import operators.query
from jobs import dataset_inference
from operators.evaluation import run_scores
from operators.lake import Lake


def test_a_part_of_the_benchmark_may_be_the_clean_set(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "mixed", "--clean-where", "label = 0", *ONE_SCORE)
    (of_mixed,) = result["benchmarks"]
    assert (of_mixed["documents"], of_mixed["items"], of_mixed["clean_items"]) == (2 * N, N, N)
    (memorised,) = rows(result, "mixed", "memorised")
    assert memorised["n"] == N
    assert "0 of 60 of the clean set" in memorised["detail"]
    assert (memorised["verdict"], of_mixed["outcome"]) == ("contaminated", "contaminated")
    found_in_full, any_ngram = rows(result, "mixed", "overlap")
    assert (found_in_full["n"], found_in_full["estimate"]) == (N, 0)
    assert (any_ngram["n"], any_ngram["estimate"]) == (N, 1 / N)
    swapped = as_json(judged_lake, "--benchmark", "mixed", "--clean-where", "label = 1", *ONE_SCORE)
    assert any("holds n-grams of 1 items declared clean" in note for note in swapped["notes"])
    (reverse,) = rows(swapped, "mixed", "memorised")
    assert reverse["p_value"] == 1.0


def test_sets_that_words_tell_apart_are_not_compared(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "told", "--clean", "clean", *ONE_SCORE)
    for kind in ("memorised", "dataset_inference"):
        (row,) = rows(result, "told", kind)
        assert (row["verdict"], row["p_adjusted"] <= 0.05) == ("inconclusive", True)
        assert "two kinds of text" in row["doubt"]
    assert result["benchmarks"][0]["outcome"] == "incomplete"


def test_too_few_clean_items_for_dataset_inference(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "mixed", "--clean-where", "key in ('clean-1', 'clean-2')")
    (inference,) = rows(result, "mixed", "dataset_inference")
    assert inference["verdict"] == "missing"
    assert "4 or more rows" in inference["detail"]
    assert any("no blind baseline" in note for note in result["notes"])


def test_a_text_is_tested_once(tmp_path: Path) -> None:
    """With every item there four times, p-values are those of the items alone."""
    lake, rng = Lake(str(tmp_path)), np.random.default_rng(4)
    once, clean = benchmarks.items(rng, 20, written=0.3), benchmarks.items(rng, 20, prefix="clean")
    often = [replace(item, key=f"{item.key}-{i}") for i in range(4) for item in once]
    for name, made in (("once", once), ("often", often), ("clean", clean)):
        benchmarks.write_run(lake, name, made)
        benchmarks.write_copies(lake, name, made, np.random.default_rng(5), gap=0.4)
    result = as_json(tmp_path, "--benchmark", "once", "--benchmark", "often", "--clean", "clean", *ONE_SCORE)
    for kind in ("memorised", "loss_gap", "dataset_inference"):
        (of_once,), (of_often,) = rows(result, "once", kind), rows(result, "often", kind)
        assert of_once["n"] == of_often["n"] == 20
    (of_once,), (of_often,) = rows(result, "once", "memorised"), rows(result, "often", "memorised")
    assert of_once["p_value"] == of_often["p_value"] < 0.05
    assert [each["items"] for each in result["benchmarks"]] == [20, 80]
    assert [note for note in result["notes"] if "repeat a text" in note] == [
        "note: 60 items of often repeat a text: the tests take a text once, and none that is an item and declared clean"
    ]


def test_a_text_that_is_an_item_and_declared_clean_is_neither(tmp_path: Path) -> None:
    lake, made = Lake(str(tmp_path)), benchmarks.items(np.random.default_rng(4), 20, written=1, label=1)
    clean = [replace(item, key=f"{item.key}-clean", label=0) for item in made[:5]]
    clean += benchmarks.items(np.random.default_rng(6), 20, prefix="other", label=0)
    benchmarks.write_run(lake, "b", [*made, *clean])
    benchmarks.write_run(lake, "renamed", clean)
    result = as_json(tmp_path, "--benchmark", "b", "--clean-where", "label = 0", *ONE_SCORE)
    assert rows(result, "b", "memorised")[0]["detail"].startswith("15 of 15 items, 0 of 20 of the clean set")
    assert sum("5 items of b repeat" in note or "5 clean documents of b" in note for note in result["notes"]) == 2
    benchmarks.write_run(lake, "items", made)
    refused = judge(tmp_path, "--benchmark", "items", "--clean", "renamed")
    assert refused.exit_code == 2
    assert "5 of its documents have the text of items of items" in unfolded(refused.output)


# Runs


def test_a_clean_run_without_the_same_change_leaves_the_gap_alone(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "fresh", "--clean", "copied", *ONE_SCORE)
    (gap,) = rows(result, "fresh", "loss_gap")
    assert (gap["verdict"], gap["p_value"]) == ("not judged", None)
    assert "--base-run copied" in gap["command"]
    assert "--copies 2" in gap["command"]


def test_runs_of_another_model_are_left_out(fresh_alone: dict[str, Any]) -> None:
    assert [row["test"] for row in rows(fresh_alone, "fresh", "loss_gap")] == ["perturb:kind=swap_words"]
    assert any("fresh-other: scored by another model than fresh" in note for note in fresh_alone["notes"])
    assert any("run fresh-half is not finished, so left out" in note for note in fresh_alone["notes"])


def test_runs_of_an_older_state_of_a_benchmark_decide_nothing(tmp_path: Path) -> None:
    lake, rng = Lake(str(tmp_path)), np.random.default_rng(4)
    for name in ("b", "clean"):
        made = benchmarks.items(rng, 20, prefix=name)
        benchmarks.write_run(lake, name, made)
        benchmarks.write_copies(lake, name, made, rng, gap=1.2 if name == "b" else 0.3)
    benchmarks.write_orders(lake, "b", np.concatenate([np.full((10, 1), -400), rng.normal(-500, 3, (10, 150))], axis=1))

    def verdicts() -> dict[str, tuple[str, str]]:
        result = as_json(tmp_path, "--benchmark", "b", "--clean", "clean", *ONE_SCORE)
        every = result["benchmarks"][0]["evidence"]
        return {row["evidence"]: (row["verdict"], row["doubt"] or "") for row in every}

    assert {verdicts()[kind] for kind in ("exchangeability", "loss_gap")} == {("contaminated", "")}
    lake.write_run("b", {**lake.read_run("b"), "config_digest": "another"})
    for kind in ("exchangeability", "loss_gap"):
        word, doubt = verdicts()[kind]
        assert (word, "run b was made anew since b-" in doubt) == ("inconclusive", True)
    lake.write_run("b", {**lake.read_run("b"), "config_digest": "b"})
    lake.write_run("clean", {**lake.read_run("clean"), "config_digest": "another"})
    assert verdicts()["exchangeability"][0] == "contaminated"
    assert "run clean was made anew since clean-swap-1, clean-swap-2" in verdicts()["loss_gap"][1]


def test_rejects_are_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    benchmarks.write_run(lake, "b", benchmarks.items(np.random.default_rng(4), 20))
    ledger = lake.read_run("b")
    lake.write_run("b", {**ledger, "totals": ledger["totals"] | {"rejects": 2}})
    assert any("2 records of b were rejected" in note for note in as_json(tmp_path, "--benchmark", "b")["notes"])


def test_many_benchmarks_share_a_connection_and_what_is_known_of_the_clean_run(
    judged_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, call)

    counted(run_scores, "connect_through")
    counted(operators.query, "connect_through")
    counted(dataset_inference, "false_positive_rate")
    counted(dataset_inference, "document_features")
    arguments = ["--benchmark", "seen", "--benchmark", "fresh", "--benchmark", "told", "--clean", "clean"]
    assert judge(judged_lake, *arguments, "--score", "loss", "--draws", "1", "--splits", "1").exit_code == 0
    assert counts == {"connect_through": 1, "false_positive_rate": 1, "document_features": 4}
