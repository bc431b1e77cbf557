"""Whether rows keep their bits among other neighbours: found out by trying, with the fall-backs that follow."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import families
import pytest
import small
import torch
from torch import Tensor, nn
from transformers.activations import FastGELUActivation, NewGELUActivation

from operators.activations import use_single_pass
from operators.body import exact
from operators.body.agree import AGREEMENT
from operators.body.frame import Bounds
from operators.body.probe import moved_rows, probe_bounds
from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Moves:
    """Hidden states that are those of the ids, but for a change that depends on the batch."""

    def __init__(self, kind: str) -> None:
        self.kind, self.calls = kind, 0

    def __call__(self, ids_T: Tensor, bounds: Bounds) -> Tensor:
        self.calls += 1
        out = ids_T[:, None].repeat(1, 4).float()
        if self.kind == "place":
            out[1::64, 2] += 1e-3
        if self.kind == "neighbours":
            for a, b in bounds:
                out[a:b] += 1e-4 * len(bounds)
        if self.kind == "size" and len(ids_T) > 200:
            out[:, 3] *= 1 + 1e-6
        return out


@pytest.mark.parametrize(("kind", "found"), [("nothing", False), ("place", True), ("neighbours", True), ("size", True)])
def test_rows_that_move_are_found(kind: str, found: bool) -> None:
    assert (moved_rows(Moves(kind), 331, 40, 512, 100) > 0) == found


@pytest.mark.parametrize("room", [40, 41, 42, 60, 5000])
def test_the_probe_stays_within_its_room(room: int) -> None:
    def hidden(ids_T: Tensor, bounds: Bounds) -> Tensor:
        assert bounds[0][0] == 0
        assert [a for a, _ in bounds[1:]] == [b for _, b in bounds[:-1]]
        assert bounds[-1][1] == len(ids_T) <= room
        assert all(64 >= b - a > 0 for a, b in bounds)
        return ids_T[:, None].float()

    assert moved_rows(hidden, 331, 40, room, 64) == 0


def test_probe_bounds_fit_a_short_context() -> None:
    assert probe_bounds(96) == [(0, 96), (96, 97), (97, 134), (134, 136), (136, 141)]
    assert probe_bounds(2) == [(0, 2), (2, 3), (3, 5), (5, 7), (7, 9)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "mamba"])
def test_a_cpu_keeps_its_bits(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = ScoringModel(families.make_model(family, sharpness=3.0), deterministic=True)
    packed, before = model.packed, list(caplog.records)
    model.prepare(1024, 64)
    assert model.packed == packed
    assert caplog.records == before


def test_packed_rows_that_move_run_one_segment_at_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = ScoringModel(families.make_model("llama"), deterministic=True)
    plain = type(model.body).__call__
    monkeypatch.setattr(type(model.body), "__call__", lambda s, ids, bounds: plain(s, ids, bounds) + 1e-3 * len(bounds))
    model.prepare(512, 64)
    assert not model.packed
    assert "segments run one at a time for --deterministic" in caplog.text
    ids = torch.arange(30)
    assert torch.equal(model.hidden(ids, [(0, 10), (10, 30)])[10:], model.hidden(ids[10:], [(0, 20)]))


def test_bits_that_cannot_be_kept_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without repeatable algorithms: noise stands for them."""
    model = ScoringModel(families.make_model("llama"), deterministic=True)
    monkeypatch.setattr(model, "_alone", lambda ids: torch.randn(len(ids), 48))
    model.packed = False
    with pytest.raises(ModelError, match="--deterministic cannot be kept: score without it"):
        model.prepare(512, 64)


def test_without_the_flag_nothing_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScoringModel(families.make_model("llama"))
    monkeypatch.setattr(model, "_check_bits", lambda *_: pytest.fail("probed"))
    model.prepare(512, 64)


