"""`assay mixture tokenizer` from end to end: known mixtures; candidates missing, doubled or empty; mistakes."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import s3
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.bench.mixture.worlds import World, made_up
from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from operators.verify import verify

MERGES, SIZE = 400, 300_000
WITHIN = 0.03  # mean absolute error
FEW = ("--max-merges", "200", "--resamples", "5")  # where shares do not matter


@pytest.fixture(scope="module")
def world() -> World:
    return made_up(3, SIZE, 11)


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return world.write(tmp_path_factory.mktemp("mixture") / "world", MERGES)


def command(files: Mapping[str, Path | str], tokenizer: Path, lake: Path | str, *more: str) -> Result:
    corpora = [word for name, path in files.items() for word in ("--corpora", f"{name}={path}")]
    flags = ["--tokenizer", str(tokenizer), "--lake", str(lake), "--name", "m", "--engine", "inline"]
    return CliRunner().invoke(app, ["mixture", "tokenizer", *flags, *corpora, *more])


def tokenizer_of(files: Mapping[str, Path]) -> Path:
    return next(iter(files.values())).parent / "tokenizer.json"


def as_json(files: Mapping[str, Path | str], tokenizer: Path, lake: Path | str, *more: str) -> dict[str, Any]:
    result = command(files, tokenizer, lake, "--format", "json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def rows(lake: Path | str, sql: str) -> list[tuple[Any, ...]]:
    with connect(str(lake), macros=False) as connection:
        return connection.execute(sql).fetchall()


def error(truth: Mapping[str, float], shares: Mapping[str, float]) -> float:
    return sum(abs(shares[name] - true) for name, true in truth.items()) / len(truth)


@pytest.fixture(scope="module")
def found(world: World, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Path]:
    folder = tmp_path_factory.mktemp("found")
    result = command(files, tokenizer_of(files), folder / "lake", "--figure", str(folder / "shares.svg"))
    assert result.exit_code == 0, result.output
    return folder / "lake", result, folder / "shares.svg"


def test_the_shares_are_those_trained_on_and_in_the_lake(world: World, found: tuple[Path, Result, Path]) -> None:
    lake, result, figure = found
    kept = rows(lake, "select component, share, share_low, share_high, estimate, unit, n, confidence, note "
                      "from mixtures where mixture = 'm' and method = 'tokenizer' order by component")  # fmt: skip
    assert [row[0] for row in kept] == sorted(world.truth)
    shares = {row[0]: row[1] for row in kept}
    assert error(world.truth, shares) <= WITHIN
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(row[4] for row in kept) == pytest.approx(1)
    for _, share, low, high, _, unit, n, confidence, note in kept:
        assert 0 <= low <= share <= high <= 1
        assert (unit, n, confidence, note) == ("bytes", MERGES, 0.95, None)
    assert "<svg" in figure.read_text(encoding="utf-8")
    page = unfolded(result.stdout)
    assert "from mixtures where mixture" in page
    assert "is no candidate" in page
    assert "warning" not in page


def test_rounds_of_the_solver_are_kept_and_scratch_is_not(found: tuple[Path, Result, Path]) -> None:
    lake, *_ = found
    curve = rows(lake, "select step, objective, n from mixture_curves where mixture = 'm' order by step")
    assert [step for step, *_ in curve] == list(range(len(curve)))
    assert curve
    assert all(later[1] >= earlier[1] - 1e-9 for earlier, later in itertools.pairwise(curve))
    assert not [name for name in Lake(str(lake)).storage.find() if "progress" in name]
    assert verify(Lake(str(lake))) == []


def kept_shares(lake: Path) -> list[tuple[Any, ...]]:
    return rows(lake, "select * exclude (mixture) from mixtures order by component")


def test_the_same_command_gives_the_same_numbers(
    files: dict[str, Path], found: tuple[Path, Result, Path], tmp_path: Path
) -> None:
    as_json(files, tokenizer_of(files), tmp_path / "again")
    assert kept_shares(tmp_path / "again") == kept_shares(found[0])


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_the_ray_engine_finds_the_same(
    files: dict[str, Path], found: tuple[Path, Result, Path], tmp_path: Path
) -> None:
    as_json(files, tokenizer_of(files), tmp_path / "ray", "--engine", "ray")
    assert kept_shares(tmp_path / "ray") == kept_shares(found[0])


def test_a_training_corpus_that_is_no_candidate_is_reported(
    world: World, files: dict[str, Path], tmp_path: Path
) -> None:
    largest = max(world.truth, key=lambda name: world.truth[name])
    rest = {name: path for name, path in files.items() if name != largest}
    found = as_json(rest, tokenizer_of(files), tmp_path / "lake")
    assert found["is_misfit"]
    assert any("missing" in note for note in found["notes"])
    assert all("may be missing" in row["note"] for row in found["shares"])


def test_corpora_that_are_alike_are_reported(world: World, files: dict[str, Path], tmp_path: Path) -> None:
    one = next(iter(files))
    halves = {"left": world.candidates[one][::2], "right": world.candidates[one][1::2]}
    doubled = replace(world, candidates={**{k: v for k, v in world.candidates.items() if k != one}, **halves})
    found = as_json(doubled.write(tmp_path / "doubled", MERGES), tokenizer_of(files), tmp_path / "lake")
    assert {"left", "right"} in [set(pair) for pair in found["not_told_apart"]]
    shares = {row["corpus"]: row for row in found["shares"]}
    assert "trust their sum, not how it is split" in shares["left"]["note"]
    assert shares["left"]["share"] + shares["right"]["share"] == pytest.approx(world.truth[one], abs=2 * WITHIN)
    assert shares["left"]["possible_high"] - shares["left"]["possible_low"] > 0.1


def test_uris_of_one_name_add_up_and_shared_files_are_warned_of(
    world: World, files: dict[str, Path], tmp_path: Path
) -> None:
    one, other, third = files
    texts = world.candidates[one]
    for name, part in (("a", texts[::2]), ("b", texts[1::2])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    corpora = [f"{one}={tmp_path}/a.jsonl", f"{one}={tmp_path}/b.jsonl", f"{other}={files[other]}",
               f"{third}={files[third]}", f"copy={files[third]}"]  # fmt: skip
    flags = ["--tokenizer", str(tokenizer_of(files)), "--lake", str(tmp_path / "lake"), "--name", "m"]
    words = [word for corpus in corpora for word in ("--corpora", corpus)]
    result = CliRunner().invoke(app, ["mixture", "tokenizer", *flags, *words, "--engine", "inline", "--format", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["samples"][one]["documents"] == len(texts)
    assert any(f"corpora {third} and copy both hold" in note for note in found["notes"])
    assert {third, "copy"} in [set(pair) for pair in found["not_told_apart"]]


def test_rejects_are_counted_and_an_empty_corpus_has_no_share(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": ""}\n{broken\n{"other": 1}\n', encoding="utf-8")
    result = command({**files, "bad": tmp_path / "bad.jsonl"}, tokenizer_of(files), tmp_path / "lake",
                     "--output", str(tmp_path / "r.json"), *FEW)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "of bad 3 records were rejected" in result.stderr
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert found["samples"]["bad"]["documents"] == 0
    assert sum(found["samples"]["bad"]["rejected"].values()) == found["samples"]["bad"]["rejects"] == 3
    shares = {row["corpus"]: row for row in found["shares"]}
    assert shares["bad"]["share"] == 0
    assert "holds no pair" in shares["bad"]["note"]


def test_a_corpus_of_one_document_gives_shares_and_says_why_there_is_no_interval(
    world: World, files: dict[str, Path], tmp_path: Path
) -> None:
    (one, texts), *_ = world.candidates.items()
    (tmp_path / "one.txt").write_text("".join(texts), encoding="utf-8")
    found = as_json({**files, one: tmp_path / "one.txt"}, tokenizer_of(files), tmp_path / "lake", *FEW)
    for row in found["shares"]:
        assert row["share"] is not None
        assert row["share_low"] is row["share_high"] is None
        assert "too few documents" in row["note"]
    assert found["samples"][one]["documents"] == 1
    assert any(note.startswith("warning: No intervals") for note in found["notes"])
    assert not any("rests on" in note for note in found["notes"])


def test_where_no_corpus_holds_a_word_nothing_is_kept(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    result = command({"bad": tmp_path / "bad.jsonl"}, tokenizer_of(files), tmp_path / "lake")
    assert result.exit_code == 1
    assert "no corpus holds a word" in unfolded(result.stderr)
    assert not (tmp_path / "lake").exists() or not Lake(str(tmp_path / "lake")).storage.find()


def test_words_without_a_pair_are_an_error_in_a_line(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "single.jsonl").write_text('{"text": "a"}\n' * 40, encoding="utf-8")
    result = command({"single": tmp_path / "single.jsonl"}, tokenizer_of(files), tmp_path / "lake")
    assert result.exit_code == 1, result.output
    assert "no candidate corpus holds a pair" in unfolded(result.stderr)


def test_candidates_of_another_kind_are_warned_of(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"text": "0 1 2 3 ba"}\n' * 40, encoding="utf-8")
    found = as_json({"other": tmp_path / "other.jsonl"}, tokenizer_of(files), tmp_path / "lake", *FEW)
    assert any("most merges occur in no sample" in note for note in found["notes"])
    assert any("its share is guesswork" in note for note in found["notes"])


def test_the_size_of_the_training_text_is_said_and_kept(files: dict[str, Path], tmp_path: Path) -> None:
    found = as_json(files, tokenizer_of(files), tmp_path / "lake", "--training-size", "2GB", *FEW)
    assert found["training_bytes"] == 2_000_000_000
    assert any("2,000,000,000 bytes (--training-size)" in note for note in found["notes"])
    assert set(found["peak_mib"]) == set(found["seconds"])


def test_a_sample_is_bounded(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.mixture.job.LEAST_SAMPLE", 1000)
    found = as_json(files, tokenizer_of(files), tmp_path / "lake", "--sample", "50KB", *FEW)
    for sample in found["samples"].values():
        assert 40_000 < sample["sampled_bytes"] <= 50_000 < sample["bytes"]
        assert sample["sampled_pieces"] < sample["documents"]


def test_csv_has_a_row_a_corpus_with_names_as_they_are(files: dict[str, Path], tmp_path: Path) -> None:
    (_, path), *rest = files.items()
    odd = {'a"b, c': path, **dict(rest)}
    result = command(odd, tokenizer_of(files), tmp_path / "lake", "--format", "csv", *FEW)
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["corpus"] for row in table] == list(odd)
    assert rows(tmp_path / "lake", "select distinct n from mixtures") == [(200,)]


def test_a_name_that_is_taken_is_kept_unless_it_is_repeated(files: dict[str, Path], found: Any) -> None:
    lake, *_ = found
    result = command(files, tokenizer_of(files), lake)
    assert result.exit_code == 2
    assert "--overwrite m" in unfolded(result.stderr)
    wrong = command(files, tokenizer_of(files), lake, "--overwrite", "other")
    assert wrong.exit_code == 2


def test_the_plan_is_shown_and_nothing_is_written(files: dict[str, Path], tmp_path: Path) -> None:
    result = command(files, tokenizer_of(files), tmp_path / "lake", "--dry-run")
    assert result.exit_code == 0, result.output
    for name, path in files.items():
        assert name in result.stdout
        assert path.name in unfolded(result.stdout)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sample", "10B"], "--sample"),
        (["--training-size", "lots"], "--training-size"),
        (["--confidence", "2"], "--confidence"),
        (["--corpora-format", "xml"], "--corpora-format"),
        (["--corpora", "x/y=z"], "holds no slash"),
        (["--figure", "shares.pdf"], ".svg"),
        (["--text-column", "a", "--text-template", "{b}"], "--text-column"),
        (["--corpora", "gone=/nowhere/at/all.jsonl"], "/nowhere/at/all.jsonl"),
    ],
)
def test_mistakes_are_said_in_a_line(files: dict[str, Path], tmp_path: Path, flags: list[str], said: str) -> None:
    result = command(files, tokenizer_of(files), tmp_path / "lake", *flags)
    assert result.exit_code == 2, result.output
    assert said in unfolded(result.stderr)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "tokenizer"),
        ("no json", "tokenizer"),
        ('{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}', "unigram"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "no merges"),
    ],
)
def test_a_tokenizer_that_is_no_bpe_is_refused(files: dict[str, Path], tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content, encoding="utf-8")
    result = command(files, path, tmp_path / "lake")
    assert result.exit_code == 2, result.output
    assert "--tokenizer" in unfolded(result.stderr)
    assert said in unfolded(result.stderr)


def test_a_missing_tokenizer_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    result = command(files, tmp_path / "none", tmp_path / "lake")
    assert result.exit_code == 2
    assert "--tokenizer" in unfolded(result.stderr)


def test_corpora_and_lake_may_lie_in_object_storage(world: World, files: dict[str, Path], tmp_path: Path) -> None:
    bucket = tmp_path / "buckets" / "text"
    bucket.mkdir(parents=True)
    for path in files.values():
        (bucket / path.name).write_bytes(path.read_bytes())
    with s3.lone_server(tmp_path / "buckets") as server:
        options = tmp_path / "options.yaml"
        options.write_text(json.dumps(server.options), encoding="utf-8")
        uris = {name: f"s3://text/{path.name}" for name, path in files.items()}
        found = as_json(uris, tokenizer_of(files), "s3://text/lake", "--storage-options", str(options),
                        *FEW)  # fmt: skip
        assert len(found["shares"]) == len(files)
    sizes = {name: sum(len(text.encode()) for text in texts) for name, texts in world.candidates.items()}
    assert {row["corpus"]: row["bytes"] for row in found["shares"]} == sizes
