"""`assay mixture fit` as a user types it: numbers, tables and view, the matrix of runs, warnings, figures, mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb
import memorized_runs
import numpy as np
import pytest
import runs
import s3
import small
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from operators.verify import verify

HOSTILE = "<script>$x_</script>\x1b[31m"
QUICK = ("--resamples", "200")


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def documents(seed: int = 0, n: int = 40) -> list[memorized_runs.Document]:
    """Texts that do not depend on the seed, with log-probs that do; the last has no scored token."""
    texts, numbers = np.random.default_rng(99), np.random.default_rng(seed)
    made = []
    for i in range(n):
        hits: list[bool | None] = [None, *(texts.random(int(texts.integers(2, 30))) < 0.5).tolist()]
        each = memorized_runs.document(f"k{i}", texts, hits, domain=("code", HOSTILE, None)[i % 3])
        logprobs = [None if hit is None else -float(np.float32(numbers.gamma(2, 0.5))) for hit in hits]
        made.append(replace(each, logprobs=logprobs))
    return [*made, memorized_runs.document("one", texts, [None], domain="code", pieces=[b"x"])]


def bits(some: Sequence[memorized_runs.Document]) -> float:
    """Bits per byte, from the definition."""
    some = [each for each in some if any(value is not None for value in each.logprobs)]
    loss = -sum(value for each in some for value in each.logprobs if value is not None)
    return loss / (math.log(2) * sum(len(each.text.encode()) for each in some))


@pytest.fixture
def real_catalog() -> None:
    """Asked for by a test that looks at the catalog's file."""


