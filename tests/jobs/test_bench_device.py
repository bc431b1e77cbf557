"""The accelerator's benchmark on a CPU: every line runs, works and counts are right; no speed is asserted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from output import unfolded
from typer.testing import CliRunner

from jobs.bench import device_checks, device_variants
from jobs.bench.device import BARE, FULL, HEAD, LOOP, MIXED, PADDED, bench_device
from jobs.bench.device_work import flops, full_rows, mixed
from jobs.bench.shapes import random_model
from jobs.bench.targets import TARGETS, judge, lines_of
from jobs.cli import app
from schemas.flow import TOKENIZED


def test_works_hold_what_they_say() -> None:
    full, lengths = full_rows(3, 256, 512), mixed(4_096, 256, 512)
    assert (full.tokens, full.useful, full.lengths) == (768, 765, [256] * 3)
    assert lengths.tokens >= 4_096
    assert min(lengths.lengths) >= 16
    assert max(lengths.lengths) <= 256
    assert torch.cat(list(lengths.documents())).equal(lengths.ids_N)
    part = lengths.first(500)
    assert 500 <= part.tokens < 500 + 256
    assert part.ids_N.equal(lengths.ids_N[: part.tokens])
    assert lengths.first(10**9).lengths == lengths.lengths
    table = lengths.table()
    assert table.schema == TOKENIZED
    assert table["token_id"].combine_chunks().flatten().to_pylist() == lengths.ids_N.tolist()


def test_operations_are_counted_as_by_hand() -> None:
    model, work = random_model("tiny", "float32"), full_rows(1, 10, 512)
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128  # q o, k v of two heads of four, gate up down
    attention = 2 * 2 * 4 * 16 * 55 * 2  # two products of 2 operations, 4 heads of 16, 55 pairs, 2 layers
    assert flops(model, work) == 2 * 2 * layer * 10 + attention + 2 * 512 * 64 * 9


def test_the_variants_agree_on_the_log_probs() -> None:
    model, work = random_model("tiny", "float32"), mixed(1_000, 256, 512)
    sums = [
        device_variants.research_loop(model, work)(),
        device_variants.padded(model, work, logprob_only=True)(),
        device_variants.padded(model, work, logprob_only=False)(),
    ]
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-5)


def test_the_oracle_is_the_definition() -> None:
    hidden, weight, target = torch.randn(70, 8), torch.randn(11, 8), torch.arange(70) % 11
    truth = device_checks.oracle(hidden, weight, target)
    p = torch.softmax(hidden.double() @ weight.double().T, -1).numpy()
    assert truth["logprob"].numpy() == pytest.approx(np.log(p[np.arange(70), target]))
    assert truth["entropy"].numpy() == pytest.approx(-(p * np.log(p)).sum(1))
    assert truth["rank"].tolist() == [1 + int((row > row[t]).sum()) for row, t in zip(p, target.tolist(), strict=True)]
    assert set(device_checks.head_errors(truth, truth).values()) == {0.0}


@pytest.mark.slow
def test_the_whole_benchmark_runs_on_a_cpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # as a user runs it
    bench_device("cpu", "tiny", 1)
    said = capsys.readouterr().out
    (line,) = lines_of(said)
    results = line["results"]
    for variant in (BARE, FULL, MIXED, LOOP, PADDED, HEAD, "kernel torch"):
        assert variant in said
        assert results["tokens_per_s"][variant] > 0
        assert results["peak_mib"][variant] >= 0
    errors = results["errors"]
    assert errors["whole"]["rms_logprob_assay"] <= 2 * errors["whole"]["rms_logprob_plain"] < 1e-4
    assert errors["kernel torch"]["max_logprob"] < 1e-5
    assert "CUDA" in errors["kernel triton"]["skipped"]
    assert results["logprob_sum"][FULL] < 0 > results["logprob_sum"][MIXED]
    assert results["mfu"] == {}
    # What ran on a CPU keeps no promise made for an accelerator, though every number is there.
    verdicts = {v.target.says: v.word for v in judge(lines_of(said))}
    assert {verdicts[t.says] for t in TARGETS if t.benchmark == "device"} == {"not measured"}
    line["config"] |= {"device": "cuda", "shape": "1b", "hardware": "h100"}  # a record of the real thing
    judged = {v.target.path: v.word for v in judge([line]) if v.target.benchmark == "device"}
    assert judged.pop(("mfu", FULL)) == "not measured"
    assert set(judged.values()) <= {"met", "not met"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--device", "cpu", "--shape", "huge"), "choose from"),
        (("--device", "cpu", "--shape", "tiny", "--dtype", "int8"), "choose from"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], complaint: str) -> None:
    done = CliRunner().invoke(app, ["bench", "device", *arguments])
    assert done.exit_code == 2
    assert complaint in unfolded(done.output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_it_says_what_can_be_run() -> None:
    done = CliRunner().invoke(app, ["bench", "device"])
    assert done.exit_code == 2
    assert "no CUDA device here" in unfolded(done.output)
