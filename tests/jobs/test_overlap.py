"""`assay overlap` as it is typed: what it prints, what it escapes, and how it says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import overlaps
import pytest
from output import unfolded
from typer.testing import CliRunner

from jobs.cli import app


def assay(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> overlaps.World:
    return overlaps.make_world(tmp_path_factory.mktemp("world"))


def command(world: overlaps.World, lake: Path, *more: object) -> list[object]:
    return ["overlap", "--benchmark", world.benchmark, "--corpus", world.corpus, "--lake", lake, "--name", "bench",
            "--ngram", overlaps.N, "--input-column", "question", "--answer-column", "answer", "--id-column", "id",
            "--corpus-id-column", "id", "--engine", "inline", *more]  # fmt: skip


@pytest.fixture(scope="module")
def lake(world: overlaps.World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "lake"
    done = assay(*command(world, path))
    assert done.exit_code == 0, done.output
    (path.parent / "said.txt").write_text(done.stdout)
    assert done.stderr.startswith("comparing: 60 documents, 12 with a match, ")
    assert len(done.stderr.splitlines()) == 1
    return path


def test_it_prints_what_was_found_with_intervals_and_what_to_ask_next(world: overlaps.World, lake: Path) -> None:
    said = (lake.parent / "said.txt").read_text()
    hit = sum(seen > 0 for seen, _ in world.shares("all").values())
    whole = sum(seen == n for seen, n in world.shares("all").values())
    assert "overlap bench: 24 items against 60 documents (" in said
    assert "5-grams of words-1, in " in said
    lines = [line.split() for line in said.splitlines()]
    at = lines.index(["across", "any", *next(line for line in lines if line[:2] == ["across", "any"])[2:]]) + 4
    assert lines[at][:7] == ["all", "any", str(hit), "24", f"{100 * hit / 24:.1f}", "%", "29.1"]  # of 12 in 24: tables
    assert lines[at][7:10] == ["to", "70.9", "%"]
    assert lines[at + 3][:4] == ["all", str(whole), "24", f"{100 * whole / 24:.1f}"]
    assert "none" in said
    assert f"{24 - hit}" in said
    spans = overlaps.tables(lake)["overlap_spans"]
    longest = max(spans["n_words"].to_pylist())
    assert lines[at][10:] == [str(longest), "words"]
    assert f"matches: {len(spans):,}, in {len(set(spans['key'].to_pylist()))} documents of " in said
    assert "decontamination (drop pieces:10, margin 0): " in said


def test_the_queries_it_prints_run(lake: Path) -> None:
    said = (lake.parent / "said.txt").read_text()
    queries = [line.split('"')[1] for line in said.splitlines() if "assay sql" in line]
    assert len(queries) == 3
    for query in queries:
        done = assay("sql", lake, query, "--format", "json")
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() or "drop_document" in query  # none is to drop whole
    assert assay("verify", lake).exit_code == 0
    assert (lake / "lake.duckdb").is_file()


def test_again_it_says_that_it_is_finished_and_what_was_found(world: overlaps.World, lake: Path) -> None:
    done = assay(*command(world, lake))
    assert done.exit_code == 0, done.output
    assert "overlap bench: finished already: nothing to do" in done.stderr
    assert done.stdout == (lake.parent / "said.txt").read_text()


def test_a_dry_run_shows_the_plan_and_writes_nothing(world: overlaps.World, tmp_path: Path) -> None:
    done = assay(*command(world, tmp_path / "lake"), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "overlap bench on engine inline (new)" in done.stdout
    assert "5-grams of words-1, margin 0, drop pieces:10" in done.stdout
    assert str(world.corpus / "a.jsonl") in done.stdout
    assert not (tmp_path / "lake").exists()


def test_names_and_texts_are_escaped_and_rejects_are_said(tmp_path: Path) -> None:
    name = "a\x1b[31m\n[bold]b.jsonl"
    (tmp_path / name).write_text(
        json.dumps({"id": "k\x1b[0m", "text": "one \x1b[31m two [red] three\nfour"}) + '\n{"text": 3}\n'
    )
    done = assay("overlap", "--benchmark", tmp_path, "--corpus", tmp_path, "--lake", tmp_path.parent / "lake-of-names",
                 "--name", "x", "--ngram", 3, "--id-column", "id", "--engine", "inline")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "[red] three\\nfour" in done.stdout
    assert "warning: of the benchmark 1 record was rejected and not compared" in done.stderr
    assert "warning: of the corpus 1 record was rejected and not compared" in done.stderr
    assert "1  invalid_key; the first: " in done.stderr
    assert "1  text_not_string; the first: " in done.stderr
    assert len(done.stderr.splitlines()) == 5  # and the line of progress


def test_where_nothing_is_found_it_says_so(world: overlaps.World, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("nothing of it")
    words = command(world, tmp_path / "lake")
    words[words.index(world.corpus)] = tmp_path / "other.txt"
    done = assay(*words)
    assert done.exit_code == 0, done.output
    assert "against 1 document (13 bytes)" in done.stdout
    assert "any 0 24 0.0 % 0.0 to 14.2 %" in unfolded(done.stdout)  # 1 - 0.025 ** (1 / 24)
    assert "no document of the corpus holds" in done.stdout


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--ngram", "4"), 2, "n: was 5, now 4"),
        (("--overwrite", "other"), 2, "--overwrite: it names 'other', the overlap is 'bench'"),
        (("--normalization", "none"), 2, "--normalization: 'none' is unknown"),
        (("--drop", "share:2"), 2, "drop rule 'share:2'"),
        (("--corpus", "nowhere"), 2, "--corpus: the inputs cannot be read"),
        (("--benchmark-format", "csv"), 2, "--benchmark-format"),
        (("--corpus-text-column", "body", "--overwrite", "bench"), 1, "no document was compared; 40 missing_text"),
        (("--corpus-text-column", "body", "--overwrite", "bench"), 1, "--corpus-text-column says which column"),
    ],
)
def test_errors_say_what_to_do(
    world: overlaps.World, lake: Path, tmp_path: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    target = lake
    if code == 1:  # it drops what is there
        target = tmp_path / "lake"
    done = assay(*command(world, target, *more))
    assert done.exit_code == code, done.output
    assert said in unfolded(done.stderr)
    assert "Traceback" not in done.output


def test_the_flags_that_say_what_is_compared_are_needed() -> None:
    done = assay("overlap", "--corpus", "x", "--lake", "y", "--name", "z")
    assert done.exit_code == 2
    assert "Missing option '--benchmark'" in unfolded(done.stderr)


def test_items_too_short_for_an_ngram_and_ngrams_too_common_are_said(tmp_path: Path) -> None:
    phrase = "one two three four five"
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": phrase}) + "\n" for _ in range(3)))
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": f"zero {phrase} six"}) + "\n")

    def said(name: str, *more: object) -> str:
        done = assay("overlap", "--benchmark", tmp_path / "b.jsonl", "--corpus", tmp_path / "c.jsonl", "--lake",
                     tmp_path / "lake", "--name", name, "--engine", "inline", *more)  # fmt: skip
        assert done.exit_code == 0, done.output
        return unfolded(done.stdout)

    short = said("short", "--ngram", 6)
    assert "3 items shorter than 6 words: no n-gram, no share, in no rate below" in short
    assert "so nothing can match: choose a smaller --ngram" in short
    assert "share of an item's n-grams seen" not in short
    common = said("common", "--ngram", 5, "--most-items", 2, "--drop", "share:0.8")
    assert "all any 3 3 100.0 % 29.2 to 100.0 % 5 words" in common
    assert "1 n-gram by document count as seen and are cut, but are too common to start a match" in common
    assert "at least what is said, and rule share may miss a document" in common
    assert "no match to list" in common
    rows = overlaps.tables(tmp_path / "lake", "common")["overlap_items"].to_pylist()
    assert {(row["n_seen"], row["longest_match"], row["byte_start"], row["n_bytes"], row["n_documents"])
            for row in rows} == {(1, 5, 0, len(phrase), 1)}  # fmt: skip