@pytest.fixture(autouse=True)
def without_catalog(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rebuild the catalog's file takes longer than a fit of so few documents."""
    if "real_catalog" not in request.fixturenames:
        monkeypatch.setattr("operators.catalog.write_catalog", lambda *_: "")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Runs `a` and `b` of the same texts, `c` of fewer, unfinished, with other windows and a limit."""
    lake = Lake(str(tmp_path_factory.mktemp("fit") / "my lake"))
    tokenizer = {"tokenizer": {"fingerprint": "t", "bos_prepended": False}}
    memorized_runs.write_run(lake, "a", documents(), **tokenizer)
    memorized_runs.write_run(lake, "b", documents(1), **tokenizer)
    config = {"model": "m", "limit": 30, "context": 64, "stride": 32}
    other = {"tokenizer": {"fingerprint": "u", "bos_prepended": False}, "config": config}
    memorized_runs.write_run(lake, "c", documents(2, 30), state="interrupted", **other)
    return lake


def read(lake: Lake, *arguments: object) -> dict[str, Any]:
    done = assay("mixture", "fit", lake.root, *QUICK, *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_reported_is_what_is_kept(lake: Lake) -> None:
    found = read(lake, "--run-id", "a")
    (run,) = found["runs"]
    rows = {(row["part"], row["domain"]): row for row in run["domain_fit"]}
    assert list(rows) == [("all", None), ("domain", HOSTILE), ("domain", "code"), ("domain", None), ("macro", None)]
    for (part, name), row in rows.items():
        if part == "domain":
            assert row["bits_per_byte"] == pytest.approx(bits([e for e in documents() if e.domain == name]))
            assert row["bits_per_byte_low"] < row["bits_per_byte"] < row["bits_per_byte_high"]
    assert rows["all", None]["bits_per_byte"] == pytest.approx(bits(documents()))
    assert rows["domain", "code"]["n_undefined"] == 1
    with connect(lake.root, macros=False) as connection:
        sql = "select * exclude (run_id) from domain_fit where run_id = 'a' order by part, domain nulls last"
        assert connection.sql(sql).to_arrow_table().to_pylist() == run["domain_fit"]
        types = (
            "select token_id, n, loss_share from vocabulary_fit where run_id = 'a' order by loss_share desc, token_id"
        )
        kept = connection.sql(types).to_arrow_table().to_pylist()
    assert [(row["token_id"], row["n"]) for row in run["vocabulary"]] == [(r["token_id"], r["n"]) for r in kept[:10]]
    assert sum(row["n"] for row in kept) == rows["all", None]["n_tokens"]
    assert verify(lake) == []


def test_the_view_has_every_model_on_every_domain(lake: Lake) -> None:
    found = read(lake, "--run-id", "a", "--run-id", "b", "--run-id", "c", "--run-id", "a", "--no-vocabulary")
    assert [run["run_id"] for run in found["runs"]] == ["a", "b", "c"]
    assert [run["vocabulary"] for run in found["runs"]] == [None] * 3
    with connect(lake.root, macros=False) as connection:
        sql = "select run_id, domain, bits_per_byte, model, tokenizer_fingerprint, state from model_domain"
        rows = connection.execute(f"{sql} where part = 'domain' order by run_id, domain nulls last").fetchall()
        (comment,) = connection.execute(
            "select comment from duckdb_views() where view_name = 'model_domain'"
        ).fetchall()[0]
    assert [row[0] for row in rows] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [row[1] for row in rows[:3]] == [HOSTILE, "code", None]
    want = [row["bits_per_byte"] for run in found["runs"] for row in run["domain_fit"] if row["part"] == "domain"]
    assert [row[2] for row in rows] == want
    assert {row[3:] for row in rows} == {("m", "t", "finished"), ("m", "u", "interrupted")}
    assert "key (run_id, part, domain)" in comment


def test_runs_that_do_not_compare_are_named(lake: Lake) -> None:
    notes = read(lake, "--run-id", "a", "--run-id", "b", "--run-id", "c", "--no-vocabulary")["notes"]
    said = "\n".join(notes)
    assert "warning: run c: interrupted, so only what is scored so far is in these numbers" in said
    assert "note: run c: only the first 30 records of the corpus were read (--limit)" in said
    assert "note: runs a, b, c: no prefix token was fed" in said
    assert "note: runs a, b, c: 1 document without a scored token" in said
    assert "warning: runs a and c do not hold the same texts of domains" in said
    assert "warning: runs a and c differ in context None and 64, stride None and 32" in said
    assert "the runs have several tokenizers: bits per byte compare, perplexities and token shares do not" in said
    assert "runs a and b" not in said
    alike = "\n".join(read(lake, "--run-id", "a", "--run-id", "b", "--no-vocabulary")["notes"])
    assert "warning" not in alike
    assert "tokenizers" not in alike


def test_one_text_that_changed_is_found(lake: Lake, tmp_path: Path) -> None:
    """Ids, counts and bytes are the same."""
    other = Lake(str(tmp_path / "lake"))
    first = documents()
    changed = [
        replace(each, pieces=[b"z" * len(p) for p in each.pieces]) if i == 1 else each for i, each in enumerate(first)
    ]
    memorized_runs.write_run(other, "a", first)
    memorized_runs.write_run(other, "b", changed)
    notes = read(other, "--run-id", "a", "--run-id", "b", "--no-vocabulary")["notes"]
    (warning,) = (note for note in notes if note.startswith("warning"))
    assert "do not hold the same texts of domain '<script>" in warning


def test_the_page(lake: Lake) -> None:
    done = assay("mixture", "fit", lake.root, "--run-id", "a", "--run-id", "b", *QUICK)
    assert done.exit_code == 0, done.output
    page = done.stdout
    assert "\x1b" not in page
    said = unfolded(page)
    said_here = (
        "run a, model m",
        "run b, model m",
        "= all",
        "= macro",
        "(no domain)",
        "vocabulary types",
        "bits per byte of runs on domains",
        "in brackets: intervals at level 0.95, of domains by drawing documents, of types by the spread over documents",
        "kept: domain_fit/run_id=a/",
        "next: assay sql",
    )
    for text in said_here:
        assert text in said, text
    code = bits([each for each in documents() if each.domain == "code"])
    assert f"{code:.3f} [" in page
    matrix = page.partition("bits per byte of runs on domains")[2].splitlines()
    row = next(line.split() for line in matrix if line.startswith("a "))
    assert row[2] == f"{code:.3f}"


def test_csv_has_the_rows_of_all_runs(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "fit.csv"
    done = assay("mixture", "fit", lake.root, "--run-id", "a", "--run-id", "c", *QUICK, "--output", path)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [row["run_id"] for row in rows] == ["a"] * 5 + ["c"] * 5
    assert float(rows[0]["bits_per_byte"]) == pytest.approx(bits(documents()))
    assert "warning: run c: interrupted" in done.stderr


def test_the_same_command_gives_the_same_numbers(lake: Lake) -> None:
    bare = ("--run-id", "a", "--no-vocabulary")
    first, again, other = (read(lake, *bare, "--seed", seed) for seed in (3, 3, 4))
    assert first == again
    assert first["runs"][0]["domain_fit"] != other["runs"][0]["domain_fit"]
    wide = read(lake, *bare, "--confidence", 0.99)["runs"][0]["domain_fit"]
    assert {row["confidence"] for row in wide} == {0.99}
    none = read(lake, *bare, "--resamples", 0)
    assert {row["bits_per_byte_low"] for row in none["runs"][0]["domain_fit"]} == {None}
    assert "no intervals of domains, as --resamples 0 asks" in "\n".join(none["notes"])


def test_domains_too_small_for_an_interval_are_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lone = [replace(documents()[0], domain="lone")]
    memorized_runs.write_run(lake, "a", [*documents()[1:], *lone])
    found = read(lake, "--run-id", "a", "--no-vocabulary")
    said = "\n".join(found["notes"])
    assert "domain 'lone': too few documents for an interval" in said
    assert "the macro mean has no interval while one of its domains has none (--min-documents)" in said
    assert "leaves out" not in said
    found = read(lake, "--run-id", "a", "--no-vocabulary", "--min-documents", 2)
    macro = found["runs"][0]["domain_fit"][-1]
    assert macro["bits_per_byte_low"] < macro["bits_per_byte"] < macro["bits_per_byte_high"]
    said = "\n".join(found["notes"])
    assert "the macro mean leaves out the domains of 1 document: too small (--min-documents)" in said
    assert "has no interval" not in said


def test_domains_of_names_that_are_taken_are_told_apart(tmp_path: Path) -> None:
    lake, long = Lake(str(tmp_path / "lake")), "www." + "x" * 5000 + ".example"
    names = ("(no domain)", None, "", long)
    made = [replace(each, domain=names[i % 4]) for i, each in enumerate(documents())]
    memorized_runs.write_run(lake, "a", made)
    path = tmp_path / "fit.svg"
    done = assay("mixture", "fit", lake.root, "--run-id", "a", *QUICK, "--no-vocabulary", "--figure", path)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) < 300
    written = path.read_text(encoding="utf-8")
    for name in (">(no domain)<", ">'(no domain)'<", ">''<", ".example<"):
        assert name in written, name


def test_first_tokens_that_have_a_prediction_are_not_missed(tmp_path: Path) -> None:
    """As after the prefix of a transform, which is no token of the document."""
    lake, rng = Lake(str(tmp_path / "lake")), np.random.default_rng(0)
    made = [memorized_runs.document(f"k{i}", rng, [True] * 9) for i in range(3)]
    memorized_runs.write_run(lake, "a", made, tokenizer={"fingerprint": "t", "bos_prepended": False})
    found = read(lake, "--run-id", "a", "--no-vocabulary")
    every = found["runs"][0]["domain_fit"][0]
    assert every["n_tokens"] == every["n_fed"]
    assert "prefix token" not in "\n".join(found["notes"])


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (("--run-id", "a"), {"bar-0-0", "whisker-0-0", "bar-2-0", "reference"}),
        (("--run-id", "a", "--run-id", "b"), {"cells"}),
        (("--run-id", "a", "--run-id", "b", "--draw", "share"), {"bar-0-0", "bar-0-1", "whisker-2-1"}),
    ],
)
def test_figures(lake: Lake, tmp_path: Path, more: tuple[str, ...], shown: set[str]) -> None:
    path = tmp_path / "fit.svg"
    done = assay("mixture", "fit", lake.root, *more, *QUICK, "--no-vocabulary", "--figure", path)
    assert done.exit_code == 0, done.output
    assert shown <= {each.get("id") for each in ElementTree.parse(path).iter()}
    assert "<script" not in path.read_text(encoding="utf-8")


def test_a_run_without_documents(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    memorized_runs.write_run(lake, "a", [])
    done = assay("mixture", "fit", lake.root, "--run-id", "a", *QUICK)
    assert done.exit_code == 0, done.output
    assert "= all" in done.stdout
    assert verify(lake) == []
    done = assay("mixture", "fit", lake.root, "--run-id", "a", *QUICK, "--figure", tmp_path / "fit.svg")
    assert (done.exit_code, "nothing to draw" in unfolded(done.output)) == (2, True)


@pytest.mark.usefixtures("real_catalog")
def test_a_run_scored_here(tmp_path: Path) -> None:
    """A model that feeds a prefix token, so every token of the text is scored: the numbers are those of the cards."""
    corpus = tmp_path / "corpus.jsonl"
    records = [
        {"id": str(i), "text": text, "domain": "ab"[i % 2]} for i, text in enumerate(small.stdlib_texts(300)[:8])
    ]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    model = small.make_model_folder(tmp_path / "model")
    runs.run(model, corpus, tmp_path / "lake", "r", id_column="id", domain_column="domain")
    lake = Lake(str(tmp_path / "lake"))
    found = read(lake, "--run-id", "r")
    every = found["runs"][0]["domain_fit"][0]
    with duckdb.connect(str(tmp_path / "lake" / "lake.duckdb"), read_only=True) as catalog:
        assert catalog.execute("select count(*) from model_domain").fetchall() == [(4,)]
    assert "prefix token" not in "\n".join(found["notes"])
    assert every["n_bytes"] == sum(len(str(record["text"]).encode()) for record in records)
    assert every["n_fed"] == every["n_tokens"] + len(records)
    with connect(lake.root) as connection:
        rows = connection.execute(
            "select level, domain, lm_eval, perplexity_correlations from bits_per_byte('r')"
        ).fetchall()
        (total,) = connection.execute("select -sum(logprob::double) from tokens").fetchall()[0]
    cards = {(level, domain): numbers for level, domain, *numbers in rows}
    assert [every["bits_per_byte"], every["bits_per_byte_extrapolated"]] == pytest.approx(cards["corpus", None])
    assert every["bits_per_byte"] == pytest.approx(total / (every["n_bytes"] * math.log(2)))
    assert verify(lake) == []


def test_a_lake_in_an_object_store(tmp_path: Path) -> None:
    with s3.named_server(tmp_path / "s3"):
        (tmp_path / "s3" / "bucket").mkdir(parents=True, exist_ok=True)
        lake = Lake("s3://bucket/lake")
        memorized_runs.write_run(lake, "a", documents())
        found = read(lake, "--run-id", "a")
        assert found["runs"][0]["domain_fit"][0]["bits_per_byte"] == pytest.approx(bits(documents()))
        assert verify(lake) == []
        assert s3.SECRET not in json.dumps(found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run-id", "none"), "no run 'none' in"),
        (("--run-id", "a", "--confidence", "1.5", "--resamples", "7"), "--confidence 1.5: expected a level"),
        (("--run-id", "a", "--resamples", "7"), "--resamples 7: expected 100 to 20000, or 0"),
        (("--run-id", "a", "--figure", "fit.pdf"), "expected a name that ends in .svg or .png"),
        (("--run-id", "a", "--figure", "no/such/fit.svg"), "there is no folder"),
        (("--run-id", "a", "--output", "fit.csv", "--format", "json"), "leave one of them out"),
        ((), "Missing option '--run-id'"),
    ],
)
def test_mistakes_are_said_at_once(lake: Lake, arguments: tuple[str, ...], said: str) -> None:
    done = assay("mixture", "fit", lake.root, *arguments)
    assert done.exit_code == 2
    assert said in unfolded(done.output)


def test_no_lake(tmp_path: Path) -> None:
    done = assay("mixture", "fit", tmp_path / "none", "--run-id", "a")
    assert done.exit_code == 2
    assert "no lake at" in unfolded(done.output)
    assert "assay mixture fit lake --run-id monday" in unfolded(assay("mixture", "fit", "--help").output)
