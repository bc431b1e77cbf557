"""The body at fixed sizes, compiled and recorded, against the body as it is; recordings are plain calls on a CPU."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence

import families
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from operators import attention
from operators.body import PackedBody, layers
from operators.body.frame import Frame, Size, Sizes, cumulative_of, filled, positions_of, rounded_up
from operators.body.graphs import Graphs, Repeats
from operators.body.layers import layers_of, row_alignment
from operators.models import ScoringModel
from operators.staging import Uploads

CPU = torch.device("cpu")
LENGTHS = (1, 60, 1, 2, 90, 7, 33)


def bounds_of(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise([0, *itertools.accumulate(lengths)]))


def ids_of(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 331, (n,), generator=torch.Generator().manual_seed(seed))


def packed_body(family: str = "llama") -> PackedBody:
    model = ScoringModel(families.make_model(family, sharpness=2.0))
    assert model.packed
    return model.body


@pytest.fixture(scope="module")
def body() -> PackedBody:
    return packed_body()


@pytest.fixture
def framed(body: PackedBody) -> PackedBody:
    """The same body at fixed sizes of 128, 256, ... 1024 tokens."""
    fresh = PackedBody(body.body, CPU)
    fresh.prepare(1024, 100, recording=True)
    return fresh


def test_sizes_by_hand() -> None:
    sizes = Sizes.of(1024, 100)
    assert sizes.fit([(0, 63)]) is None  # more filler than tokens
    assert sizes.fit([(0, 64)]) == Size(128, 16)
    assert sizes.fit(bounds_of([64, 64])) == Size(128, 16)
    assert sizes.fit(bounds_of([64, 65])) == Size(256, 16)
    assert sizes.fit(bounds_of([1] * 129)) == Size(256, 256)
    assert sizes.fit(bounds_of([100] * 10)) == Size(1024, 16)
    assert sizes.fit(bounds_of([100] * 11)) is None
    assert sizes.fit([(0, 101)]) is None
    assert Sizes.of(1024, 100, only_largest=True).fit([(0, 1)]) == Size(1024, 16)
    assert Sizes.of(16, 300).largest == 384


def test_fillers_by_hand() -> None:
    assert filled([(0, 3), (3, 5)], 5, 4) == [(0, 3), (3, 5)]
    assert filled([(0, 3), (3, 5)], 12, 4) == [(0, 3), (3, 5), (5, 9), (9, 12)]
    assert positions_of([(0, 3), (3, 4), (4, 6)]).tolist() == [0, 1, 2, 0, 0, 1]
    assert cumulative_of([(0, 3), (3, 4), (4, 6)], 5).tolist() == [0, 3, 4, 6, 6, 6]


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=60), batch=st.integers(16, 3000))
def test_every_frame_holds_its_segments(lengths: list[int], batch: int) -> None:
    sizes, bounds = Sizes.of(batch, 100), bounds_of(lengths)
    size = sizes.fit(bounds)
    if size is None:
        step = rounded_up(-(-sizes.largest // 8), 128)
        assert sum(lengths) > sizes.largest or 2 * sum(lengths) < min(rounded_up(sum(lengths), step), sizes.largest)
        return
    assert sum(lengths) <= size.tokens <= 2 * sum(lengths)
    every = filled(bounds, size.tokens, sizes.longest)
    assert every[: len(bounds)] == bounds
    assert [a for a, _ in every] == [0, *(b for _, b in every[:-1])]
    assert every[-1][1] == size.tokens
    assert max(b - a for a, b in every) <= sizes.longest
    assert len(every) <= size.slots
    assert cumulative_of(every, size.slots).shape == (size.slots + 1,)
    assert (np.diff(cumulative_of(every, size.slots)) >= 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_fixed_sizes_change_no_bit(family: str) -> None:
    """First pass, recording and replays, over batches that share buffers; single tokens and full batches too."""
    loose = packed_body(family)
    framed = PackedBody(loose.body, CPU)
    framed.prepare(512, 100, recording=True)
    batches = [LENGTHS, (1,), (100,) * 5, (1,) * 40, LENGTHS[::-1], (2, 1), (100, 28), LENGTHS]
    for k, lengths in enumerate(batches):
        ids, bounds = ids_of(sum(lengths), k), bounds_of(lengths)
        expected = loose(ids, bounds)
        assert torch.equal(framed(ids, bounds), expected)
        assert torch.equal(framed(ids, bounds), expected)
    assert len(framed._frames) >= 3


def test_what_fits_no_size_runs_at_its_own(body: PackedBody, framed: PackedBody) -> None:
    for lengths in ((101,), (90,) * 12):
        ids, bounds = ids_of(sum(lengths)), bounds_of(lengths)
        assert torch.equal(framed(ids, bounds), body(ids, bounds))
    assert not framed._frames


def test_results_are_valid_until_the_next_call(framed: PackedBody) -> None:
    """Stated, so that nobody keeps them: replays write into one buffer."""
    bounds = bounds_of(LENGTHS)
    first = framed(ids_of(sum(LENGTHS), 1), bounds).clone()
    replayed = framed(ids_of(sum(LENGTHS), 1), bounds)
    assert torch.equal(first, replayed)
    other = framed(ids_of(sum(LENGTHS), 2), bounds)
    assert replayed.data_ptr() == other.data_ptr()
    assert not torch.equal(first, replayed)


class Refuses(Repeats):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def record(self, key: object, call: Callable[[], object]) -> None:
        raise self.error


class Spoils(Repeats):
    def record(self, key: object, call: Callable[[], object]) -> None:
        super().record(key, lambda: call().mul_(1.5))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Refuses(RuntimeError("no capture here\nmore")), "no capture here"), (Spoils(), "a replay gave other numbers")],
)
def test_a_recording_that_fails_is_left_with_one_warning(
    recorder: Repeats, reason: str, body: PackedBody, framed: PackedBody, caplog: pytest.LogCaptureFixture
) -> None:
    framed._recorder = recorder
    ids, bounds = ids_of(sum(LENGTHS)), bounds_of(LENGTHS)
    expected = body(ids, bounds)
    for _ in range(3):
        assert torch.equal(framed(ids, bounds), expected)
    assert [r.message for r in caplog.records] == [f"forward passes are not recorded, exact but slower: {reason}"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_running_out_of_memory_reaches_the_caller_and_smaller_sizes_follow(
    wrapped: bool, body: PackedBody, framed: PackedBody, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where ending a failed capture raises an error of its own over it."""
    error: Exception = torch.OutOfMemoryError("CUDA out of memory.")
    if wrapped:
        error = RuntimeError("the capture was invalidated")
        error.__context__ = torch.OutOfMemoryError("CUDA out of memory.")
    framed._recorder = Refuses(error)
    ids, bounds = ids_of(sum(LENGTHS)), bounds_of(LENGTHS)
    with pytest.raises(torch.OutOfMemoryError):
        framed(ids, bounds)
    del error  # with the traceback that holds the buffers
    held = weakref.ref(next(iter(framed._frames.values())))
    framed.shrink(256)
    gc.collect()
    assert held() is None
    assert framed.sizes == Sizes.of(256, 100)
    assert torch.equal(framed(ids, bounds), body(ids, bounds))
    assert not caplog.records


