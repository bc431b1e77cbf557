"""The mixture benchmark in miniature: worlds hold what they say, its report and its verdict follow the shares."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.bench.mixture import run, sources, worlds
from jobs.bench.mixture.languages import Language
from jobs.bench.mixture.worlds import World, made_up, n_bytes, random_shares, real
from jobs.bench.targets import lines_of
from jobs.cli import app

TEXT = "some words of a document that is long enough to be taken, again and again; " * 8


def test_a_language_is_the_same_every_time_and_no_other() -> None:
    one, again, other = Language(1, 200), Language(1, 200), Language(2, 200)
    assert one.words == again.words
    assert one.document(random.Random(0)) == again.document(random.Random(0))
    assert len(set(one.words) & set(other.words)) < 60
    held = list(one.documents(random.Random(0), 20_000))
    assert 20_000 <= n_bytes(held) < 20_000 + max(len(text.encode()) for text in held)


def test_shares_are_random_and_sum_to_one() -> None:
    drawn = random_shares(5, random.Random(3))
    assert sum(drawn) == pytest.approx(1)
    assert drawn != random_shares(5, random.Random(4))


def test_the_truth_is_what_was_trained_on() -> None:
    world = World({"a": ["x" * 30], "b": ["ä" * 5]}, {"a": ["y"], "b": ["z"], "never": ["w"]})
    assert world.truth == {"a": 0.75, "b": 0.25, "never": 0.0}


def test_real_worlds_share_no_document_and_fill_up_with_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = [f"{i} {TEXT}" for i in range(400)]
    monkeypatch.setattr(worlds, "SOURCES", {"plenty": None, "scarce": None})
    monkeypatch.setattr(worlds, "gather", lambda name, size: plenty if name == "plenty" else [TEXT])
    world = real(3, 200_000, 0)
    assert list(world.candidates) == ["plenty", "language-0", "language-1"]
    for name in world.candidates:
        assert world.training[name]
        assert not set(world.training[name]) & set(world.candidates[name])
    assert world == real(3, 200_000, 0)
    assert world != real(3, 200_000, 1)


def test_files_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "packed.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "b" / "broken.gz").write_bytes(b"not gzip")
    (tmp_path / "a.txt").write_text("plain", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    assert list(sources._texts([tmp_path], (".txt", ".gz"))) == ["plain", "packed"]


def test_documents_are_small_pieces_that_each_half_has_many_of(monkeypatch: pytest.MonkeyPatch) -> None:
    book = "".join(f"line {i} of one long file\n" for i in range(3000))
    monkeypatch.setitem(sources.SOURCES, "code", lambda: iter([book]))
    held = sources.gather("code", 10**9)
    assert "".join(held) == book
    assert len(held) >= 19
    assert max(map(len, held)) <= 4096


def test_gathering_takes_each_document_once_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "code", lambda: iter(["short", TEXT, TEXT, f"1{TEXT}", f"2{TEXT}"]))
    assert sources.gather("code", len(TEXT) + 1) == [TEXT, f"1{TEXT}"]
    assert sources.gather("code", 10**9) == [TEXT, f"1{TEXT}", f"2{TEXT}"]


def test_errors_and_cover_by_hand() -> None:
    found = run.Recovered({"a": 0.7, "b": 0.3}, {"a": 0.6, "b": 0.4}, {"a": 0.5, "b": 0.35}, {"a": 0.75, "b": 0.5})
    assert found.error == pytest.approx(0.1)
    assert found.covered == 1
    sure = replace(found, share={"a": 0.7, "b": 0.3}, low={"a": 0.0, "b": 0.0}, high={"a": 1.0, "b": 1.0})
    summary = run._summary([found, sure])
    assert (summary["n"], summary["covered"]) == (2, 0.75)
    assert summary["mae"] == pytest.approx(0.05)
    assert summary["worst_mae"] == pytest.approx(0.1)


def test_a_world_and_its_degenerate_kin_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SMALL_MERGES", 300)
    assert run._degenerate(made_up(3, 200_000, 2)) == {
        "sound_is_clear": True,
        "missing_is_said": True,
        "twice_is_said": True,
    }


def here(paths: Mapping[str, Path], folder: Path, merges: int) -> dict[str, Any]:
    """The command in this process, inline."""
    tokenizer = next(iter(paths.values())).parent / "tokenizer.json"
    corpora = [word for name, path in paths.items() for word in ("--corpora", f"{name}={path}")]
    where = ["--lake", str(folder / "lake"), "--name", "bench", "--overwrite", "bench", "--format", "json"]
    flags = [
        "--tokenizer",
        str(tokenizer),
        "--max-merges",
        str(merges),
        "--engine",
        "inline",
        "--resamples",
        "10",
        *where,
    ]
    result = CliRunner().invoke(app, ["mixture", "tokenizer", *corpora, *flags])
    assert result.exit_code == 0, result.output
    return {**json.loads(result.stdout), "wall_s": 1.5, "all_peak_mib": 100.0}


def test_the_record_holds_shares_seconds_and_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = {"missing_is_said": True}
    monkeypatch.setattr(run, "_command", here)
    monkeypatch.setattr(run, "real", made_up)
    monkeypatch.setattr(run, "_degenerate", lambda world: verdict)
    monkeypatch.setattr(run, "SMALL_MERGES", 200)
    monkeypatch.setattr(run, "SMALL_BYTES", 100_000)
    assert run.bench_mixture(merges=200, sources=2, size="200KB", worlds=1)
    output = capsys.readouterr().out
    (line,) = lines_of(output)
    results = line["results"]
    assert line["benchmark"] == "mixture"
    assert set(results["phases_s"]) == {"weigh", "count", "merge", "solve", "resample"}
    assert results["merges_used"] == 200
    assert set(results["phases_peak_mib"]) == set(results["phases_s"])
    assert results["peak_mib"] == 100.0
    assert results["mae"] <= run.WITHIN
    assert set(results["shares"]) == set(line["config"]["trained_bytes"])
    assert "mean absolute error" in output


@pytest.mark.parametrize(("found", "is_said", "verdict"), [(1.0, True, True), (1.0, False, False), (0.9, True, False)])
def test_the_verdict_is_of_the_small_worlds(
    monkeypatch: pytest.MonkeyPatch, found: float, is_said: bool, verdict: bool
) -> None:
    names = ("seconds", "constraints", "rounds", "merges_used", "misfit", "is_misfit")
    rows = [{"corpus": f"language-{i}", "share": 0.5, "share_low": None, "share_high": None} for i in range(2)]
    last = {
        **dict.fromkeys(names, 0),
        "seconds": {},
        "peak_mib": {},
        "shares": rows,
        "wall_s": 1.0,
        "all_peak_mib": 1.0,
    }
    small = run.Recovered({"a": 1.0}, {"a": found}, {"a": 0.0}, {"a": 1.0})
    monkeypatch.setattr(run, "_command", lambda paths, folder, merges: last)
    monkeypatch.setattr(run, "real", made_up)
    monkeypatch.setattr(run, "_small", lambda world: small)
    monkeypatch.setattr(run, "_degenerate", lambda world: {"missing_is_said": is_said})
    assert run.bench_mixture(merges=100, sources=2, size="100KB", worlds=1) is verdict


def test_a_command_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = {"a": tmp_path / "a.jsonl"}
    with pytest.raises(RuntimeError, match="exit code 2"):
        run._command(paths, tmp_path, 300)


@pytest.mark.parametrize("size", ["much", "10B"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(typer.BadParameter, match="--size"):
        run.bench_mixture(size=size)
