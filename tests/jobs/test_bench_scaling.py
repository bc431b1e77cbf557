"""The scaling benchmark in miniature: what it reads off a run is what the run did, and other rows do not pass."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import runs
from typer.testing import CliRunner

from jobs.bench.scaling import corpus, run
from jobs.bench.scaling.corpus import SHARDS, documents, make_model, write_corpus
from jobs.bench.scaling.measured import Measured, digest, measure, phases, written_blocks
from jobs.bench.targets import judge, lines_of
from jobs.cli import app


@dataclass(frozen=True)
class World:
    """`folder`: a model, a corpus, and in lakes `a` and `b` the same run in blocks of other sizes; `a` was `measured`
    as a command."""

    folder: Path
    measured: Measured


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("scaling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "TRAINED_BYTES", 50_000)
        patch.setattr(corpus, "VOCABULARY", 400)
        patch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 1 << 13)
        patch.setattr("pipelines.plan.CPU_BLOCK_BYTES", 1 << 13)
        make_model(folder / "model", "tiny")
        write_corpus(folder / "corpus", 90_000)
        runs.run(folder / "model", folder / "corpus", folder / "b", "bench", device="cpu")
    engine = ("--engine", "inline")
    return World(folder, measure(folder / "model", folder / "corpus", folder / "a", 64, engine, actors=1, cores=1))


def test_the_corpus_is_of_its_size_and_always_the_same(tmp_path: Path) -> None:
    assert write_corpus(tmp_path / "a", 30_000) == write_corpus(tmp_path / "b", 30_000) > 20
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == SHARDS
    assert [f.read_text() for f in files] == [f.read_text() for f in sorted((tmp_path / "b").iterdir())]
    texts = [json.loads(line)["text"] for f in files for line in f.read_text().splitlines()]
    assert texts == list(itertools.islice(documents(), len(texts)))
    assert 30_000 <= sum(len(text.encode()) for text in texts) < 60_000


def test_blocks_come_from_receipts(world: World) -> None:
    few, many = written_blocks(world.folder / "a"), written_blocks(world.folder / "b")
    assert 2 <= len(few) < len(many)
    assert sum(n for _, n in few) == sum(n for _, n in many) > 20_000
    assert many == sorted(many)


def test_a_digest_is_of_rows_not_of_parts(world: World) -> None:
    lake = world.folder / "b"
    assert digest(lake) == world.measured.digest
    part = next((lake / "tokens" / "run_id=bench").iterdir())
    held = part.read_bytes()
    part.unlink()
    assert digest(lake) != world.measured.digest
    part.write_bytes(held)


def test_phases_of_a_run_worked_out_by_hand() -> None:
    # Started at 100; two actors load until 110; then 50 tokens/s each in blocks of 100.
    blocks = [(112.0, 100), (112.0, 100), (114.0, 100), (114.0, 100), (116.0, 100), (116.0, 100)]
    assert phases(blocks, 100.0, 2) == (100.0, 10.0)
    alone = [(112.0, 100), (114.0, 100), (116.0, 50)]
    rate, start = phases(alone, 100.0, 1)
    assert rate == pytest.approx(37.5)
    assert start == pytest.approx(12 - 100 / 37.5)
    with pytest.raises(RuntimeError, match="too few"):
        phases(blocks[:3], 100.0, 2)


TOKENS = 12_000


def result(rate: float, digest: str = "same") -> Measured:
    return Measured(
        seconds=1 + TOKENS / rate, start_s=1.0, tokens_per_s=rate, tokens=TOKENS, blocks=9, peak_bytes=1, digest=digest
    )


@dataclass(frozen=True)
class Invoked:
    """What the verb ended with, said, and how its targets were judged, by the last key of their number."""

    code: int
    results: dict[str, Any]
    words: dict[str, str]
    output: str


def invoked(monkeypatch: pytest.MonkeyPatch, other: str = "same", *, two: float = 188, plain: float = 100) -> Invoked:
    """The verb over runs of known speeds, of two actors and of the plain loop; the digest of the former is `other`."""
    monkeypatch.setattr(run, "make_model", lambda folder, shape: folder)
    monkeypatch.setattr(run, "bytes_a_second", lambda model, context: 100.0)
    monkeypatch.setattr(run, "usable_cores", lambda: 2)

    def measured(model: Path, corpus: Path, lake: Path, context: int, engine: tuple[str, ...], *, actors: int,
                cores: int) -> Measured:  # fmt: skip
        lake.mkdir()
        return {("inline", 1): result(plain), ("ray", 1): result(98), ("ray", 2): result(two, other)}[engine[1], actors]

    def at_once(model: Path, corpus: Path, lakes: list[Path], context: int) -> list[Measured]:
        for lake in lakes:
            lake.mkdir()
        return [result(99), result(97)]

    monkeypatch.setattr(run, "measure", measured)
    monkeypatch.setattr(run, "measure_at_once", at_once)
    done = CliRunner().invoke(app, ["bench", "scaling", "--seconds", "120"])
    (line,) = lines_of(done.output)
    words: dict[str, str] = {v.target.path[-1]: v.word for v in judge([line]) if v.target.benchmark == "scaling"}
    return Invoked(done.exit_code, line["results"], words, done.output)


def test_ratios_are_of_speeds_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoked(monkeypatch)
    ratios = done.results["ratios"]
    assert (done.code, done.results["rows_agree"]) == (0, True)
    assert ratios["two over one"] == pytest.approx(188 / 98)
    assert ratios["per core of inline"] == pytest.approx(0.94)
    assert ratios["machine, two over one"] == pytest.approx(1.96)
    assert done.words["two over one"] == done.words["per core of inline"] == "met"


def test_a_target_can_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = invoked(monkeypatch, two=181).words
    assert words["two over one"] == words["per core of inline"] == "not met"


def test_a_run_that_was_too_short_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is a guess from a few seconds: what counts is what the plain loop took."""
    done = invoked(monkeypatch, plain=121)
    assert set(done.words.values()) == {"not measured"}
    assert "not judged, give more --seconds" in done.output


def test_other_rows_are_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoked(monkeypatch, "other")
    assert (done.code, done.results["rows_agree"]) == (1, False)


def test_a_command_is_measured_as_a_user_gives_it(world: World) -> None:
    found = world.measured
    assert (found.tokens, found.blocks) == (sum(n for _, n in written_blocks(world.folder / "b")), 2)
    assert 0 < found.start_s < found.seconds
    assert found.peak_bytes > 100 << 20