def test_release_frees_buffers(framed: PackedBody) -> None:
    ids, bounds = ids_of(sum(LENGTHS)), bounds_of(LENGTHS)
    expected = framed(ids, bounds).clone()
    framed(ids, bounds)
    buffers = [weakref.ref(framed._out_TD), *(weakref.ref(f) for f in framed._frames.values())]
    framed.release()
    gc.collect()
    assert [b() for b in buffers] == [None, None]
    assert torch.equal(framed(ids, bounds), expected)


def test_only_variable_length_attention_is_recorded_as_a_graph() -> None:
    """The other paths read bounds on the host: a replay would repeat the first batch's."""
    graphs = Graphs(CPU)
    assert graphs.can_record(["varlen", "varlen"])
    assert not graphs.can_record(["varlen", "flex"])
    assert not graphs.can_record(["segments"])
    assert not graphs.can_record([])
    assert not graphs.replay(Size(128, 16))


class FakeCuda:
    """Stands for torch.cuda: notes what is asked of it, and captures a call by remembering what ran inside."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.capturing: FakeGraph | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda: self)
        monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "stream", lambda _: self.noting("side stream"))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (len(self.told), 1))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)

    def wait_stream(self, _other: object) -> None:
        self.told.append("wait")

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        self.told.append(what)
        yield

    @contextlib.contextmanager
    def capture(self, graph: FakeGraph, *, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert stream is self
        assert capture_error_mode == "thread_local"
        graph.pool, self.capturing = pool, graph
        try:
            yield
        finally:
            self.capturing = None

    def work(self, what: str) -> None:
        self.told.append(what)
        if self.capturing is not None:
            self.capturing.held.append(lambda: self.told.append(f"replayed {what}"))


class FakeGraph:
    def __init__(self) -> None:
        self.held: list[Callable[[], None]] = []
        self.pool: object = None

    def replay(self) -> None:
        for one in self.held:
            one()


def test_graphs_warm_up_on_their_stream_then_capture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the capture itself, which needs a device."""
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    graphs = Graphs(CPU)
    graphs.record("a", lambda: cuda.work("a"))
    assert cuda.told == ["wait", "side stream", "a", "a", "wait", "a"]
    graphs.record("b", lambda: cuda.work("b"))
    assert graphs._graphs["a"].pool == graphs._graphs["b"].pool
    cuda.told.clear()
    assert [graphs.replay(key) for key in "abac"] == [True, True, True, False]
    assert cuda.told == ["replayed a", "replayed b", "replayed a"]


