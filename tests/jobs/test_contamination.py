"""`assay contamination`: finds what is there, says what is not, keeps clean benchmarks clean, and closes a gate."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarks
import numpy as np
import pytest
import s3
import typer
from output import unfolded
from scipy import stats
from typer.testing import CliRunner, Result

import operators.query
from jobs import dataset_inference
from jobs.cli import app
from jobs.contamination import commands
from jobs.dataset_inference import InferenceOptions, infer
from operators.catalog import connect
from operators.contamination.memorised import read_answers
from operators.evaluation import run_scores
from operators.evaluation.multiplicity import holm_adjusted
from operators.lake import Lake

N = 60
ROW = {
    "evidence", "test", "n", "estimate", "unit", "low", "high", "method", "p_value", "p_adjusted", "resolution",
    "verdict", "doubt", "detail", "examples", "matches", "shows", "cannot_show", "command",
}  # fmt: skip
ONE_SCORE = ("--score", "loss", "--draws", "0")
TWO_STATEMENTS = "true), false))::double as label, n_bytes from documents; select coalesce(((1"
HOSTILE = "\x1b[31mred\n[bold]' or 1=1 --"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`seen` was trained on, `fresh` and `clean` were not; `mixed` holds items of either kind, by label."""
    path = tmp_path_factory.mktemp("lake")
    made, rng = Lake(str(path)), np.random.default_rng(0)
    seen = benchmarks.items(rng, N, written=0.5, shift=0.5, prefix="seen")
    seen[3] = replace(seen[3], key=HOSTILE)
    fresh = benchmarks.items(rng, N, prefix="fresh")
    clean = benchmarks.items(rng, N, prefix="clean")
    mixed = [
        replace(item, label=i % 2, row=i)
        for i, item in enumerate([x for pair in zip(clean, seen, strict=True) for x in pair])
    ]
    for name, of_run, gap in (("seen", seen, 0.8), ("fresh", fresh, 0.4), ("clean", clean, 0.4), ("mixed", mixed, 0.4)):
        benchmarks.write_run(made, name, of_run)
        benchmarks.write_copies(made, name, of_run, rng, gap=gap)
    shards = rng.normal(-500, 3, (10, 150))
    shards[:, 0] += 5
    benchmarks.write_orders(made, "seen", shards, items_a_shard=N // 10)
    benchmarks.write_orders(made, "fresh", rng.normal(-500, 3, (10, 150)), items_a_shard=N // 10)
    half = [(11, 11) if i == 3 else (10, 10 if i % 2 else 0) for i in range(N)]
    benchmarks.write_overlap(
        made, "web", seen, half, answers=[(2, i % 2) for i in range(N)],
        held=[("seen-53", "in part"), ("seen-53", "as it stands"), (HOSTILE, f"{HOSTILE} {'so long ' * 50}")],
    )  # fmt: skip
    benchmarks.write_overlap(made, "fresh-web", fresh, [(10, 0)] * N)
    benchmarks.write_overlap(made, "mixed-web", mixed, [(10, 0)] * (2 * N - 1) + [(10, 4)])
    benchmarks.write_overlap(
        made, "elsewhere", fresh, [(10, 9)] * N, source="other.jsonl", state="interrupted", corpus={"limit": 7}
    )
    # Not of any use, each for a reason of its own:
    benchmarks.write_run(made, "fresh-other", fresh, model="model-b", base_run="fresh", transform="shuffle")
    benchmarks.write_run(made, "fresh-half", fresh, state="interrupted", base_run="fresh", transform="shuffle")
    benchmarks.write_run(made, "lonely-half", fresh, state="interrupted", base_run="lonely", transform="shuffle")
    benchmarks.write_run(
        made, "lonely", benchmarks.items(rng, 30, prefix="lonely"), state="interrupted", input=["a b.jsonl"]
    )
    benchmarks.write_run(made, "foreign", fresh, model="model-b")
    benchmarks.write_run(made, "copied", [*clean[:5], *benchmarks.items(rng, 20, prefix="copied")])
    told = [
        replace(item, text=item.text[:-8] + ("aaaa zzz" if i % 5 else item.text[-8:])) for i, item in enumerate(seen)
    ]
    benchmarks.write_run(made, "told", [replace(item, key=f"told-{i}") for i, item in enumerate(told)])
    return path


def judge(lake: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["contamination", str(lake), *arguments])


def as_json(lake: Path, *arguments: str) -> dict[str, Any]:
    result = judge(lake, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(result.stdout, parse_constant=refuse))


def rows(found: dict[str, Any], benchmark: str, kind: str) -> list[dict[str, Any]]:
    (of_benchmark,) = (each for each in found["benchmarks"] if each["benchmark"] == benchmark)
    return [row for row in of_benchmark["evidence"] if row["evidence"] == kind]


@pytest.fixture(scope="module")
def alone(lake: Path) -> dict[str, Any]:
    return as_json(lake, "--benchmark", "fresh")


@pytest.fixture(scope="module")
def found(lake: Path) -> dict[str, Any]:
    return as_json(lake, "--benchmark", "seen", "--benchmark", "fresh", "--clean", "clean", *ONE_SCORE)


def test_what_was_trained_on_is_told_from_what_was_not(found: dict[str, Any]) -> None:
    assert {each["benchmark"]: each["outcome"] for each in found["benchmarks"]} == {
        "seen": "contaminated",
        "fresh": "no evidence found",
    }
    verdicts = {
        row["evidence"]: row["verdict"] for row in found["benchmarks"][0]["evidence"] if "share" not in row["test"]
    }
    assert set(verdicts.values()) - {"not judged"} == {"contaminated"}
    assert {row["verdict"] for row in found["benchmarks"][1]["evidence"]} == {"no evidence", "not judged"}


def test_the_numbers_are_those_of_their_tests(lake: Path, found: dict[str, Any]) -> None:
    (memorised,) = rows(found, "seen", "memorised")
    table = [[N // 2, N // 2], [0, N]]
    assert memorised["p_value"] == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert memorised["estimate"] == 0.5
    assert memorised["examples"]
    assert [row["estimate"] for row in rows(found, "seen", "overlap")] == [0.5, 0.5, 0.5]
    (order,) = rows(found, "seen", "exchangeability")
    assert order["p_value"] == order["resolution"] == 1 / 150
    (inference,) = rows(found, "seen", "dataset_inference")
    options = InferenceOptions(str(lake), "seen", held_out_run="clean", scores=("loss",), draws=0, splits=5)
    assert inference["p_value"] == pytest.approx(infer(options).result.p_value)
    assert "5 splits" in inference["method"]
    (gap,) = rows(found, "seen", "loss_gap")
    with connect(lake) as connection:
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


def test_all_tests_of_all_benchmarks_are_corrected_together(found: dict[str, Any]) -> None:
    every = [row for each in found["benchmarks"] for row in each["evidence"]]
    p_values = [math.nan if row["p_value"] is None else row["p_value"] for row in every]
    adjusted = [math.nan if row["p_adjusted"] is None else row["p_adjusted"] for row in every]
    assert adjusted == pytest.approx(holm_adjusted(p_values).tolist(), nan_ok=True)
    assert found["tests"] == 8 == sum(not math.isnan(p) for p in p_values)


def test_the_json_is_what_its_description_says(found: dict[str, Any]) -> None:
    assert (found["schema"], found["version"], found["level"], found["adjustment"]) == (
        "assay.contamination",
        1,
        0.95,
        "holm",
    )
    assert set(found) == {
        "schema", "version", "lake", "settings", "level", "adjustment", "tests", "failed", "benchmarks", "notes",
    }  # fmt: skip
    assert set(found["settings"]) == {
        "alpha", "max_overlap", "overlap_rule", "min_answer_tokens", "require", "overlaps", "clean", "clean_where",
        "fail_on", "splits", "seed", "draws",
    }  # fmt: skip
    for each in found["benchmarks"]:
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


# What is missing


def test_what_is_missing_comes_with_a_command_that_there_is(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "lonely")
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


def test_a_clean_run_without_the_same_change_leaves_the_gap_alone(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "fresh", "--clean", "copied", *ONE_SCORE)
    (gap,) = rows(result, "fresh", "loss_gap")
    assert (gap["verdict"], gap["p_value"]) == ("not judged", None)
    assert "--base-run copied" in gap["command"]
    assert "--copies 2" in gap["command"]


def test_runs_of_another_model_are_left_out(alone: dict[str, Any]) -> None:
    assert [row["test"] for row in rows(alone, "fresh", "loss_gap")] == ["perturb:kind=swap_words"]
    assert any("fresh-other: scored by another model than fresh" in note for note in alone["notes"])
    assert any("run fresh-half is not finished, so left out" in note for note in alone["notes"])


def test_too_few_clean_items_for_dataset_inference(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "mixed", "--clean-where", "key in ('clean-1', 'clean-2')")
    (inference,) = rows(result, "mixed", "dataset_inference")
    assert inference["verdict"] == "missing"
    assert "4 or more rows" in inference["detail"]
    assert any("no blind baseline" in note for note in result["notes"])


# Sets


def test_a_part_of_the_benchmark_may_be_the_clean_set(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "mixed", "--clean-where", "label = 0", *ONE_SCORE)
    (of_mixed,) = result["benchmarks"]
    assert (of_mixed["documents"], of_mixed["items"], of_mixed["clean_items"]) == (2 * N, N, N)
    (memorised,) = rows(result, "mixed", "memorised")
    assert memorised["n"] == N
    assert "0 of 60 of the clean set" in memorised["detail"]
    assert (memorised["verdict"], of_mixed["outcome"]) == ("contaminated", "contaminated")
    found_in_full, any_ngram = rows(result, "mixed", "overlap")
    assert (found_in_full["n"], found_in_full["estimate"]) == (N, 0)
    assert (any_ngram["n"], any_ngram["estimate"]) == (N, 1 / N)
    swapped = as_json(lake, "--benchmark", "mixed", "--clean-where", "label = 1", *ONE_SCORE)
    assert any("holds n-grams of 1 items declared clean" in note for note in swapped["notes"])
    (reverse,) = rows(swapped, "mixed", "memorised")
    assert reverse["p_value"] == 1.0


def test_sets_that_words_tell_apart_are_not_compared(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "told", "--clean", "clean", *ONE_SCORE)
    for kind in ("memorised", "dataset_inference"):
        (row,) = rows(result, "told", kind)
        assert (row["verdict"], row["p_adjusted"] <= 0.05) == ("inconclusive", True)
        assert "two kinds of text" in row["doubt"]
    assert result["benchmarks"][0]["outcome"] == "incomplete"


# Overlap


def test_an_overlap_is_found_by_its_files_and_not_by_ids_alone(lake: Path, alone: dict[str, Any]) -> None:
    assert {row["test"].split(":")[0] for row in rows(alone, "fresh", "overlap")} == {"fresh-web"}
    named = as_json(lake, "--benchmark", "fresh", "--overlap", "elsewhere")
    assert rows(named, "fresh", "overlap")[0]["verdict"] == "contaminated"
    assert any("are they the same items?" in note for note in named["notes"])
    assert any("overlap elsewhere is not finished" in note for note in named["notes"])
    strict = as_json(lake, "--benchmark", "fresh", "--overlap", "elsewhere", "--overlap-rule", "share:1")
    assert rows(strict, "fresh", "overlap")[0]["verdict"] == "inconclusive", "nothing so far"
    assert any("the first 7 records of its corpus" in note for note in named["notes"])
    assert not [note for note in alone["notes"] if "overlap" in note]
    assert rows(alone, "fresh", "overlap")[0]["detail"] == "0 of 60 items, n-grams of 13, words-1"
    none = as_json(lake, "--benchmark", "fresh", "--overlap", "web")
    assert [row["verdict"] for row in rows(none, "fresh", "overlap")] == ["missing"]


def test_the_threshold_and_the_rule_of_overlap(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "seen", "--overlap-rule", "share:0.5", "--max-overlap", "0.5")
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


def test_what_the_corpus_holds_of_an_item_is_shown(lake: Path) -> None:
    """The longest match of an item, cut, with nothing in it that a terminal obeys."""
    by_key: dict[str, str] = {}
    for row in rows(as_json(lake, "--benchmark", "seen"), "seen", "overlap"):
        by_key |= dict(zip(row["examples"], row["matches"], strict=True))
    held = by_key.pop(HOSTILE)
    assert held == f"{HOSTILE} {'so long ' * 50}"[:300]
    assert sorted(by_key.values()) == ["", "as it stands"], "of one no place is kept"
    printed = judge(lake, "--benchmark", "seen").stdout
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


def test_short_answers_are_not_counted(lake: Path) -> None:
    result = as_json(lake, "--benchmark", "seen", "--min-answer-tokens", "13")
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
def test_the_exit_code(lake: Path, arguments: list[str], code: int) -> None:
    result = judge(lake, *arguments)
    assert result.exit_code == code, result.output


def test_the_table_fits_and_holds_no_control_codes(lake: Path, tmp_path: Path) -> None:
    arguments = ["--benchmark", "seen", "--benchmark", "fresh", "--benchmark", "lonely"]
    result = judge(lake, *arguments)
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
    assert judge(lake, *arguments, "--output", str(written), "--format", "table").exit_code == 0
    assert written.read_text() == result.stdout


def test_a_hostile_key_is_shown_escaped(lake: Path) -> None:
    condition = "key <> '" + HOSTILE.replace("'", "''") + "'"
    result = judge(lake, "--benchmark", "seen", "--clean-where", condition, *ONE_SCORE)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred" in result.stdout
    assert "[bold]" in result.stdout, "no markup"


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
def test_what_makes_no_sense_is_refused(lake: Path, arguments: list[str], said: str) -> None:
    result = judge(lake, *arguments)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.output)
    assert "Traceback" not in result.output


def test_rejects_are_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    benchmarks.write_run(lake, "b", benchmarks.items(np.random.default_rng(4), 20))
    ledger = lake.read_run("b")
    lake.write_run("b", {**ledger, "totals": ledger["totals"] | {"rejects": 2}})
    assert any("2 records of b were rejected" in note for note in as_json(tmp_path, "--benchmark", "b")["notes"])


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


def test_many_benchmarks_share_a_connection_and_what_is_known_of_the_clean_run(
    lake: Path, monkeypatch: pytest.MonkeyPatch
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
    assert judge(lake, *arguments, "--score", "loss", "--draws", "1", "--splits", "1").exit_code == 0
    assert counts == {"connect_through": 1, "false_positive_rate": 1, "document_features": 4}


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


def test_where_there_is_no_lake(tmp_path: Path) -> None:
    result = judge(tmp_path, "--benchmark", "b")
    assert result.exit_code == 2
    assert "no lake at" in unfolded(result.output)