def test_a_fixed_size_cannot_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows before and after would be computed at two sizes."""
    model = ScoringModel(families.make_model("llama"), deterministic=True)
    model.body.repeatable = True
    model.body.prepare(512, 64, recording=False)
    model.shrink(512)
    with pytest.raises(ModelError, match="--batch-tokens 256 or less"):
        model.shrink(256)


def test_settings_are_restored() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with exact.repeatable(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.are_deterministic_algorithms_enabled() == before
    with pytest.raises(KeyError), exact.repeatable(True):
        raise KeyError
    assert torch.are_deterministic_algorithms_enabled() == before
    assert torch.utils.deterministic.fill_uninitialized_memory
    with exact.repeatable(False):
        assert torch.are_deterministic_algorithms_enabled() == before


def test_a_cpu_run_leaves_the_process_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    folder = small.make_model_folder(tmp_path / "model")
    model = ScoringModel.load(ModelOptions(str(folder), device="cpu", deterministic=True, compile=False))
    model.prepare(256, 64)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.parametrize("activation", [NewGELUActivation(), FastGELUActivation()])
def test_single_pass_gelu_is_the_same_function(activation: nn.Module) -> None:
    """Within rounding of float32: no further from float64 than the spelt-out form, and one unit."""
    module = nn.Sequential(copy.deepcopy(activation), nn.Sequential(activation), nn.ReLU())
    assert use_single_pass(module) == 2
    assert use_single_pass(module) == 0
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([0.0, 1e-30, -1e-30, 1e4, -1e4])])
    truth = activation(x.double())
    ours, theirs = (module[0](x).double() - truth).abs(), (activation(x).double() - truth).abs()
    assert ours.max() <= theirs.max() + torch.finfo(torch.float32).eps
    assert isinstance(module[2], nn.ReLU)


def test_gpt2_is_scored_with_the_single_pass() -> None:
    model = ScoringModel(families.make_model("gpt2"))
    assert not any(isinstance(m, NewGELUActivation) for m in model.model.modules())


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_cuda_agrees_with_float64(family: str, dtype: torch.dtype) -> None:
    """Fixed sizes, first pass and replay, against float64 on the CPU, no further off than twice the plain model."""
    source = families.make_model(family, sharpness=2.0, dtype=dtype)
    model = ScoringModel(copy.deepcopy(source).cuda())
    model.prepare(1024, 100)
    assert model.packed
    ids, bounds = torch.randint(0, 331, (200,)), [(0, 100), (100, 101), (101, 200)]
    truth_model, plain_model = copy.deepcopy(source).double().base_model, copy.deepcopy(source).cuda().base_model
    with torch.inference_mode():
        truth = torch.cat([truth_model(input_ids=ids[None, a:b]).last_hidden_state[0] for a, b in bounds])
        plain = torch.cat([plain_model(input_ids=ids[None, a:b].cuda()).last_hidden_state[0] for a, b in bounds])
        allowed = 2 * (plain.cpu().double() - truth).pow(2).mean().sqrt() + 1e-6
        for _ in range(3):
            assert (model.hidden(ids, bounds).cpu().double() - truth).pow(2).mean().sqrt() <= allowed


@pytest.mark.gpu
@CUDA
def test_cuda_rows_keep_their_bits_where_that_is_asked_for() -> None:
    model = ScoringModel(families.make_model("llama", dtype=torch.bfloat16).cuda(), deterministic=True)
    model.prepare(1024, 100)
    assert moved_rows(model.hidden, 331, 90, 1024, 100) == 0


@pytest.mark.gpu
@CUDA
def test_cuda_rows_keep_their_numbers_otherwise() -> None:
    model = ScoringModel(families.make_model("llama", dtype=torch.bfloat16).cuda())
    model.prepare(1024, 100)
    ids = torch.randint(0, 331, (90,))
    alone = model.hidden(ids, [(0, 90)]).clone()
    packed = model.hidden(torch.cat([torch.arange(30), ids]), [(0, 30), (30, 120)])[30:]
    assert (packed - alone).abs().max() <= AGREEMENT[torch.bfloat16] * alone.abs().max()
