"""The benchmarks in miniature: clocks, memory, first use and the suite's record; no speed is asserted."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from output import unfolded
from typer.testing import CliRunner

from jobs.bench import first_use, machine, memory, products, suite
from jobs.bench.measure import Timing, show, take_turns
from jobs.bench.targets import TARGETS, lines_of
from jobs.cli import app
from schemas.flow import TOKENIZED


def test_products_are_timed_and_held_against_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "ROWS", 32)
    monkeypatch.setattr(products, "SIZES", ((1600, 16),))
    done = CliRunner().invoke(app, ["bench", "products", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    found = {r["product"]: r for r in lines_of(done.output)[-1]["results"]}
    assert found.keys() == {"torch", "scoring", "one run"}
    assert all(r["gflops"] > 0 and 1e-9 < r["error"] < 1e-6 for r in found.values())
    assert found["scoring"]["error"] < found["one run"]["error"]


def test_variants_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    ticks = itertools.count(1.0)

    def clock(run: object) -> float:
        assert callable(run)
        run()
        return next(ticks)

    timings = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, clock)
    assert order == ["a", "b"] * 3
    assert timings == {"a": Timing((3.0, 5.0)), "b": Timing((4.0, 6.0))}
    assert timings["b"].ratio(timings["a"]) == pytest.approx((4 / 3 + 6 / 5) / 2)


def test_tables_in_a_file_are_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    show("title", ["name", "number", "why"], [["a" * 60, "1", "w " * 40]], ("why",))
    assert len(capsys.readouterr().out.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA L40S", "l40s"),
        ("Some Device (rev 2)", "some-device-rev-2"),
    ],
)
def test_accelerators_have_short_names(name: str, short: str) -> None:
    assert machine.short_name(name) == short


def test_a_record_names_the_machine_but_not_the_host() -> None:
    facts = machine.machine()
    assert {"processor", "cores", "memory_gib", "load"} <= set(facts)
    assert os.uname().nodename not in json.dumps(facts)
    assert machine.versions()["torch"] == torch.__version__


def test_growth_is_told_from_noise() -> None:
    tokens = list(range(100_000, 20_100_000, 100_000))
    noise = np.random.default_rng(0).normal(0, 3, len(tokens))
    flat = memory.growth(tokens, [600 + n for n in noise])
    leak = memory.growth(tokens, [600 + n + 2e-6 * t for n, t in zip(noise, tokens, strict=True)])
    assert abs(flat.share) < 0.005
    assert leak.share == pytest.approx(30 / 602.5, abs=0.005)  # 2 MiB a million tokens, quarters 15 million apart
    assert leak.slope == pytest.approx(2.0, abs=0.3)
    assert memory.growth([1, 2, 3, 4], [600.0, 700.0, 601.0, 601.0]).peak == 700.0


def test_blocks_are_what_the_scorer_takes() -> None:
    first, second = itertools.islice(memory.blocks(seed=0), 2)
    assert first.schema == TOKENIZED
    assert len(first) == memory.BLOCK_DOCUMENTS
    assert first["token_id"].combine_chunks().value_lengths() != second["token_id"].combine_chunks().value_lengths()


def test_memory_is_measured_over_real_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    memory.bench_memory(1)
    (line,) = lines_of(capsys.readouterr().out)
    assert line["config"]["blocks"] == 8
    assert not line["config"]["enough"]
    assert line["results"]["peak_mib"] >= line["results"]["last_quarter_mib"] > 50
    # Random ids under a random model: near the uniform log-prob, ln 2048 = 7.62.
    assert -line["config"]["logprob_sum"] / line["config"]["tokens"] == pytest.approx(np.log(2048), rel=0.05)


def test_help_is_timed_in_processes_of_its_own() -> None:
    found = first_use.time_help(2)
    assert 0.01 < found["help_s"] < 30
    assert 0.01 < found["help_first_s"] < 30


def test_a_folder_with_a_demo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").touch()
    done = CliRunner().invoke(app, ["bench", "first-use", "--folder", str(tmp_path)])
    assert done.exit_code == 2
    assert "it is not empty" in unfolded(done.output)


def test_what_the_demo_prints_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "demo: 320 documents, 119,921 tokens in 21 s\n\nmin_k            0.959  0.931 .. 0.977\n"
    monkeypatch.setattr(first_use, "ASSAY", (sys.executable, "-c", f"print({said!r})"))
    found = first_use.time_demo(tmp_path)
    assert (found["documents"], found["tokens"], found["auroc"]) == (320, 119_921, 0.959)
    monkeypatch.setattr(first_use, "ASSAY", (sys.executable, "-c", "print('nothing')"))
    with pytest.raises(RuntimeError, match="no result: nothing"):
        first_use.time_demo(tmp_path)


def fake_steps(monkeypatch: pytest.MonkeyPatch, *steps: suite.Step) -> None:
    monkeypatch.setattr(suite, "steps", lambda demo: list(steps))


def test_the_suite_records_what_ran_what_failed_and_what_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "cuda_device", lambda: None)
    fake_steps(
        monkeypatch,
        suite.Step("first-use", ("--no-demo", "--rounds", "1")),
        suite.Step("statistics", ("--shape", "nonsense")),
        suite.Step("query", needs=("no_such_package",)),
        suite.Step("device", cuda=True),
    )
    path = suite.bench_all(False, tmp_path / "record.txt")
    text = path.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    lines = lines_of(text)
    assert [line["benchmark"] for line in lines] == ["all", "first-use", "statistics", "query", "device", "targets"]
    assert lines[0]["machine"]["cores"] >= 1
    assert lines[1]["results"]["help_s"] > 0
    assert "it failed with exit code 2" in lines[2]["skipped"]
    assert lines[3]["skipped"] == "no_such_package is not installed"
    assert lines[4]["skipped"] == "there is no CUDA device"
    judged = lines[5]["results"]
    assert set(judged) == {target.says for target in TARGETS}
    assert judged["`assay --help`"]["value"] == lines[1]["results"]["help_s"]
    assert judged["Query: Min-K%"] == {"verdict": "not measured", "value": None, "why": lines[3]["skipped"]}


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ("--no-demo", "--rounds", "1")
    fake_steps(monkeypatch, suite.Step("first-use", quick=quick), suite.Step("memory"))
    real = suite._process

    def interrupted(command: list[str], say: object) -> tuple[int, int, str]:
        if "memory" in command:
            raise KeyboardInterrupt
        return real(command, say)  # type: ignore[arg-type]

    monkeypatch.setattr(suite, "_process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        suite.bench_all(True, tmp_path / "record.txt")
    lines = lines_of((tmp_path / "record.txt").read_text(encoding="utf-8"))
    assert [line["benchmark"] for line in lines] == ["all", "first-use"]


def test_a_benchmark_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "STEP_SECONDS", 1)
    started = time.monotonic()
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code, _, _ = suite._process([sys.executable, "-c", child], lambda text: None)
    assert code == -9
    assert time.monotonic() - started < 30


def test_every_step_names_options_that_exist(tmp_path: Path) -> None:
    for step in suite.steps(tmp_path / "demo"):
        helped = CliRunner().invoke(app, ["bench", step.verb, "--help"], terminal_width=200)
        assert helped.exit_code == 0, step.verb
        for option in (o for o in (*step.full, *step.quick) if o.startswith("--")):
            assert option in helped.output, (step.verb, option)


def test_records_are_never_overwritten(tmp_path: Path) -> None:
    assert suite.free_path(tmp_path, "day") == tmp_path / "day.txt"
    (tmp_path / "day.txt").touch()
    (tmp_path / "day-2.txt").touch()
    assert suite.free_path(tmp_path, "day") == tmp_path / "day-3.txt"


def test_an_existing_record_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "day.txt").write_text("kept")
    done = CliRunner().invoke(app, ["bench", "all", "--only", "storage", "--output", str(tmp_path / "day.txt")])
    assert done.exit_code == 1
    assert (tmp_path / "day.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("only", "runs"),
    [
        (["extraction"], ["first-use", "extraction"]),
        (["storage", "products"], ["first-use", "products", "storage"]),
        (["overlap"], ["overlap"]),
    ],
)
def test_what_reads_the_demo_has_it_made_first(tmp_path: Path, only: list[str], runs: list[str]) -> None:
    assert [step.verb for step in suite.chosen(suite.steps(tmp_path), only)] == runs
    assert suite.chosen(suite.steps(tmp_path), []) == suite.steps(tmp_path)


def test_an_unknown_benchmark_is_refused_before_a_record_is_begun(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "all", "--only", "foo", "--output", str(tmp_path / "day.txt")])
    assert done.exit_code == 2
    assert "--only foo: choose from" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"some text\n", b"\xff\xfe\x00"])
def test_what_is_no_record_is_not_judged(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    done = CliRunner().invoke(app, ["bench", "targets", str(tmp_path / "file")])
    assert done.exit_code == 2
    assert ("is no record" if content == b"some text\n" else "cannot be read") in unfolded(done.output)


def test_a_record_that_cannot_be_written_is_known_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "all", "--output", str(tmp_path / "none" / "record.txt")])
    assert done.exit_code == 1
    assert "$ assay" not in done.output


def test_the_device_benchmark_needs_neither_ray_nor_duckdb() -> None:
    unwanted = "('ray', 'duckdb', 'pydantic', 'sklearn', 'scipy')"
    code = (
        f"import sys\nfor name in {unwanted}: sys.modules[name] = None\nimport jobs.bench.device, jobs.bench.statistics"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
