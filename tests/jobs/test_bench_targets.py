"""Targets against records: every rule decides both ways, and nothing that was not measured looks as if it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.targets import SUITE, TARGETS, Target, Verdict, bench_targets, judge, lines_of, shown

RECORDS = Path(__file__).parents[2] / "infra" / "benchmarks"


def line_with(target: Target, value: Any) -> dict[str, Any]:
    """A record's line in which the target finds `value`."""
    results: Any = value
    for key in reversed(target.path):
        results = {key: results}
    config = {k: v[0] if isinstance(v, tuple) else v for k, v in target.where.items()}
    return {"benchmark": target.benchmark, "config": config, "results": results}


def verdict_on(target: Target, *lines: dict[str, Any]) -> Verdict:
    (found,) = [v for v in judge(lines) if v.target is target]
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.says)
def test_each_target_is_met_at_its_limit_and_missed_beyond(target: Target) -> None:
    if target.sense == "stated":
        assert verdict_on(target, line_with(target, 0.4)).word == "met"
        return
    beyond = target.limit * (0.999 if target.sense == "at least" else 1.001)
    assert verdict_on(target, line_with(target, target.limit)).word == "met"
    assert verdict_on(target, line_with(target, beyond)).word == "not met"


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.says)
def test_without_a_number_there_is_a_reason(target: Target) -> None:
    for lines in ([], [line_with(target, None)], [line_with(target, "fast")], [line_with(target, True)]):
        found = verdict_on(target, *lines)
        assert (found.word, found.value) == ("not measured", None)
        assert found.why


def test_another_machine_or_shape_does_not_count() -> None:
    for target in TARGETS:
        for key in target.where:
            line = line_with(target, target.limit)
            line["config"][key] = "another"
            assert verdict_on(target, line).word == "not measured"


def test_a_failure_is_the_reason_and_the_last_number_counts() -> None:
    target = TARGETS[0]
    failed = {"benchmark": target.benchmark, "skipped": "it failed with exit code 1: out of memory"}
    assert verdict_on(target, failed).why == failed["skipped"]
    assert verdict_on(target, line_with(target, 0.5), line_with(target, 0.95)).word == "met"
    assert verdict_on(target, line_with(target, 0.95), line_with(target, 0.5)).word == "not met"


def test_a_quick_run_says_so() -> None:
    target = TARGETS[0]
    quick = {"benchmark": SUITE, "config": {"quick": True}}
    assert "quick" in verdict_on(target, quick, line_with(target, 0.95)).why
    assert verdict_on(target, {"benchmark": SUITE, "config": {"quick": False}}, line_with(target, 0.95)).why == ""


def test_lines_are_found_among_tables_and_broken_lines_passed_over() -> None:
    line = {"benchmark": "x", "results": {}}
    text = f"$ assay bench x\ntable  1\n{json.dumps(line)}\n{{broken\n{{}}\n[1]\n"
    assert lines_of(text) == [line]


def test_numbers_are_printed_with_their_unit() -> None:
    assert (shown(0.9, ""), shown(2.2, "x"), shown(35, " M tokens/s")) == ("90.0%", "2.2x", "35 M tokens/s")
    assert (shown(1792, " MiB"), shown(999.4, " s")) == ("1,792 MiB", "999 s")


def test_a_stored_record_is_judged_again(capsys: pytest.CaptureFixture[str]) -> None:
    bench_targets(RECORDS / "2026-11-21-cpu-2-cores.txt")
    said = capsys.readouterr().out
    rows = {target.says: next(row for row in said.splitlines() if row.startswith(target.says)) for target in TARGETS}
    assert "2.47x" in rows["CPU, gpt2-small: against the research loop, same columns"]
    assert " met " in rows["CPU, wide: against lm-evaluation-harness, batch 1"]
    assert "not met" in rows["Storage: core columns"]
    assert all("not measured" in row for says, row in rows.items() if says.startswith("CUDA"))
