"""`assay mixture weights`: a corpus of known proportions, scored by small models of its languages, from end to end."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import small
import three_languages
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.mixture.weights_fit import estimate
from jobs.mixture.weights_request import Component, WeightsOptions, check_request
from operators.lake import Lake
from operators.mixtures.em import Observations
from operators.query import query
from operators.verify import verify
from pipelines.config import ConfigError

COUNTS = {"velar": 60, "nasal": 30, "rolled": 10}
LANGUAGES = tuple(COUNTS)
N = sum(COUNTS.values())
COMPONENTS = [word for language in LANGUAGES for word in ("--component", f"{language}={language}-run")]


@pytest.fixture(scope="module", autouse=True)
def catalogs() -> Iterator[list[str]]:
    """The lakes whose catalog was asked for; to make one takes longer than all else that the verb does here."""
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda lake, options: made.append(lake))
        yield made


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three languages, of the first one without a BOS, of fewer documents, and of other texts."""
    folder = tmp_path_factory.mktemp("mixture")
    corpus = three_languages.write_mixture(folder / "corpus.jsonl", COUNTS)
    shorter = three_languages.write_mixture(folder / "shorter.jsonl", {**COUNTS, "velar": 50})
    other = three_languages.write_mixture(folder / "other.jsonl", COUNTS, seed=2)
    models = {language: three_languages.train(folder / language, language) for language in LANGUAGES}
    bare = shutil.copytree(models["velar"], folder / "bare")
    small.make_tokenizer(bos=False).save(str(bare / "tokenizer.json"))
    path = folder / "lake"
    columns = {"id_column": "id", "domain_column": "domain"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        for language, model in models.items():
            runs.run(model, corpus, path, run_id=f"{language}-run", **columns)
        runs.run(bare, corpus, path, run_id="bare-run", **columns)
        runs.run(models["velar"], shorter, path, run_id="shorter-run", **columns)
        runs.run(models["nasal"], other, path, run_id="other-run", **columns)
        runs.run(
            models["velar"], corpus, path, run_id="lower-run", base_run="velar-run", transform="lowercase", **columns
        )
    ledger = Lake(str(path)).read_run("rolled-run")
    Lake(str(path)).write_run("half-run", {**ledger, "run_id": "half-run", "state": "interrupted"})
    return path


def weights(lake: Path, *more: Any) -> Result:
    return CliRunner().invoke(app, ["mixture", "weights", str(lake), *map(str, more)])


def as_json(lake: Path, *more: Any) -> dict[str, Any]:
    result = weights(lake, *more, "--format", "json", "--resamples", 400)
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found: dict[str, Any] = json.loads(result.stdout, parse_constant=refuse)
    return found


def shares(fit: dict[str, Any]) -> dict[str, float]:
    return {row["component"]: row["share"] for row in fit["components"]}


def test_known_proportions_are_recovered_and_kept(lake: Path, tmp_path: Path) -> None:
    figure = tmp_path / "shares.svg"
    found = as_json(lake, *COMPONENTS, "--name", "known", "--grain", "document", "--grain", "token", "--figure", figure)
    assert (found["documents"], found["mixture"]) == (N, "known")
    by_method = {fit["method"]: fit for fit in found["fits"]}
    assert [*by_method] == ["em_document", "em_token"]
    for row in by_method["em_document"]["components"]:
        truth = COUNTS[row["component"]] / N
        assert row["share"] == pytest.approx(truth, abs=0.02)
        assert row["share_low"] < truth < row["share_high"]
        assert row["share_high"] - row["share_low"] < 0.25
        assert row["estimate_low"] <= row["estimate"] <= row["estimate_high"]
        assert (row["unit"], row["n"], row["confidence"], row["note"]) == ("documents", N, 0.95, None)
    tokens = query(
        str(lake), "select domain, sum(n_scored) as n from documents where run_id = 'velar-run' group by all"
    )
    total = sum(row["n"] for row in tokens.to_pylist())
    of_tokens = {row["domain"]: float(row["n"] / total) for row in tokens.to_pylist()}
    assert shares(by_method["em_token"]) == pytest.approx(of_tokens, abs=0.05)
    assert all(fit["converged"] and fit["steps"][-1]["gap"] <= 1e-9 for fit in by_method.values())
    assert "<svg" in figure.read_text(encoding="utf-8")

    kept = query(str(lake), "select method, component, share from mixtures where mixture = 'known'").to_pylist()
    said = [(fit["method"], row["component"], row["share"]) for fit in found["fits"] for row in fit["components"]]
    assert sorted((row["method"], row["component"], row["share"]) for row in kept) == sorted(said)
    curves = query(
        str(lake), "select method, max(step) as last from mixture_curves where mixture = 'known' group by all"
    )
    assert {row["method"]: row["last"] for row in curves.to_pylist()} == {
        method: len(fit["steps"]) - 1 for method, fit in by_method.items()
    }
    of_documents = """
        select p.method, count(*) as n, avg((p.component = d.domain)::int) as right,
          (select max(abs(total - 1)) from (
            select sum(posterior) as total from mixture_posteriors where mixture = 'known' group by method, doc_id
          )) as off
        from (
          select method, doc_id, arg_max(component, posterior) as component
          from mixture_posteriors where mixture = 'known' group by method, doc_id
        ) p
        join documents d on d.doc_id = p.doc_id and d.run_id = 'velar-run'
        group by p.method order by p.method
    """
    rows = query(str(lake), of_documents).to_pylist()
    assert [(row["method"], row["n"]) for row in rows] == [("em_document", N), ("em_token", N)]
    assert all(row["right"] > 0.97 and row["off"] < 1e-9 for row in rows)
    job = json.loads((lake / "mixtures" / "mixture=known" / "job.json").read_text(encoding="utf-8"))
    assert job["settings"]["components"] == {language: f"{language}-run" for language in LANGUAGES}
    assert set(job["states"]) == {f"{language}-run" for language in LANGUAGES}
    assert job["facts"]["documents"] == N


def test_the_same_command_gives_the_same_numbers_and_a_name_is_not_taken_twice(lake: Path, catalogs: list[str]) -> None:
    made = len(catalogs)
    first = as_json(lake, *COMPONENTS, "--name", "again")
    assert catalogs[made:] == [str(lake)]
    refused = weights(lake, *COMPONENTS, "--name", "again")
    assert refused.exit_code == 2
    assert "--overwrite again" in unfolded(refused.output)
    assert as_json(lake, *COMPONENTS, "--name", "again", "--overwrite", "again") == first


def test_a_page_says_what_was_left_out_and_what_comes_next(lake: Path) -> None:
    done = weights(lake, "--reference", "shorter-run", "--reference", "nasal-run", "--name", "page")
    assert done.exit_code == 0, done.output
    assert "mixture page: 90 documents, 2 components" in done.stdout
    assert "note: 10 of 100 documents of nasal-run are not in every run, and are left out" in done.stdout
    assert "of shorter-run are not" not in done.stdout
    assert "intervals: 95%, 1,000 resamples of documents, seed 0" in done.stdout
    assert "from mixture_posteriors where mixture = 'page'" in done.stdout


def test_runs_with_and_without_a_bos_compare_on_the_bytes_both_predict(lake: Path) -> None:
    components = ["--component", "velar=bare-run", *COMPONENTS[2:]]
    found = as_json(lake, *components, "--name", "bare")
    assert any("begin to predict at different bytes" in note for note in found["notes"])
    assert any("two tokenizers" in note for note in found["notes"])
    assert shares(found["fits"][0]) == pytest.approx({k: n / N for k, n in COUNTS.items()}, abs=0.06)
    refused = weights(lake, *components, "--name", "bare-tokens", "--grain", "token")
    assert refused.exit_code == 2
    assert "--grain token needs one tokenizer" in unfolded(refused.output)


def test_a_condition_chooses_documents(lake: Path) -> None:
    found = as_json(lake, *COMPONENTS, "--name", "some", "--where", "domain <> 'velar'")
    assert found["documents"] == 40
    assert shares(found["fits"][0]) == pytest.approx({"velar": 0, "nasal": 0.75, "rolled": 0.25}, abs=0.03)
    velar = found["fits"][0]["components"][0]
    assert velar["share_low"] == 0
    assert 0 < velar["share_high"] < 0.12
    assert "note: 40 of 100 documents are where domain <> 'velar'" in found["notes"]


def test_two_runs_of_one_model_are_not_told_apart_and_few_documents_are_said(lake: Path) -> None:
    twice = ["--reference", "velar-run", "--reference", "shorter-run", "--reference", "nasal-run"]
    found = as_json(lake, *twice, "--name", "twice")
    rows = {row["component"]: row for row in found["fits"][0]["components"]}
    for run, other in (("velar-run", "shorter-run"), ("shorter-run", "velar-run")):
        assert f"these texts do not tell it from {other}" in rows[run]["note"]
        assert rows[run]["share_low"] < 0.02
        assert rows[run]["share_high"] > 0.5
    assert rows["nasal-run"]["note"] is None
    few = as_json(lake, *COMPONENTS, "--name", "few", "--where", "domain = 'rolled'")
    assert all("of 10 documents: too few" in row["note"] for row in few["fits"][0]["components"])


def test_a_component_of_one_long_document_says_so() -> None:
    logprob_DK = np.where(np.eye(2)[[0] * 30 + [1] * 20] > 0, 0.0, -800.0)
    options = WeightsOptions("lake", [Component("a", "a"), Component("b", "b")], "name")
    for longest, said in ((1.0, None), (1000.0, "its bytes are those of a few documents (1.0 of one length")):
        bytes_D = np.r_[np.ones(49), longest]
        observations = Observations.of_documents(logprob_DK, bytes_D)
        a, b = estimate(options, "document", observations, np.arange(50)).rows
        assert a["note"] is None
        assert b["note"] == said or b["note"].startswith(said)


def test_csv_is_the_rows_that_are_kept(lake: Path, tmp_path: Path) -> None:
    output = tmp_path / "shares.csv"
    done = weights(lake, *COMPONENTS, "--name", "csv", "--output", output)
    assert (done.exit_code, done.stdout) == (0, "")
    with output.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["component"] for row in rows] == [*LANGUAGES]
    assert {row["mixture"] for row in rows} == {"csv"}
    assert [float(row["share"]) for row in rows] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_a_hostile_name_of_a_component_is_kept_and_printed_harmless(lake: Path, tmp_path: Path) -> None:
    hostile = "\x1b[31m[bold]$x$' or 1=1 --"
    done = weights(lake, "--component", f"{hostile}=velar-run", *COMPONENTS[2:], "--name", "hostile",
                   "--figure", tmp_path / "hostile.png")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    kept = query(str(lake), "select component from mixtures where mixture = 'hostile'").to_pylist()
    assert hostile in [row["component"] for row in kept]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "velar-run"], "1 components: give 2 to 64 runs"),
        (["--reference", "velar-run", "--reference", "velar-run"], "'velar-run' is given twice"),
        (["--component", "x=velar-run", "--component", "x=nasal-run"], "'x' is given twice"),
        (["--component", "velar-run", "--reference", "nasal-run"], "--component 'velar-run': expected NAME=RUN"),
        (["--component", " =velar-run", "--reference", "nasal-run"], "--component ' =velar-run': expected NAME=RUN"),
        (["--component", "x= ", "--reference", "nasal-run"], "--component 'x= ': expected NAME=RUN"),
        (["--component", "x=y=", "--reference", "nasal-run"], "--component 'x=y=': expected NAME=RUN"),
        ([*COMPONENTS, "--confidence", "0.9", "--resamples", "199"], "give 200 or more"),
        (["--reference", "velar-run", "--reference", "nowhere"], "no run 'nowhere' in"),
        (["--reference", "velar-run", "--reference", "half-run"], "half-run is interrupted, not finished"),
        (
            ["--reference", "velar-run", "--reference", "lower-run"],
            "transform of velar-run is none, of lower-run",
        ),
        (["--reference", "velar-run", "--reference", "other-run"], "100 of 100 documents have another text"),
        ([*COMPONENTS, "--where", "domain = 'klingon'"], "no document to fit: 100 are in all runs"),
        ([*COMPONENTS, "--where", "no_column = 1"], "--where 'no_column = 1'"),
        ([*COMPONENTS, "--where", "n_bytes"], "--where 'n_bytes'"),
        ([*COMPONENTS, "--confidence", "1.2"], "--confidence 1.2: expected a share above 0 and below 1"),
        ([*COMPONENTS, "--resamples", "50"], "--resamples 50: at --confidence 0.95"),
        ([*COMPONENTS, "--figure", "shares.pdf"], "shares.pdf"),
        ([*COMPONENTS, "--overwrite", "other"], "--overwrite: it names 'other'"),
    ],
)
def test_what_makes_no_sense_is_refused(lake: Path, arguments: list[str], said: str) -> None:
    done = weights(lake, *arguments, "--name", "refused")
    assert done.exit_code == 2, done.output
    assert said in unfolded(done.output)
    assert not (lake / "mixtures" / "mixture=refused").exists()


@pytest.mark.parametrize(("confidence", "resamples"), [(0.8, 100), (0.9, 200), (0.95, 400), (0.99, 2000)])
def test_as_many_resamples_as_are_asked_for_are_enough(confidence: float, resamples: int) -> None:
    options = WeightsOptions("lake", (), "name", confidence=confidence, resamples=resamples)
    check_request(options)
    with pytest.raises(ConfigError, match=f"give {resamples:,} or more"):
        check_request(replace(options, resamples=resamples - 1))


def test_where_there_is_no_lake(tmp_path: Path) -> None:
    done = weights(tmp_path / "none", *COMPONENTS, "--name", "x")
    assert done.exit_code == 2
    assert "no lake at" in unfolded(done.output)


def test_what_is_kept_is_sound(lake: Path) -> None:
    as_json(lake, *COMPONENTS, "--name", "sound", "--grain", "token")
    faults = [fault for fault in verify(Lake(str(lake))) if "half-run" not in str(fault)]
    assert faults == []