def test_a_capture_that_fails_leaves_nothing_to_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    graphs = Graphs(CPU)

    def call() -> None:
        if cuda.capturing is not None:
            raise RuntimeError("not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        graphs.record("a", call)
    assert not graphs.replay("a")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_compiled_layers_agree_and_keep_their_bits(family: str) -> None:
    model = ScoringModel(families.make_model(family, sharpness=2.0))
    ids, bounds = ids_of(sum(LENGTHS)), bounds_of(LENGTHS)
    eager = model.body(ids, bounds)
    compiled = ScoringModel(families.make_model(family, sharpness=2.0), compile=True)
    assert compiled.body.compiled
    together = compiled.body(ids, bounds)
    torch.testing.assert_close(together, eager, rtol=1e-4, atol=1e-5)
    for a, b in bounds:
        assert torch.equal(compiled.body(ids[a:b], [(0, b - a)]), together[a:b])
    compiled.body.prepare(512, 100, recording=True)
    for _ in range(2):
        assert torch.equal(compiled.body(ids, bounds), together)
    compiled.body.stop_compiling()
    assert torch.equal(compiled.body(ids, bounds), eager)


def test_a_compiler_that_fails_leaves_eager_layers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_function: object, **_options: object) -> Callable[..., object]:
        def call(*_args: object, **_kwargs: object) -> object:
            raise OSError("no compiler\nlong story")

        return call

    monkeypatch.setattr(layers.torch, "compile", broken)
    fresh = families.make_model("llama", sharpness=2.0)
    expected = ScoringModel(copy.deepcopy(fresh)).body
    model = ScoringModel(fresh, compile=True)
    assert not model.body.compiled
    assert [r.message for r in caplog.records] == ["layers run uncompiled, exact but slower: no compiler"]
    ids, bounds = ids_of(sum(LENGTHS)), bounds_of(LENGTHS)
    assert torch.equal(model.body(ids, bounds), expected(ids, bounds))


def test_compiled_layers_that_change_numbers_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(function: Callable[..., Tensor], **_options: object) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: function(*args, **kwargs) * 1.5

    monkeypatch.setattr(layers.torch, "compile", wrong)
    model = ScoringModel(families.make_model("llama"), compile=True)
    assert not model.body.compiled
    assert "compiling changes hidden states" in caplog.text


def test_out_of_memory_in_a_compiled_layer_is_no_fault_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch, body: PackedBody, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_function: object, **_options: object) -> Callable[..., object]:
        def call(*_args: object, **_kwargs: object) -> object:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        return call

    monkeypatch.setattr(layers.torch, "compile", full)
    fresh = PackedBody(body.body, CPU)
    fresh.compile()
    with pytest.raises(torch.OutOfMemoryError):
        fresh(ids_of(5), [(0, 5)])
    assert fresh.compiled
    fresh.stop_compiling()
    assert not caplog.records


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox"])
def test_layers_are_found(family: str) -> None:
    found = layers_of(families.make_model(family).base_model)
    assert len(found) == 2
    assert found[0] is not found[1]
    assert layers_of(torch.nn.Linear(2, 2)) == []


def test_row_alignment_by_hand() -> None:
    embedding, wide, odd = torch.nn.Embedding(7, 64), torch.nn.Linear(64, 688), torch.nn.Linear(64, 5)
    assert row_alignment(torch.nn.ModuleList([embedding])) == 1
    assert row_alignment(torch.nn.ModuleList([embedding, wide])) == 4
    assert row_alignment(torch.nn.ModuleList([wide, odd])) == 64


def narrow_model() -> torch.nn.Module:
    """Llama whose feed-forward width leaves elements over at the end of a row, as 688 does."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=331, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                                      intermediate_size=84, max_position_embeddings=256)  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.3)
    return model.eval()


def changed_rows(body: PackedBody) -> int:
    """Last rows of a batch that differ from the same rows among later neighbours."""
    found = 0
    for n in range(16, 100):
        ids = ids_of(n + 50, n)
        with_more, alone = body(ids, [(0, n), (n, n + 50)])[:n].clone(), body(ids[:n], [(0, n)])
        found += int((with_more != alone).any(1).sum())
    return found


def test_rows_keep_their_bits_at_any_feed_forward_width() -> None:
    body = ScoringModel(narrow_model()).body
    assert changed_rows(body) == 0
    body._multiple = 1
    assert changed_rows(body) > 0  # the danger is real: otherwise the alignment could go


def test_positions_and_ids_reach_a_frame_from_the_host() -> None:
    frame = Frame(Size(128, 16), Uploads(CPU))
    frame.fill(torch.full((100,), 9), [(0, 100)], 64, attention.PATHS, False)
    layout = frame.fill(torch.full((3,), 7), [(0, 1), (1, 3)], 64, attention.PATHS, True)
    assert frame.ids.tolist() == [7, 7, 7] + [0] * 125
    assert frame.positions.tolist() == [0, 0, 1, *range(64), *range(61)]
    assert layout.bounds == [(0, 1), (1, 3), (3, 67), (67, 128)]
    assert layout.cumulative is frame.cumulative
    assert frame.cumulative.tolist() == [0, 1, 3, 67] + [128] * 13
    assert layout.one_split
    assert layout.longest == 64
