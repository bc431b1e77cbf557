"""`assay evaluate` as a user types it: tables, CSV and JSON, figures, selection, and what is said of bad requests."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import output
import pyarrow as pa
import pytest
import s3
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.blind import COLUMNS, blind_baseline
from operators.evaluation import auroc, benjamini_hochberg, conformal_p_values, evaluate
from operators.evaluation.documents import read_documents, read_texts
from operators.evaluation.run_scores import reading, run_scores
from operators.lake import Lake
from operators.scores.kept import keep_detector
from schemas import SCORES

HOSTILE = "k[red]\x1b[31m$x_{"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`run`: 60 + 60 in 30 books of both labels; `asked`: 40 held out, 80 without a label; `plain`: no labels."""
    folder = str(tmp_path_factory.mktemp("evaluate"))
    rng = np.random.default_rng(1)
    made = [
        dataclasses.replace(
            each, key=f"{HOSTILE}{i}", domain=f"d{i % 2}", attributes={"book": str(i // 4), "shelf": str(i // 40)}
        )
        for i, each in enumerate(labelled.documents(rng, 60, shift=0.4))
    ]
    labelled.write_run(Lake(folder), "run", made)
    held_out = [each.label is not None and each.label == 0 and i < 80 for i, each in enumerate(made)]
    labelled.write_run(Lake(folder), "asked", labelled.relabelled(made, [0 if h else None for h in held_out]))
    labelled.write_run(Lake(folder), "plain", labelled.relabelled(made, [None] * 120))
    longer = [
        dataclasses.replace(each, text=each.text + " and on and on" * (i % 2), key=f"long-{i}")
        for i, each in enumerate(labelled.documents(rng, 60))
    ]
    labelled.write_run(Lake(folder), "shifted", longer)
    short = [dataclasses.replace(each, logprobs=each.logprobs[:0]) for each in made[:12]]
    labelled.write_run(Lake(folder), "short", short)
    return folder


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def as_json(*arguments: object) -> dict[str, Any]:
    done = assay(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def scores_of(lake: str, run_id: str, *names: str) -> dict[str, Any]:
    documents = read_documents(lake, run_id)
    with reading(lake) as connection:
        return run_scores(Lake(lake), connection, run_id, documents.doc_ids, names=names).columns()


def test_table_is_readable_at_100_columns(lake: str) -> None:
    done = assay(lake, "--run-id", "run")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "run run: 60 documents of label 1 against 60 of label 0" in done.stdout
    for text in ("min_k_plus_plus", "blind: lengths", "length-matched", "minus loss", "TPR at 1 % FPR", "not computed"):
        assert text in done.stdout
    assert "warning" not in done.stdout
    text = output.unfolded(done.stdout)
    assert "FPR moves in steps of 1/60" in text
    assert (
        "at 0.001 and 0.01 and 0.05 begins at 0 whatever the scores are; it takes 3,688 and 368 and 72 of them" in text
    )
    assert "p (paired): two-sided, of the difference from the baseline (DeLong), adjusted too." in text
    files = {path.name for path in Path(lake).iterdir()}
    assert files == {"runs", "documents", "tokens"}  # nothing was written into the lake


def test_many_levels_and_long_names_keep_every_number(lake: str) -> None:
    """Points that have no room beside each other go to a second table; nothing is cut off at 100 columns."""
    baseline = "min_k(ratio=0.5, parity=true)"
    names = ("--score", "loss", "--score", baseline, "--score", "min_k_window(ratio=0.3, width=7)")
    done = assay(lake, "--run-id", "run", *names, "--baseline", baseline, "--fpr", "0.001,0.005,0.01,0.02,0.05,0.1")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\u2026" not in done.stdout
    for text in ("minus baseline", "TPR at 0.1 % FPR", "TPR at 2 % FPR", "TPR at 10 % FPR", "FPR at 95 % TPR"):
        assert done.stdout.count(text) == 1
    points = done.stdout.split("length-matched")[1].split("TPR at 0.1 % FPR")[1]
    assert [line.count("(.") for line in points.splitlines() if line.startswith("loss ")] == [4, 3]


def test_json_holds_every_number(lake: str) -> None:
    found = as_json(lake, "--run-id", "run", "--score", "loss", "--score", "min_k(ratio=0.5)", "--draws", 100)
    documents = read_documents(lake, "run")
    columns = scores_of(lake, "run", "loss", "min_k(ratio=0.5)")
    expected = evaluate(columns, documents.labels, draws=100)
    assert (found["n_positive"], found["n_negative"], found["draws"]) == (60, 60, 100)
    for row, each in zip(found["scores"], expected, strict=True):
        assert row["name"] == each.name
        assert (row["auroc"], row["auroc_low"]) == (each.auroc, each.auroc_interval.low)
        assert (row["auroc_bootstrap_high"], row["p_holm"]) == (each.auroc_bootstrap.high, each.p_holm)
        assert row["tpr_at_fpr_0.05"] == each.tpr_at_fpr[2].tpr
        assert row["tpr_at_fpr_0.001_resolvable"] is False
        assert row["tpr_at_fpr_0.05_low"] == 0  # 60 of label 0, where 72 are needed
        assert row["fpr_at_tpr_0.95_high"] == each.fpr_at_tpr_interval.high
        assert 0 < row["matched_pairs"] <= 60
    assert "baseline" not in found["scores"][0]
    assert found["scores"][1]["baseline"] == "loss"
    assert expected[1].against is not None
    assert found["scores"][1]["difference_p_holm"] == expected[1].against.p_holm
    with reading(lake) as connection:
        _, texts = read_texts(connection, "run", documents, COLUMNS, most=100)
    blind = {each.features: each.auroc for each in blind_baseline(texts)}
    assert {row["name"]: row["auroc"] for row in found["blind"]} == blind


def test_csv_has_a_row_for_each_score_and_baseline(lake: str, tmp_path: Path) -> None:
    file = tmp_path / "found.csv"
    done = assay(lake, "--run-id", "run", "-F", "membership", "--fpr", "0.2", "--format", "csv", "--output", file)
    assert (done.exit_code, done.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    by_name = {row["name"]: row for row in rows}
    assert [row["name"] for row in rows if row["kind"] == "blind"] == ["words", "lengths", "zlib"]
    assert "log_rank" not in by_name
    documents = read_documents(lake, "run")
    loss = scores_of(lake, "run", "loss")["loss"]
    assert float(by_name["loss"]["auroc"]) == auroc(loss, documents.labels)
    assert by_name["words"]["tpr_at_fpr_0.2"] == ""
    assert "tpr_at_fpr_0.01" not in rows[0]


def test_the_name_of_the_file_chooses_the_format(lake: str, tmp_path: Path) -> None:
    asked = (lake, "--run-id", "run", "--score", "loss", "--draws", 0, "--output")
    for name in ("found.csv", "found.JSON"):
        done = assay(*asked, tmp_path / name)
        assert (done.exit_code, done.stdout) == (0, ""), done.output
    (row, *_) = csv.DictReader(io.StringIO((tmp_path / "found.csv").read_text()))
    (score,) = json.loads((tmp_path / "found.JSON").read_text())["scores"]
    assert float(row["auroc"]) == score["auroc"]
    done = assay(lake, "--run-id", "asked", "--score", "loss", "--output", tmp_path / "selected.json")
    assert done.exit_code == 0, done.output
    assert "unlabelled documents against those of label 0" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "selected.json").read_text().splitlines()]
    assert rows
    assert all(each["p_bh"] <= 0.1 for each in rows)


def test_table_goes_to_a_file(lake: str, tmp_path: Path) -> None:
    done = assay(lake, "--run-id", "run", "--score", "loss", "--output", tmp_path / "table.txt")
    assert (done.exit_code, done.stdout) == (0, "")
    written = (tmp_path / "table.txt").read_text()
    assert "loss" in written
    assert "\x1b" not in written


def test_same_seed_same_numbers(lake: str) -> None:
    arguments = (lake, "--run-id", "run", "--score", "loss", "--draws", 50)
    found = as_json(*arguments)
    assert as_json(*arguments) == found
    assert as_json(*arguments, "--seed", 3)["scores"] != found["scores"]


def test_clusters_widen_intervals_and_are_counted(lake: str) -> None:
    found = as_json(lake, "--run-id", "run", "--score", "loss", "--cluster", "book")
    assert found["n_clusters"] == {"1": 30, "0": 30}
    assert any("intervals and p-values are over clusters by book: 30" in note for note in found["notes"])
    documents = read_documents(lake, "run", cluster="book")
    loss = scores_of(lake, "run", "loss")["loss"]
    (expected,) = evaluate({"loss": loss}, documents.labels, clusters=documents.clusters, draws=10)
    assert found["scores"][0]["auroc_low"] == expected.auroc_interval.low
    few = as_json(lake, "--run-id", "run", "--score", "loss", "--cluster", "shelf")
    notes = " ".join(few["notes"])
    assert "so few make them rough" in notes
    assert "no blind baseline" in notes
    assert few["blind"] == []


def test_labels_that_lengths_give_away_are_warned_of(lake: str) -> None:
    done = assay(lake, "--run-id", "shifted", "--score", "loss")
    assert done.exit_code == 0, done.output
    text = output.unfolded(done.stdout)
    assert "warning: blind lengths separate the classes with AUROC" in text
    assert "says little about membership" in text


def test_labels_by_source_are_warned_of_and_labels_at_random_are_not(tmp_path: Path) -> None:
    """Words of two sources tell labels by source apart, and say nothing of labels that were drawn."""
    rng = np.random.default_rng(4)
    words = {"news": ["minister", "market", "vote", "storm"], "wiki": ["species", "river", "born", "village"]}
    made = []
    for i, each in enumerate(labelled.documents(rng, 60)):
        domain = ("news", "wiki")[i % 2]
        text = " ".join(rng.choice(words[domain], each.logprobs.size))
        made.append(dataclasses.replace(each, text=text, domain=domain, label=int(rng.integers(2))))
    lake = str(tmp_path)
    labelled.write_run(Lake(lake), "run", made)
    asked = (lake, "--run-id", "run", "--score", "loss", "--draws", 0)
    by_source = assay(*asked, "--label", "domain = 'wiki'")
    assert by_source.exit_code == 0, by_source.output
    assert "warning: blind words separate the classes with AUROC" in output.unfolded(by_source.stdout)
    drawn = assay(*asked)
    assert drawn.exit_code == 0, drawn.output
    assert "blind: words" in drawn.stdout
    assert "warning" not in drawn.output
    # A program that takes CSV hears of it too; and so does who selects among documents of another source.
    as_csv = assay(*asked, "--label", "domain = 'wiki'", "--format", "csv")
    assert "warning: blind words" in as_csv.stderr
    assert "warning" not in as_csv.stdout
    selection = (lake, "--run-id", "run", "--score", "loss", "--held-out", "--label")
    shifted = assay(*selection, "case when domain = 'wiki' then 0 end")
    assert shifted.exit_code == 0, shifted.output
    text = output.unfolded(shifted.stdout)
    assert "warning: blind words tell documents in question from held-out ones with AUROC" in text
    assert "p-values do not hold" in text
    as_lines = assay(*selection, "case when domain = 'wiki' then 0 end", "--format", "json")
    assert "warning: blind words" in as_lines.stderr
    alike = assay(*selection, "case when label = 0 then 0 end")
    assert alike.exit_code == 0, alike.output
    assert "blind words: AUROC" in alike.stdout
    assert "warning" not in alike.output


def test_an_expression_labels(lake: str) -> None:
    found = as_json(lake, "--run-id", "plain", "--score", "loss", "--label", "domain = 'd1'")
    assert (found["n_positive"], found["n_negative"], found["n_unlabelled"]) == (60, 60, 0)
    part = as_json(lake, "--run-id", "run", "--score", "loss", "--label", "case when n_bytes > 40 then label end")
    assert part["n_positive"] + part["n_negative"] + part["n_unlabelled"] == 120
    assert part["n_unlabelled"] > 0
    assert any("without a label were left out" in note for note in part["notes"])


def test_undefined_scores_are_counted(lake: str) -> None:
    found = as_json(lake, "--run-id", "run", "--score", "min_k(ratio=0.03, parity=true)")
    row = found["scores"][0]
    assert row["undefined_positive"] + row["undefined_negative"] > 0
    assert row["undefined_positive"] + row["n_positive"] == 60
    assert any("not defined for" in note and "min_k" in note for note in found["notes"])


def test_an_unfinished_run_is_warned_of(lake: str, tmp_path: Path) -> None:
    copy = tmp_path / "lake"
    shutil.copytree(lake, copy)
    ledger = copy / "runs" / "run.json"
    ledger.write_text(json.dumps(json.loads(ledger.read_text()) | {"state": "running"}))
    found = as_json(copy, "--run-id", "run", "--score", "loss")
    assert any(note.startswith("warning: the run is running") for note in found["notes"])


def test_scores_undefined_for_the_same_documents_share_a_note(lake: str) -> None:
    label = "case when n_scored = 0 then label end"
    notes = " ".join(as_json(lake, "--run-id", "short", "--label", label, "--draws", 0)["notes"])
    assert notes.count("not defined for") == 1
    assert "not defined for 6 documents of label 1 and 6 of label 0, which their rows leave out: entropy, " in notes
    assert "loss" in notes


def test_learned_scores_of_an_older_state_are_warned_of(lake: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "lake")
    shutil.copytree(lake, copy)
    documents = read_documents(copy, "run")
    rows = [
        {"run_id": "run", "doc_id": int(i), "family": "learned", "score": "pawn", "variant": "pawn(x)",
         "parameters": "{}", "value": label}
        for i, label in zip(documents.doc_ids, documents.labels, strict=True)
    ]  # fmt: skip
    keep_detector(Lake(copy), "run", pa.Table.from_pylist(rows, schema=SCORES.arrow(with_partitions=True)))
    found = as_json(copy, "--run-id", "run", "-F", "learned", "--draws", 0)
    assert [(each["name"], each["auroc"]) for each in found["scores"]] == [("pawn(x)", 1.0)]
    Lake(copy).write_run("run", Lake(copy).read_run("run") | {"finished_at": "2026-11-22T00:00:00+00:00"})
    notes = as_json(copy, "--run-id", "run", "-F", "learned", "--score", "loss", "--draws", 0)["notes"]
    assert any(note.startswith("warning: pawn(x): its scores are of the run as it was before") for note in notes)


# Selection


def test_selection_lists_documents(lake: str, tmp_path: Path) -> None:
    file = tmp_path / "selected.csv"
    done = assay(lake, "--run-id", "asked", "--score", "loss", "--fdr", 0.2, "--output", file)
    assert done.exit_code == 0, done.output
    assert "unlabelled documents against those of label 0" in done.stdout
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    documents = read_documents(lake, "asked")
    loss = scores_of(lake, "asked", "loss")["loss"]
    asked = np.isnan(documents.labels)
    p = conformal_p_values(loss[documents.labels == 0], loss[asked])
    expected = documents.doc_ids[asked][benjamini_hochberg(p, 0.2)]
    assert {int(row["doc_id"]) for row in rows} == set(expected.tolist())
    assert len(expected) > 5
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert all(row["key"].startswith(HOSTILE) for row in rows)
    with reading(lake) as connection:
        truth = connection.execute("select doc_id from documents where run_id = 'run' and label = 1").fetchall()
    assert np.isin(expected, [doc_id for (doc_id,) in truth]).mean() > 0.6


def test_selection_as_json_lines(lake: str) -> None:
    arguments = (lake, "--run-id", "asked", "--score", "loss", "--score", "zlib", "--fdr", 0.3, "--format", "json")
    done = assay(*arguments)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["score"] for row in rows} == {"loss", "zlib"}
    assert all(row["p_value"] <= row["p_bh"] <= 0.3 for row in rows)
    smoothed = [json.loads(line)["p_value"] for line in assay(*arguments, "--smooth").stdout.splitlines()]
    assert len(set(smoothed)) > 1.5 * len({row["p_value"] for row in rows})


def test_held_out_selects_beside_labels(lake: str) -> None:
    label = "case when label = 0 then 0 end"
    explicit = assay(lake, "--run-id", "run", "--score", "loss", "--held-out", "--label", label)
    assert explicit.exit_code == 0, explicit.output
    assert "60" in explicit.stdout
    done = assay(lake, "--run-id", "run", "--score", "loss", "--held-out")
    assert done.exit_code == 2
    assert "--held-out compares documents without a label with those of label 0" in output.unfolded(done.stderr)


# The figure


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_figure_is_the_same_every_time(lake: str, tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        done = assay(lake, "--run-id", "run", "--score", "loss", "--score", "zlib", "--draws", 0, "--figure", file)
        assert done.exit_code == 0, done.output
    first, second = (file.read_bytes() for file in files)
    assert first == second
    if suffix == ".svg":
        text = first.decode()
        assert "loss" in text
        assert "<dc:date>" not in text
        assert HOSTILE not in text


def test_figure_of_hostile_names_and_many_scores(tmp_path: Path) -> None:
    """Names are shown as they are spelt: no formulas, no markup, no hiding; and infinite scores have a place."""
    from jobs.evaluate.figure import draw_roc

    rng = np.random.default_rng(2)
    labels = np.repeat([1.0, 0.0], 3000)
    names = ["$\\frac{", "_hidden", "</svg><script>", "ß\x00\x1b", *(f"s{i}" for i in range(30))]
    values = {name: rng.normal(labels, 1) for name in names}
    values["s0"][:5] = math.inf
    values["s1"][:5] = math.nan
    draw_roc(tmp_path / "many.svg", values, labels, evaluate(values, labels, draws=0))
    text = (tmp_path / "many.svg").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "_hidden" in text
    assert "\\frac" in text
    assert len(text) < 5_000_000


# Object storage


def test_a_lake_on_s3_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    options = tmp_path / "storage.yaml"
    with s3.lone_server(tmp_path / "buckets") as server:
        options.write_text(yaml.safe_dump({"s3": server.options}))
        made = labelled.documents(np.random.default_rng(3), 20, shift=0.5)
        labelled.write_run(Lake("s3://bucket/lake", server.options), "run", made)
        arguments = ("s3://bucket/lake", "--run-id", "run", "--score", "loss", "--storage-options", options)
        found = as_json(*arguments)
        assert (found["n_positive"], found["n_negative"]) == (20, 20)
        assert found["scores"][0]["auroc"] > 0.7
        assert len(found["blind"]) == 3


# Requests that cannot be met


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", "plain"], "run 'plain' has no labelled documents: nothing to compare its scores with. Score it"),
        (["--run-id", "run", "--label", "case when label = 1 then 1 end"], "documents of label 0 are needed"),
        (["--run-id", "run", "--label", "0"], "documents of label 1 are needed"),
        (["--run-id", "run", "--label", "labl"], "--label 'labl': "),
        (["--run-id", "run", "--label", "n_bytes"], "expected 1, 0 or NULL, found"),
        (["--run-id", "run", "--cluster", "nope"], "cluster 'nope': no document has one"),
        (["--run-id", "nope"], "no run 'nope' in"),
        (["--run-id", "run", "--score", "los"], "'los'"),
        (
            ["--run-id", "run", "--baseline", "nope", "--score", "loss"],
            "no score 'nope' to compare with; evaluated are loss",
        ),
        (
            ["--run-id", "run", "--baseline", "lss", "--score", "loss"],
            "did you mean loss?",
        ),
        (["--run-id", "run", "--baseline", "min_k", "--score", "loss"], "scores evaluated: add --score min_k"),
        (
            ["--run-id", "run", "--cluster", "source"],
            "--cluster source: all documents come from one source: name a kept",
        ),
        (
            ["--run-id", "run", "--cluster", "domain"],
            "the documents of each label come from one domain: name",
        ),
        (["--run-id", "run", "--fdr", "0.2"], "--fdr and --smooth are of a selection"),
        (["--run-id", "run", "--smooth"], "--fdr and --smooth are of a selection"),
        (
            ["--run-id", "run", "--held-out", "--draws", "9", "--fpr", "0.2"],
            "--draws, --fpr: beside --held-out nothing",
        ),
        (["--run-id", "run", "--output", "x.csv", "--format", "json"], "'x.csv' is a name for csv, --format says json"),
        (["--run-id", "run", "--output", "x.json", "--format", "table"], "'x.json' is a name for json"),
        (["--run-id", "run", "--fpr", "0.1,x"], "--fpr '0.1,x': expected numbers"),
        (["--run-id", "run", "--fpr", "nan,1"], "--fpr nan: expected a share"),
        (["--run-id", "run", "--fdr", "1"], "--fdr 1: expected a share"),
        (
            ["--run-id", "run", "-F", "learned"],
            "no detector's scores are kept for the run. What makes it: assay scores",
        ),
        (["--run-id", "run", "--output", "/no/such/x.csv"], "no folder '/no/such' to write 'x.csv' to"),
        (["--run-id", "run", "--figure", "x.pdf"], "expected a name that ends in .svg or .png"),
        (["--run-id", "asked", "--cluster", "book"], "--cluster: p-values of documents against held-out ones"),
        (["--run-id", "asked", "--held-out", "--figure", "x.svg"], "--figure draws ROC curves"),
    ],
)
def test_bad_requests_say_what_to_do(lake: str, arguments: list[str], message: str) -> None:
    done = assay(lake, *arguments)
    assert done.exit_code == 2, done.output
    assert message in output.unfolded(done.stderr)
    assert "Traceback" not in done.output


def test_no_lake_is_said(tmp_path: Path) -> None:
    done = assay(tmp_path, "--run-id", "run")
    assert done.exit_code == 2
    assert "no lake at" in done.stderr


def test_help_has_an_example() -> None:
    done = assay("--help")
    assert done.exit_code == 0
    assert "assay evaluate lake --run-id monday --figure roc.svg" in output.unfolded(done.output)
