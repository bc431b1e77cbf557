"""The tiled statistics against float64 on rows of logits: flat, peaked, tied, masked, odd sizes, every column group."""

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from operators.head import GivenLogits, LogitShape, VocabularyHead
from operators.statistics import TiledStatistics, TileOptions
from schemas.tokens import EXTREMES, NUCLEUS, RENYI, TOPK

ALL = frozenset((EXTREMES, NUCLEUS, RENYI, TOPK))
LOG_PROBS = ("logprob", "logprob_max", "logprob_second", "logprob_uniform", "topk_logprob")
EXACT = ("rank", "top1_id", "topk_id")


def head_of(scale: float, *, vocab: int = 331, width: int = 48, dtype: torch.dtype = torch.float32,
            shape: LogitShape | None = None, bias: bool = False, seed: int = 0) -> VocabularyHead:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocab, width, generator=generator) * scale / width**0.5
    offset = torch.randn(vocab, generator=generator) if bias else None
    return VocabularyHead(weight.to(dtype), None if offset is None else offset.to(dtype), shape)


def rows_for(head: VocabularyHead, n: int = 70, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, head.width, generator=generator).to(head.weight_VD.dtype)
    return hidden, torch.randint(0, head.vocab_size, (n,), generator=generator)


def float64_logits(head: VocabularyHead, hidden: Tensor) -> Tensor:
    logits = hidden.double() @ head.weight_VD.double().T
    if head.bias_V is not None:
        logits = logits + head.bias_V.double()
    return logits if head.shape is None else head.shape(logits)


def errors(got: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Largest error a column: absolute for log-probs, relative with floor 1e-3 for the rest."""
    found = {}
    for name, values in got.items():
        if name in EXACT:
            continue
        scale = 1.0 if name in LOG_PROBS else truth[name].abs().clamp_min(1e-3)
        found[name] = float(((values.double() - truth[name]) / scale).abs().max())
    return found


def check_against_plain(head: VocabularyHead, *, columns: int = 128, compiled: bool = False, n: int = 70) -> None:
    """No column errs more than twice what plain float32 torch does on the same hidden states, plus one rounding."""
    hidden, target = rows_for(head, n)
    logits = float64_logits(head, hidden)
    truth = oracle.statistics(logits, target)
    plain_logits = hidden.float() @ head.weight_VD.float().T
    if head.bias_V is not None:
        plain_logits = plain_logits + head.bias_V.float()
    plain = oracle.statistics(plain_logits if head.shape is None else head.shape(plain_logits), target)
    got = TiledStatistics(head, ALL, TileOptions(rows=96, columns=columns, compiled=compiled))(hidden, target)
    allowed = errors({k: v for k, v in plain.items() if k != "gap"}, truth)
    for name, error in errors(got, truth).items():
        assert error <= 2 * allowed[name] + 4e-7, f"{name}: {error:.2e} against {allowed[name]:.2e}"
    clear = truth["gap"] > 4 * (plain_logits.double() - hidden.double() @ head.weight_VD.double().T
                                - (0 if head.bias_V is None else head.bias_V.double())).abs().max()  # fmt: skip
    assert torch.equal(got["rank"][clear].long(), truth["rank"][clear])
    assert (got["rank"].long() - truth["rank"]).abs().max() <= 1
    assert (got["top1_id"].long() == truth["top1_id"]).float().mean() > 0.95


@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0, 25.0])
@pytest.mark.parametrize("bias", [False, True])
def test_flat_to_peaked_rows(scale: float, bias: bool) -> None:
    check_against_plain(head_of(scale, bias=bias))


@pytest.mark.parametrize("columns", [16, 100, 331, 4096])
def test_any_tile_width(columns: int) -> None:
    check_against_plain(head_of(3.0), columns=columns)


@pytest.mark.parametrize("vocab", [2, 3, 17, 128, 129])
def test_small_and_odd_vocabularies(vocab: int) -> None:
    head = head_of(3.0, vocab=vocab)
    hidden, target = rows_for(head)
    truth = oracle.statistics(float64_logits(head, hidden), target, k=10)
    got = TiledStatistics(head, ALL, TileOptions(rows=96, columns=64, compiled=False))(hidden, target)
    assert max(errors(got, truth).values()) < 1e-4
    assert got["topk_id"].shape[1] == min(10, vocab)


@pytest.mark.parametrize("shape", [LogitShape(0.25), LogitShape(1.0, 5.0), LogitShape(2.0, 30.0)])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_scaled_and_soft_capped_logits(shape: LogitShape, scale: float) -> None:
    check_against_plain(head_of(scale, shape=shape))


def test_compiled_equals_uncompiled_within_rounding() -> None:
    head = head_of(4.0, vocab=1000)
    hidden, target = rows_for(head)
    options = [TileOptions(rows=96, columns=256, compiled=flag) for flag in (False, True)]
    eager, compiled = (TiledStatistics(head, ALL, o)(hidden, target) for o in options)
    for name, values in eager.items():
        torch.testing.assert_close(values, compiled[name], rtol=2e-5, atol=2e-6)


def test_compiled_against_the_oracle() -> None:
    check_against_plain(head_of(3.0), compiled=True)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_row_does_not_depend_on_its_neighbours(compiled: bool) -> None:
    head = head_of(3.0, vocab=700)
    hidden, target = rows_for(head, n=200)
    statistics = TiledStatistics(head, ALL, TileOptions(rows=256, columns=256, compiled=compiled))
    together = statistics(hidden, target)
    for start, stop in ((0, 1), (3, 20), (17, 150), (199, 200)):
        alone = statistics(hidden[start:stop], target[start:stop])
        for name, values in alone.items():
            assert torch.equal(values, together[name][start:stop]), name


def test_equal_logits_give_the_uniform_distribution() -> None:
    head = VocabularyHead(torch.zeros(50, 8))
    got = TiledStatistics(head, ALL, TileOptions(rows=16, columns=16, compiled=False))(
        torch.randn(3, 8), torch.arange(3)
    )
    log_v = np.log(50)
    assert got["rank"].tolist() == [1, 1, 1]
    torch.testing.assert_close(got["logprob"], torch.full((3,), -log_v, dtype=torch.float32))
    for name in ("entropy", "renyi_half", "renyi_2"):
        torch.testing.assert_close(got[name], torch.full((3,), log_v, dtype=torch.float32))
    assert got["logprob_std"].max() < 1e-15
    assert got["mass_above"].tolist() == [0, 0, 0]
    assert torch.isneginf(got["logprob_second"]).all()


def test_tied_tokens_share_the_best_rank() -> None:
    """Identical rows of the head tie exactly, wherever in the vocabulary's tiles they lie."""
    weight = torch.randn(331, 64)
    weight[[150, 300]] = weight[7].clone()
    head = VocabularyHead(weight)
    hidden = torch.randn(64, 64)
    statistics = TiledStatistics(head, frozenset(), TileOptions(rows=64, columns=128, compiled=False))
    ranks = [statistics(hidden, torch.full((64,), token))["rank"] for token in (7, 150, 300)]
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], ranks[2])


