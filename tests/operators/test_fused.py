"""The Triton kernel, interpreted, is held to what the torch kernel is held to; and it compiles for real devices."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads import ALL, check_against_plain, float64_logits, head_of, rows_for

pytest.importorskip("triton")

import oracle

from operators.head import GivenLogits, LogitShape, VocabularyHead
from operators.statistics import TiledStatistics, TileOptions, choose, kernel, make_statistics
from operators.statistics.fused import FusedStatistics
from operators.statistics.launch import DEFAULT_LAUNCH, LAUNCHES, Launch, tuned
from operators.statistics.state import FLOOR, POWERS

SMALL = Launch(64, 64, 32, warps=4, stages=2)
DESCRIBED = replace(SMALL, described=True)
CORE: frozenset[str] = frozenset()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

needs_interpreter = pytest.mark.skipif(not choose.interpreted(), reason="a CUDA device is there: kernels are compiled")


def fused(head: VocabularyHead, groups: frozenset[str] = ALL, launch: Launch = SMALL) -> FusedStatistics:
    return FusedStatistics(head, groups, TileOptions(kernel="triton", rows=128), launch)


def run(head: VocabularyHead, hidden: torch.Tensor, target: torch.Tensor, **how: object) -> dict[str, torch.Tensor]:
    there = VocabularyHead(
        head.weight_VD.to(DEVICE), None if head.bias_V is None else head.bias_V.to(DEVICE), head.shape
    )
    got = fused(there, **how)(hidden.to(DEVICE), target.to(DEVICE))  # type: ignore[arg-type]
    return {name: values.cpu() for name, values in got.items()}


@pytest.mark.parametrize("scale", [0.01, 3.0, 25.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("launch", [SMALL, DESCRIBED])
def test_flat_to_peaked_rows(scale: float, bias: bool, launch: Launch) -> None:
    head = head_of(scale, bias=bias, vocab=150)
    hidden, target = rows_for(head, 24)
    check_against_plain(run(head, hidden, target, launch=launch), head, hidden, target)


@pytest.mark.parametrize("shape", [LogitShape(0.25), LogitShape(1.0, 5.0), LogitShape(2.0, 30.0)])
def test_scaled_and_soft_capped_logits(shape: LogitShape) -> None:
    head = head_of(8.0, shape=shape, vocab=150)
    hidden, target = rows_for(head, 24)
    check_against_plain(run(head, hidden, target), head, hidden, target)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_factors_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    head = head_of(3.0, dtype=dtype, vocab=150)
    hidden, target = rows_for(head, 24)
    check_against_plain(run(head, hidden, target), head, hidden, target)


@pytest.mark.parametrize(("vocab", "width"), [(2, 48), (3, 31), (63, 32), (64, 33), (65, 7), (130, 100)])
def test_odd_vocabularies_and_widths(vocab: int, width: int) -> None:
    head = head_of(3.0, vocab=vocab, width=width)
    hidden, target = rows_for(head, 20)
    truth = oracle.statistics(float64_logits(head, hidden), target)
    got = run(head, hidden, target)
    for name in ("logprob", "entropy", "logprob_std", "logprob_second", "topk_logprob"):
        torch.testing.assert_close(got[name].double(), truth[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(got["rank"].long(), truth["rank"])
    assert got["topk_id"].shape[1] == min(10, vocab)


def test_equal_to_the_torch_kernel_within_rounding() -> None:
    head = head_of(4.0, vocab=300)
    hidden, target = rows_for(head, 24)
    tiled = TiledStatistics(head, ALL, TileOptions(compiled=False))(hidden, target)
    got = run(head, hidden, target)
    assert set(got) == set(tiled)
    for name, values in tiled.items():
        torch.testing.assert_close(got[name], values, rtol=2e-5, atol=4e-6)


def test_a_row_does_not_depend_on_its_neighbours_or_their_number() -> None:
    head = head_of(3.0, vocab=150)
    hidden, target = rows_for(head, 100)
    together = run(head, hidden, target, groups=ALL)
    for start, stop in ((0, 1), (63, 66), (17, 90)):
        alone = run(head, hidden[start:stop], target[start:stop], groups=ALL)
        for name, values in alone.items():
            assert torch.equal(values, together[name][start:stop]), name


def test_splits_of_the_vocabulary_change_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(6.0, vocab=330)
    hidden, target = rows_for(head, 16)
    results = []
    for cores in (1, 3, 50):
        monkeypatch.setattr("operators.statistics.fused._cores", lambda device, cores=cores: cores)
        statistics = fused(head)
        results.append(statistics(hidden, target))
    assert statistics._splits == 6
    for name, values in results[0].items():
        for other in results[1:]:
            torch.testing.assert_close(values, other[name], rtol=1e-5, atol=2e-6)


def test_equal_logits_give_the_uniform_distribution() -> None:
    head = VocabularyHead(torch.zeros(150, 8))
    got = run(head, torch.randn(3, 8), torch.arange(3))
    assert got["rank"].tolist() == [1, 1, 1]
    torch.testing.assert_close(got["entropy"], torch.full((3,), float(np.log(150))))
    assert got["logprob_std"].max() < 1e-15
    assert torch.isneginf(got["logprob_second"]).all()
    assert got["top1_id"].tolist() == [0, 0, 0]


@needs_interpreter
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_broken_logits_show(bad: float) -> None:
    weight = torch.randn(200, 8)
    hidden = torch.randn(2, 8)
    weight[:, 7], hidden[0, 7] = 0.0, 1.0
    hidden[1, 7] = bad
    got = run(VocabularyHead(weight), hidden, torch.tensor([3, 3]))
    assert torch.isfinite(got["entropy"][0])
    assert not torch.isfinite(got["entropy"][1])


def test_a_bias_of_minus_infinity_masks_an_entry() -> None:
    head = head_of(2.0, vocab=140, bias=True)
    assert head.bias_V is not None
    head.bias_V[100:] = -torch.inf
    hidden, _ = rows_for(head, 20)
    target = torch.arange(20)
    truth = oracle.statistics(float64_logits(head, hidden)[:, :100], target)
    got = run(head, hidden, target)
    for name in ("logprob", "entropy", "logprob_std", "renyi_quarter", "renyi_half", "logprob_uniform"):
        torch.testing.assert_close(got[name].double(), truth[name], rtol=1e-4, atol=1e-5)


def test_the_renyi_entropies_of_a_point_mass_are_zero_however_many_entries_are_masked() -> None:
    head = head_of(0.0, vocab=400, bias=True)
    assert head.bias_V is not None
    head.bias_V[:] = -torch.inf
    head.bias_V[130] = 5.0
    got = run(head, torch.randn(3, head.width), torch.full((3,), 130))
    assert got["renyi_quarter"].tolist() == [0, 0, 0]
    head.bias_V[[7, 390]] = 5.0 - 100.0
    got = run(head, torch.randn(3, head.width), torch.full((3,), 130))
    expected = (4 * np.log1p(2 * np.exp(-25.0)) - np.log1p(2 * np.exp(-100.0))) / 3
    torch.testing.assert_close(got["renyi_quarter"], torch.full((3,), float(expected)), rtol=1e-5, atol=0)


def test_tied_tokens_share_the_best_rank() -> None:
    weight = torch.randn(190, 48)
    weight[[90, 180]] = weight[7].clone()
    head, hidden = VocabularyHead(weight), torch.randn(64, 48)
    ranks = [run(head, hidden, torch.full((64,), token), groups=CORE)["rank"] for token in (7, 90, 180)]
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], ranks[2])


@pytest.mark.parametrize("vocab", [32_000, 128_256, 262_144])
@pytest.mark.parametrize("width", [2048, 8192])
def test_memory_beyond_the_weights_stays_under_64_mib(vocab: int, width: int) -> None:
    weight = torch.empty(vocab, width, dtype=torch.bfloat16, device="meta")
    for groups in (CORE, ALL):
        statistics = FusedStatistics(VocabularyHead(weight), groups, TileOptions(), DEFAULT_LAUNCH)
        assert statistics.nbytes < 64 << 20


def test_the_kernel_is_chosen_by_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(1.0)
    assert isinstance(make_statistics(head, options=TileOptions(compiled=False)), TiledStatistics)
    given = GivenLogits(10, torch.device("cpu"))
    with pytest.raises(ValueError, match="cannot be separated"):
        make_statistics(given, options=TileOptions(kernel="triton"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="needs a CUDA device, and the model is on cpu"):
        make_statistics(head, options=TileOptions(kernel="triton"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton is not installed"):
        make_statistics(head, options=TileOptions(kernel="triton"))
    with pytest.raises(ValueError, match="choose from"):
        TileOptions(kernel="cuda")  # type: ignore[arg-type]


def test_weights_that_descriptors_cannot_name_are_refused() -> None:
    head = head_of(1.0, width=47)
    with pytest.raises(ValueError, match="multiples of 16 bytes"):
        run(head, *rows_for(head, 4), launch=DESCRIBED)


@needs_interpreter
def test_a_kernel_that_gives_other_numbers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a wrong compiler would do on a device: found on the loaded weights, before a corpus is touched."""
    head = head_of(2.0, vocab=100)
    assert make_statistics(head, options=TileOptions(kernel="triton")).name == "triton"
    whole = FusedStatistics.run
    monkeypatch.setattr(
        FusedStatistics, "run", lambda self, n: {k: v + (k == "entropy") * 0.01 for k, v in whole(self, n).items()}
    )
    with pytest.raises(ValueError, match="entropy differs from the torch kernel's"):
        make_statistics(head, options=TileOptions(kernel="triton"))
    monkeypatch.setattr(FusedStatistics, "run", lambda self, n: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        make_statistics(head, options=TileOptions(kernel="triton"))


def test_the_kernel_repeats_the_constants_of_the_state() -> None:
    """Triton reads no Python constants that are not its own."""
    assert kernel._FLOOR.value == FLOOR
    assert kernel._LAST_POWER.value == POWERS[-1]


class TestTuning:
    """The choice of a launch: measured once, remembered, and never a reason to fail."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path

    def test_the_fastest_is_taken_and_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times = {launch: 5.0 + i for i, launch in enumerate(LAUNCHES)} | {LAUNCHES[3]: 1.0}
        monkeypatch.setattr("operators.statistics.launch._measure", lambda trial: times)
        assert tuned({"device": "a"}, lambda launch: lambda: None) == LAUNCHES[3]
        monkeypatch.setattr("operators.statistics.launch._measure", lambda trial: pytest.fail("measured again"))
        assert tuned({"device": "a"}, lambda launch: lambda: None) == LAUNCHES[3]

    def test_another_device_is_measured_for_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for device, best in (("a", LAUNCHES[1]), ("b", LAUNCHES[2])):
            monkeypatch.setattr("operators.statistics.launch._measure", lambda trial, best=best: {best: 1.0})
            assert tuned({"device": device}, lambda launch: lambda: None) == best

    def test_nothing_measured_gives_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("operators.statistics.launch._measure", lambda trial: {})
        assert tuned({"device": "a"}, lambda launch: lambda: None) == DEFAULT_LAUNCH

    @pytest.mark.parametrize("text", ["", "[]", '{"launch": {"rows": 1}}', '{"launch": {"rows": "x"}}'])
    def test_a_damaged_memory_is_measured_anew(self, cache: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("operators.statistics.launch._measure", lambda trial: {LAUNCHES[1]: 1.0})
        tuned({"device": "a"}, lambda launch: lambda: None)
        (path,) = cache.rglob("*.json")
        path.write_text(text)
        assert tuned({"device": "a"}, lambda launch: lambda: None) == LAUNCHES[1]
        assert json.loads(path.read_text())["key"] == {"device": "a"}


def compiled_for(capability: int) -> list[dict[str, Any]]:
    """What the compiler makes of every launch, in a process of its own where kernels are not interpreted."""
    script = Path(__file__).parents[1] / "support" / "compile_kernel.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, script, str(capability)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "product"), [(80, "mma.sync"), (90, "wgmma.mma_async")])
def test_it_compiles_for_devices_that_are_not_here(capability: int, product: str) -> None:
    """Ampere and Hopper: tensor cores in use, shared memory that fits; on Hopper no register of the core is spilled."""
    built = compiled_for(capability)
    assert len(built) == (len(LAUNCHES) if capability == 90 else 1) + 4
    heads = [k for k in built if k["kernel"] == "fused_head"]
    assert all(k["products"] == [product] for k in heads)
    assert all(k["products"] for k in built)
    core = {Launch(*k["launch"]): k for k in heads if not k["groups"]}
    assert core[DEFAULT_LAUNCH]["shared_bytes"] <= (227 if capability == 90 else 163) * 1024
    if capability == 90:
        assert {launch: k["stack_bytes"] for launch, k in core.items()} == dict.fromkeys(LAUNCHES, 0)
