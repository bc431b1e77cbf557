"""Where memory runs out: smaller batches, then smaller tiles, then one clear error; never another number."""

from __future__ import annotations

import copy
import gc
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence

import families
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from operators.budget import MIN_TILE_ROWS, Budget, smaller
from operators.failures import is_out_of_memory
from operators.head import VocabularyHead
from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel
from operators.score import GPU_BATCH_TOKENS, ScoreOptions, Scorer
from operators.statistics import ROW_ALIGNMENT, Statistics, TileOptions, make_statistics
from operators.windows import MIN_BATCH_TOKENS, WindowOptions, pack, segments
from schemas import FEATURE_GROUPS

LENGTHS = (1, 30, 2, 100, 33, 17, 64, 5, 90)
WINDOWS = WindowOptions(32, 16)
TILE_ROWS = 512
CPU_FULL = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
FAILURES = {
    "accelerator": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    "cuda": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory."),
    "cpu": lambda: RuntimeError(CPU_FULL),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
}

Failure = Callable[[], RuntimeError]


class CrampedModel(ScoringModel):
    """Its body fails on more than `limit` tokens, while tensors of the attempt are alive."""

    limit = 10**9
    failure: Failure = staticmethod(FAILURES["accelerator"])

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls: list[int] = []
        self.held: list[weakref.ref[Tensor]] = []
        super().__init__(model)
        self.calls.clear()

    def hidden(self, ids_T: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        states = super().hidden(ids_T, bounds)
        self.calls.append(len(ids_T))
        if len(ids_T) > self.limit:
            self.held.append(weakref.ref(states))
            raise self.failure()
        # What a failed attempt held must be gone by the time of the next.
        assert [ref for ref in self.held if ref() is not None] == []
        return states


class CrampedHead(VocabularyHead):
    """Fails on more than `limit` rows."""

    limit = 10**9

    def logits(self, hidden_RD: Tensor, first: int, out_RC: Tensor, scratch_CD: Tensor | None = None) -> None:
        if len(hidden_RD) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        super().logits(hidden_RD, first, out_RC, scratch_CD)


@pytest.fixture(scope="module")
def llama() -> torch.nn.Module:
    return families.make_model("llama", sharpness=3.0)


def scorer_of(model: torch.nn.Module, *, windows: WindowOptions = WINDOWS, tile_rows: int = TILE_ROWS) -> Scorer:
    tiles = TileOptions(rows=tile_rows, columns=128, compiled=False)
    options = ScoreOptions(ModelOptions("made here"), windows, FEATURE_GROUPS, tiles, 4096)
    scorer = Scorer(options, CrampedModel(copy.deepcopy(model)))
    head = scorer.model.head
    assert isinstance(head, VocabularyHead)
    scorer.model.head = scorer.statistics.head = CrampedHead(head.weight_VD, head.bias_V, head.shape)
    return scorer


def ids() -> Tensor:
    return torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def expected(llama: torch.nn.Module) -> dict[str, np.ndarray]:
    return scorer_of(llama).score(ids(), LENGTHS)


def assert_same_bits(columns: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(columns) == set(expected)
    for name, values in expected.items():
        assert values.tobytes() == columns[name].tobytes(), name


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(
    llama: torch.nn.Module, expected: dict[str, np.ndarray], failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = scorer_of(llama)
    scorer.model.limit, scorer.model.failure = 100, failure
    with caplog.at_level(logging.WARNING):
        assert_same_bits(scorer.score(ids(), LENGTHS), expected)
        halvings = len(caplog.records)
        assert_same_bits(scorer.score(ids(), LENGTHS), expected)
    assert 32 <= scorer.batch_tokens <= 100
    assert halvings == len(caplog.records) == 3  # 546 tokens in 9 documents' windows: 273, 136, 68
    assert all("out of memory" in record.message for record in caplog.records)
    assert scorer.statistics.options.rows == TILE_ROWS


def test_a_batch_shrinks_to_a_single_window(llama: torch.nn.Module, expected: dict[str, np.ndarray]) -> None:
    scorer = scorer_of(llama)
    scorer.model.limit = WINDOWS.context
    assert_same_bits(scorer.score(ids(), LENGTHS), expected)
    assert scorer.batch_tokens == WINDOWS.context


@pytest.mark.parametrize("limit", [MIN_TILE_ROWS, 150, 250])
def test_then_the_heads_tile_shrinks(
    llama: torch.nn.Module, expected: dict[str, np.ndarray], limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = scorer_of(llama)
    scorer.model.head.limit = limit
    assert_same_bits(scorer.score(ids(), LENGTHS), expected)
    warned = len(caplog.records)
    assert_same_bits(scorer.score(ids(), LENGTHS), expected)
    assert limit // 2 < scorer.statistics.options.rows <= limit
    assert warned == len(caplog.records)


@pytest.mark.parametrize("at_first", [True, False])
def test_memory_that_runs_out_while_the_head_is_made_gives_it_fewer_rows(
    llama: torch.nn.Module, expected: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, at_first: bool
) -> None:
    def scarce(head: VocabularyHead, groups: frozenset[str], tiles: TileOptions) -> Statistics:
        if tiles.rows is None or tiles.rows > MIN_TILE_ROWS:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return make_statistics(head, groups, tiles)

    if at_first:
        monkeypatch.setattr("operators.score.make_statistics", scarce)
    scorer = scorer_of(llama)
    scorer.model.head.limit = 300
    monkeypatch.setattr("operators.score.make_statistics", scarce)
    assert_same_bits(scorer.score(ids(), LENGTHS), expected)
    assert scorer.statistics.rows == MIN_TILE_ROWS


def test_below_the_smallest_budget_one_error_says_what_to_do(llama: torch.nn.Module) -> None:
    scorer = scorer_of(llama)
    scorer.model.limit = 8
    with pytest.raises(ModelError, match=r"window of 32 tokens in float32 on cpu: .*--context.*bfloat16.*--features"):
        scorer.score(ids(), LENGTHS)
    assert scorer.statistics.options.rows == MIN_TILE_ROWS
    assert 8 < scorer.model.calls[-1] <= WINDOWS.context


def test_other_errors_pass_at_once(llama: torch.nn.Module) -> None:
    scorer = scorer_of(llama)
    scorer.model.limit, scorer.model.failure = 8, lambda: RuntimeError("device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        scorer.score(ids(), LENGTHS)
    assert len(scorer.model.calls) == 1


def test_what_torch_really_raises_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


BYTES_A_TOKEN = 1000  # of the device that `made_up_device` stands for


@pytest.fixture
def made_up_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's account of a device of 2 MB on which a pass takes `BYTES_A_TOKEN`."""
    last: list[int] = []
    hidden = CrampedModel.hidden

    def noted(self: CrampedModel, ids_T: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
        last[:] = [len(ids_T)]
        return hidden(self, ids_T, bounds)

    monkeypatch.setattr(CrampedModel, "hidden", noted)
    for name, value in {
        "mem_get_info": lambda _: (2_000_000, 2_000_000),
        "memory_allocated": lambda _: 0,
        "memory_reserved": lambda _: 0,
        "reset_peak_memory_stats": lambda _: None,
        "synchronize": lambda _: None,
        "max_memory_allocated": lambda _: BYTES_A_TOKEN * last[0],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize(
    ("share", "limit", "expected"),
    [(1.0, 10**9, (640, 950)), (0.5, 10**9, (256, 475)), (1.0, 500, (256, 500)), (1.0, 8, (32, 32))],
)
@pytest.mark.usefixtures("made_up_device")
def test_a_devices_budget_is_found_by_passes_of_the_model(
    llama: torch.nn.Module, share: float, limit: int, expected: tuple[int, int]
) -> None:
    """Half of what a process may take, 2 MB but a twentieth, holds 950 tokens; `limit`: where memory runs out."""
    model = ModelOptions("made here", memory_share=share)
    options = ScoreOptions(model, WINDOWS, (), TileOptions(rows=TILE_ROWS, columns=128, compiled=False))
    scorer = Scorer(options, CrampedModel(copy.deepcopy(llama)))
    scorer.model.limit = limit
    found = scorer._find_batch_tokens()
    assert expected[0] <= found <= expected[1]
    assert (scorer.fed_tokens, scorer.batches) == (0, 0)  # trials are no work
    scorer.model.limit = 10**9
    scorer.batch_tokens = found
    wanted = scorer_of(llama).score(ids(), LENGTHS)["logprob"]
    assert scorer.score(ids(), LENGTHS)["logprob"].tobytes() == wanted.tobytes()


@pytest.mark.usefixtures("made_up_device")
def test_a_promise_of_bits_fixes_the_budget(llama: torch.nn.Module) -> None:
    model = CrampedModel(copy.deepcopy(llama))
    scorer = Scorer(ScoreOptions(ModelOptions("made here"), WINDOWS), model)
    model.deterministic = True
    model.calls.clear()
    assert scorer._find_batch_tokens() == GPU_BATCH_TOKENS
    assert model.calls == []


@pytest.fixture
def small_device() -> Iterator[torch.device]:
    """A CUDA device of which this process may use 1 GiB."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    yield device
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.gpu
def test_a_real_device_has_a_budget_that_fits(llama: torch.nn.Module, small_device: torch.device) -> None:
    options = ScoreOptions(ModelOptions("made here", memory_share=0.05), WindowOptions(128, 64))
    scorer = Scorer(options, ScoringModel(copy.deepcopy(llama).to(small_device)))
    assert 128 <= scorer.batch_tokens <= GPU_BATCH_TOKENS
    lengths = [128] * 512
    tokens = torch.randint(0, 331, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    before = scorer.batch_tokens
    scorer.score(tokens, lengths)
    assert scorer.batch_tokens == before


@pytest.mark.gpu
def test_a_real_device_runs_out_and_goes_on(llama: torch.nn.Module, small_device: torch.device) -> None:
    windows = WindowOptions(128, 64)
    lengths = [128] * 8192  # a batch of a million tokens: its widest activation alone takes 400 MB
    tokens = torch.randint(0, 331, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    options = ScoreOptions(ModelOptions("made here"), windows, (), TileOptions(compiled=False), batch_tokens=1 << 20)
    scorer = Scorer(options, ScoringModel(copy.deepcopy(llama).to(small_device)))
    columns = scorer.score(tokens, lengths)
    assert 128 <= scorer.batch_tokens < 1 << 20
    some = scorer.score(tokens[: 128 * 4], lengths[:4])
    np.testing.assert_allclose(columns["logprob"][: 128 * 4], some["logprob"], atol=1e-4)


@given(
    lengths=st.lists(st.integers(0, 200), max_size=20),
    batch_tokens=st.integers(16, 20_000),
    tile_rows=st.integers(1, 64).map(lambda n: n * ROW_ALIGNMENT),
)
def test_every_budget_is_smaller_and_the_last_is_single_windows(
    lengths: list[int], batch_tokens: int, tile_rows: int
) -> None:
    windows = list(segments(lengths, WINDOWS))
    budget = Budget(batch_tokens, tile_rows)
    for _ in range(40):
        following = smaller(budget, windows)
        if following is None:
            break
        assert following < budget
        TileOptions(rows=following.tile_rows)  # raises for rows that do not fit
        budget = following
    else:
        pytest.fail("budgets never end")
    assert budget.tile_rows <= MIN_TILE_ROWS
    longest = max([MIN_BATCH_TOKENS, *map(len, windows)])
    assert all(sum(map(len, batch)) <= longest for batch in pack(windows, budget.batch_tokens))