def test_masked_vocabulary_entries_have_no_mass() -> None:
    logits = torch.randn(20, 300)
    logits[:, :70] = -torch.inf
    logits[:, 290:] = -torch.inf
    target = torch.randint(70, 290, (20,))
    got = TiledStatistics(GivenLogits(300, torch.device("cpu")), ALL, TileOptions(rows=32, columns=64, compiled=False))(
        logits, target
    )
    truth = oracle.statistics(logits[:, 70:290].double(), target - 70)
    truth["top1_id"] += 70
    for name, error in errors(got, truth).items():
        assert error < 1e-5, name
    assert torch.equal(got["rank"].long(), truth["rank"])
    assert torch.equal(got["top1_id"].long(), truth["top1_id"])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_broken_logits_show(bad: float) -> None:
    logits = torch.randn(2, 100)
    logits[1, 40] = bad
    got = TiledStatistics(GivenLogits(100, torch.device("cpu")), ALL, TileOptions(rows=16, columns=64, compiled=False))(
        logits, torch.tensor([3, 3])
    )
    assert torch.isfinite(got["entropy"][0])
    assert not torch.isfinite(got["entropy"][1])


def test_very_peaked_rows_keep_relative_accuracy() -> None:
    """p_max = 1 - 1e-9 or so: entropy in float32 from log-softmax is mostly rounding; ours is not."""
    logits = torch.zeros(4, 100)
    logits[:, 5] = torch.tensor([20.0, 25.0, 40.0, 60.0])
    got = TiledStatistics(GivenLogits(100, torch.device("cpu")), ALL, TileOptions(rows=16, columns=64, compiled=False))(
        logits, torch.full((4,), 5)
    )
    truth = oracle.statistics(logits.double(), torch.full((4,), 5))
    rest = 99 * torch.exp(-logits[:, 5].double())
    by_hand = {
        "entropy": rest * (1 + logits[:, 5].double()),
        "logprob": -rest,
        "logprob_max": -rest,
        "renyi_half": 2 * torch.log1p(99 * torch.exp(-logits[:, 5].double() / 2)) - torch.log1p(rest),
    }
    for name, expected in by_hand.items():
        torch.testing.assert_close(got[name].double(), expected, rtol=1e-5, atol=0)
    for name in ("logprob_std", "logprob_second", "logprob_uniform"):
        torch.testing.assert_close(got[name].double(), truth[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_lose_nothing_in_the_head(dtype: torch.dtype) -> None:
    """Products of half-precision factors are accumulated in float32: errors stay those of float32."""
    head = head_of(2.0, dtype=dtype)
    hidden, target = rows_for(head)
    truth = oracle.statistics(float64_logits(head, hidden), target)
    got = TiledStatistics(head, frozenset(), TileOptions(rows=96, columns=128, compiled=False))(hidden, target)
    assert max(errors(got, truth).values()) < 2e-5


def test_memory_does_not_grow_with_the_vocabulary() -> None:
    """The buffers of a head of 200k entries are those of one of 2k: tiles, never `[R, V]`."""
    buffers = []
    for vocab in (2_000, 200_000):
        statistics = TiledStatistics(VocabularyHead(torch.zeros(vocab, 4)), ALL, TileOptions(rows=64, columns=256))
        tensors = [value for value in vars(statistics).values() if isinstance(value, Tensor)]
        buffers.append(sum(t.numel() * t.element_size() for t in tensors))
    assert buffers[0] == buffers[1]


@pytest.mark.parametrize("options", [{"rows": 0}, {"rows": 17}, {"columns": 0}, {"top_k": 0}, {"top_k": 5000}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"tile|top_k"):
        TileOptions(**options)


def test_logits_must_rise() -> None:
    with pytest.raises(ValueError, match="positive"):
        LogitShape(-1.0)
