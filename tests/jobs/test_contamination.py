"""`assay contamination`: finds what is there, by every kind of evidence, and does not find what is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import benchmarks
import numpy as np
import pytest
from judged import HOSTILE, ONE_SCORE, N, as_json, judge, rows
from scipy import stats

from jobs.dataset_inference import InferenceOptions, infer
from operators.catalog import connect
from operators.contamination.memorised import read_answers
from operators.evaluation.multiplicity import holm_adjusted
from operators.lake import Lake


def test_what_was_trained_on_is_told_from_what_was_not(judgement: dict[str, Any]) -> None:
    assert {each["benchmark"]: each["outcome"] for each in judgement["benchmarks"]} == {
        "seen": "contaminated",
        "fresh": "no evidence found",
    }
    verdicts = {
        row["evidence"]: row["verdict"] for row in judgement["benchmarks"][0]["evidence"] if "share" not in row["test"]
    }
    assert set(verdicts.values()) - {"not judged"} == {"contaminated"}
    assert {row["verdict"] for row in judgement["benchmarks"][1]["evidence"]} == {"no evidence", "not judged"}


def test_the_numbers_are_those_of_their_tests(judged_lake: Path, judgement: dict[str, Any]) -> None:
    (memorised,) = rows(judgement, "seen", "memorised")
    table = [[N // 2, N // 2], [0, N]]
    assert memorised["p_value"] == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert memorised["estimate"] == 0.5
    assert memorised["examples"]
    assert [row["estimate"] for row in rows(judgement, "seen", "overlap")] == [0.5, 0.5, 0.5]
    (order,) = rows(judgement, "seen", "exchangeability")
    assert order["p_value"] == order["resolution"] == 1 / 150
    (inference,) = rows(judgement, "seen", "dataset_inference")
    options = InferenceOptions(str(judged_lake), "seen", held_out_run="clean", scores=("loss",), draws=0, splits=5)
    assert inference["p_value"] == pytest.approx(infer(options).result.p_value)
    assert "5 splits" in inference["method"]
    (gap,) = rows(judgement, "seen", "loss_gap")
    with connect(judged_lake) as connection:
        means = [
            connection.execute(
                """
                select avg((o.logprob_sum - c.total) / o.n_bytes)
                from documents o
                join (select doc_id, avg(logprob_sum) as total from documents where starts_with(run_id, $run || '-swap')
                      group by doc_id) c using (doc_id)
                where o.run_id = $run
                """,
                {"run": run},
            ).fetchall()[0][0]
            for run in ("seen", "clean")
        ]
    assert gap["estimate"] == pytest.approx(means[0] - means[1], rel=1e-6)
    assert gap["low"] < gap["estimate"] < gap["high"]


def test_all_tests_of_all_benchmarks_are_corrected_together(judgement: dict[str, Any]) -> None:
    every = [row for each in judgement["benchmarks"] for row in each["evidence"]]
    p_values = [math.nan if row["p_value"] is None else row["p_value"] for row in every]
    adjusted = [math.nan if row["p_adjusted"] is None else row["p_adjusted"] for row in every]
    assert adjusted == pytest.approx(holm_adjusted(p_values).tolist(), nan_ok=True)
    assert judgement["tests"] == 8 == sum(not math.isnan(p) for p in p_values)


def test_few_orders_among_many_tests_are_said(tmp_path: Path) -> None:
    lake, rng = Lake(str(tmp_path)), np.random.default_rng(3)
    for name in ("a", "b"):
        benchmarks.write_run(lake, name, benchmarks.items(rng, 30, prefix=name))
        shards = rng.normal(-500, 3, (10, 20))
        shards[:, 0] += 40
        benchmarks.write_orders(lake, name, shards)
        more = rng.normal(-500, 3, (10, 20))
        benchmarks.write_orders(lake, name, more, name="again")
    result = as_json(tmp_path, "--benchmark", "a", "--benchmark", "b")
    assert result["tests"] == 4
    assert any("a-orders" in note and "draw 80 or more (--permutations)" in note for note in result["notes"])


@pytest.mark.parametrize("count", [1, 2])
def test_a_benchmark_of_almost_nothing(tmp_path: Path, count: int) -> None:
    """No labels, no prompts, no domain, hardly an item."""
    lake, rng = Lake(str(tmp_path)), np.random.default_rng(8)
    made = benchmarks.items(rng, count)
    benchmarks.write_run(lake, "b", made, prompts=False)
    benchmarks.write_copies(lake, "b", made, rng, gap=0.3)
    benchmarks.write_overlap(lake, "web", made, [(10, 10)] * count)
    clean = benchmarks.items(rng, 6, prefix="clean")
    benchmarks.write_run(lake, "clean", clean, prompts=False)
    benchmarks.write_copies(lake, "clean", clean, rng, gap=0.3)
    (found,) = as_json(tmp_path, "--benchmark", "b", "--clean", "clean", *ONE_SCORE)["benchmarks"]
    by_kind = {row["evidence"]: row["verdict"] for row in reversed(found["evidence"])}
    assert (by_kind["overlap"], by_kind["memorised"], by_kind["dataset_inference"]) == (
        "contaminated",
        "missing",
        "missing",
    )
    assert by_kind["loss_gap"] == ("inconclusive" if count == 1 else "no evidence")
    (gap,) = (row for row in found["evidence"] if row["evidence"] == "loss_gap")
    assert gap["p_value"] is None or gap["p_value"] >= 1 / 28, "the fewest that a draw of 2 of 8 can have"
    assert judge(tmp_path, "--benchmark", "b", "--clean", "clean").exit_code == 0


# Overlap


def test_an_overlap_is_found_by_its_files_and_not_by_ids_alone(judged_lake: Path, fresh_alone: dict[str, Any]) -> None:
    assert {row["test"].split(":")[0] for row in rows(fresh_alone, "fresh", "overlap")} == {"fresh-web"}
    named = as_json(judged_lake, "--benchmark", "fresh", "--overlap", "elsewhere")
    assert rows(named, "fresh", "overlap")[0]["verdict"] == "contaminated"
    assert any("are they the same items?" in note for note in named["notes"])
    assert any("overlap elsewhere is not finished" in note for note in named["notes"])
    strict = as_json(judged_lake, "--benchmark", "fresh", "--overlap", "elsewhere", "--overlap-rule", "share:1")
    assert rows(strict, "fresh", "overlap")[0]["verdict"] == "inconclusive", "nothing so far"
    assert any("the first 7 records of its corpus" in note for note in named["notes"])
    assert not [note for note in fresh_alone["notes"] if "overlap" in note]
    assert rows(fresh_alone, "fresh", "overlap")[0]["detail"] == "0 of 60 items, n-grams of 13, words-1"
    none = as_json(judged_lake, "--benchmark", "fresh", "--overlap", "web")
    assert [row["verdict"] for row in rows(none, "fresh", "overlap")] == ["missing"]


def test_the_threshold_and_the_rule_of_overlap(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "seen", "--overlap-rule", "share:0.5", "--max-overlap", "0.5")
    judged, beside, _ = rows(result, "seen", "overlap")
    assert (judged["test"], judged["verdict"]) == ("web: share >= 0.5", "no evidence"), "0.5 is not more than 0.5"
    assert (beside["test"], beside["verdict"]) == ("web: any n-gram", "not judged")
    assert (result["settings"]["overlap_rule"], result["settings"]["max_overlap"]) == ("share:0.5", 0.5)


def test_what_many_texts_share_condemns_by_the_any_rule_alone(tmp_path: Path) -> None:
    """Each item with an instruction that the corpus holds, and a question that it does not."""
    lake, made = Lake(str(tmp_path)), benchmarks.items(np.random.default_rng(7), 20)
    benchmarks.write_run(lake, "b", made)
    benchmarks.write_overlap(lake, "web", made, [(30, 12)] * 20)
    (by_default,) = as_json(tmp_path, "--benchmark", "b")["benchmarks"]
    assert (by_default["outcome"], by_default["why"]) == ("no evidence found", "judged: overlap")
    assert [(row["test"], row["estimate"], row["verdict"]) for row in by_default["evidence"][:2]] == [
        ("web: share >= 0.8", 0, "no evidence"),
        ("web: any n-gram", 1, "not judged"),
    ]
    (strict,) = as_json(tmp_path, "--benchmark", "b", "--overlap-rule", "any")["benchmarks"]
    assert strict["outcome"] == "contaminated"


def test_what_the_corpus_holds_of_an_item_is_shown(judged_lake: Path) -> None:
    """The longest match of an item, cut, with nothing in it that a terminal obeys."""
    by_key: dict[str, str] = {}
    for row in rows(as_json(judged_lake, "--benchmark", "seen"), "seen", "overlap"):
        by_key |= dict(zip(row["examples"], row["matches"], strict=True))
    held = by_key.pop(HOSTILE)
    assert held == f"{HOSTILE} {'so long ' * 50}"[:300]
    assert sorted(by_key.values()) == ["", "as it stands"], "of one no place is kept"
    printed = judge(judged_lake, "--benchmark", "seen").stdout
    assert ": 'as it stands'" in printed
    assert "\x1b" not in printed


# Ends of items


@pytest.mark.parametrize("features", [("extremes",), ("topk",), ()])
def test_the_greedy_choice_is_known_from_whatever_is_kept(tmp_path: Path, features: tuple[str, ...]) -> None:
    made = benchmarks.items(np.random.default_rng(1), 20, written=0.3)
    lake = Lake(str(tmp_path))
    benchmarks.write_run(lake, "b", made, features=features)
    with connect(tmp_path) as connection:
        ends = read_answers(connection, "b", features)
    assert dict(zip(ends.keys, ends.is_written.tolist(), strict=True)) == {
        item.key: all(item.is_greedy[benchmarks.PROMPT_TOKENS :]) for item in made
    }, "an EOS that is not the greedy choice does not count"
    assert sum(ends.is_written.tolist()) == 6
    assert set(ends.n_tokens.tolist()) == {12}


def test_short_answers_are_not_counted(judged_lake: Path) -> None:
    result = as_json(judged_lake, "--benchmark", "seen", "--min-answer-tokens", "13")
    (row,) = rows(result, "seen", "memorised")
    assert (row["verdict"], row["n"], row["doubt"]) == ("inconclusive", 0, "no item has such an end")


def test_without_prompts_the_last_window_of_an_item_is_its_end(tmp_path: Path) -> None:
    lake, rng = Lake(str(tmp_path)), np.random.default_rng(2)
    for name, last in (("b", True), ("clean", False)):
        made = benchmarks.items(rng, 20, prefix=name)
        benchmarks.write_run(lake, name, made, prompts=False)
        strict = [(item, "strict", start, last and start == 16) for item in made for start in (8, 16)]
        wrong = [(item, "document", 16, not last) for item in made]
        benchmarks.write_windows(lake, name, [*strict, *wrong])
    benchmarks.write_run(lake, "bare", benchmarks.items(rng, 20, prefix="bare"), prompts=False)
    (row,) = rows(as_json(tmp_path, "--benchmark", "b", "--clean", "clean", *ONE_SCORE), "b", "memorised")
    assert row["test"] == "last 4 tokens after 4, strict context"
    assert row["detail"].startswith("20 of 20 items, 0 of 20 of the clean set")
    assert row["verdict"] == "contaminated"
    alone = as_json(tmp_path, "--benchmark", "b", "--clean", "bare", *ONE_SCORE)
    assert rows(alone, "b", "memorised")[0]["verdict"] == "not judged"
    assert any("clean run bare has no windows like these" in note for note in alone["notes"])
    lake.write_run("b", {**lake.read_run("b"), "config_digest": "another"})
    stale = as_json(tmp_path, "--benchmark", "b")
    assert rows(stale, "b", "memorised")[0]["verdict"] == "missing"
    assert any("of an earlier state of it" in note for note in stale["notes"])
    (missing,) = rows(as_json(tmp_path, "--benchmark", "bare"), "bare", "memorised")
    assert missing["command"].startswith("assay memorization ")
