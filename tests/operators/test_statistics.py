"""The tiled statistics against float64 on rows of logits: flat, peaked, tied, masked, odd sizes, every column group."""

import numpy as np
import oracle
import pytest
import torch
from heads import ALL, check_against_plain, errors, float64_logits, head_of, rows_for
from torch import Tensor

from operators.head import GivenLogits, LogitShape, VocabularyHead
from operators.statistics import TiledStatistics, TileOptions
from operators.statistics.topk import TopK
from schemas.tokens import TOPK


def check(head: VocabularyHead, *, columns: int = 128, compiled: bool = False, n: int = 70) -> None:
    hidden, target = rows_for(head, n)
    got = TiledStatistics(head, ALL, TileOptions(rows=96, columns=columns, compiled=compiled))(hidden, target)
    check_against_plain(got, head, hidden, target)


@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0, 25.0])
@pytest.mark.parametrize("bias", [False, True])
def test_flat_to_peaked_rows(scale: float, bias: bool) -> None:
    check(head_of(scale, bias=bias))


@pytest.mark.parametrize("columns", [16, 100, 331, 4096])
def test_any_tile_width(columns: int) -> None:
    check(head_of(3.0), columns=columns)


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
    check(head_of(scale, shape=shape))


def test_compiled_equals_uncompiled_within_rounding() -> None:
    head = head_of(4.0, vocab=1000)
    hidden, target = rows_for(head)
    options = [TileOptions(rows=96, columns=256, compiled=flag) for flag in (False, True)]
    eager, compiled = (TiledStatistics(head, ALL, o)(hidden, target) for o in options)
    for name, values in eager.items():
        torch.testing.assert_close(values, compiled[name], rtol=2e-5, atol=2e-6)


def test_compiled_against_the_oracle() -> None:
    check(head_of(3.0), compiled=True)


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
    for name in ("entropy", "renyi_quarter", "renyi_half", "renyi_2"):
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


def given(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    head, options = GivenLogits(logits.shape[1], logits.device), TileOptions(rows=32, columns=64, compiled=False)
    return TiledStatistics(head, ALL, options)(logits, target)


def test_a_point_mass_has_no_renyi_entropy_however_many_entries_are_masked() -> None:
    """The fourth root of the smallest float32 is 2e-10: what is masked must not count as that much, 5000 times."""
    logits = torch.full((4, 5000), -torch.inf)
    logits[torch.arange(4), torch.tensor([0, 63, 64, 4999])] = torch.tensor([3.0, -50.0, 0.0, 700.0])
    got = given(logits, torch.tensor([0, 63, 64, 4999]))
    assert got["renyi_quarter"].tolist() == [0, 0, 0, 0]
    logits[:, 7] = logits.amax(1) - 100  # far below the floor of the other sums, and well within this one
    got = given(logits, torch.tensor([0, 63, 64, 4999]))
    expected = (4 * np.log1p(np.exp(-25.0)) - np.log1p(np.exp(-100.0))) / 3
    torch.testing.assert_close(got["renyi_quarter"], torch.full((4,), float(expected)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_two_renyi_entropies_give_the_distance_to_uniform_at_temperature_2(scale: float) -> None:
    """Fisher-Rao and Renyi-neg need sum_v sqrt(q_v / V), q at temperature 2: no pass of its own is needed."""
    logits = torch.randn(30, 1000) * scale
    logits[:10, 200:400] = -torch.inf
    got = given(logits, torch.zeros(30, dtype=torch.long))
    hot = (logits.double() / 2).softmax(-1)
    derived = torch.exp(0.75 * got["renyi_quarter"].double() - 0.25 * got["renyi_half"].double()) / 1000**0.5
    torch.testing.assert_close(derived, (hot / 1000).sqrt().sum(-1), rtol=3e-6, atol=0)


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
        "renyi_quarter": (4 * torch.log1p(99 * torch.exp(-logits[:, 5].double() / 4)) - torch.log1p(rest)) / 3,
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


@pytest.mark.parametrize("k", [1, 7, 31, 1000])
@pytest.mark.parametrize("columns", [64, 330, 512])
def test_the_largest_entries_are_those_of_a_full_sort(k: int, columns: int) -> None:
    """Over several tiles, with ties and with rows that are masked in part or as a whole."""
    logits = torch.randn(50, 3 * columns - 5)
    logits[:, 40:90] = logits[:, 40:90].round()
    logits[7], logits[8, 3:] = -torch.inf, -torch.inf
    logits = logits.sort(1).values if k == 7 else logits  # every tile beats all before
    best = TopK(50, k := min(k, logits.shape[1]), logits.device)
    for first in range(0, logits.shape[1], columns):
        best.offer(logits[:, first : first + columns].contiguous(), first)
    expected = logits.sort(1, descending=True).values[:, :k]
    assert torch.equal(best.values, expected)
    found = expected > -torch.inf
    assert torch.equal(logits.gather(1, best.ids)[found], expected[found])
    for ids, is_found in zip(best.ids.tolist(), found.tolist(), strict=True):
        real = [i for i, real in zip(ids, is_found, strict=True) if real]
        assert len(set(real)) == len(real)


def test_top_k_of_tied_weights_does_not_follow_the_neighbours() -> None:
    head = head_of(3.0, vocab=1024)
    head.weight_VD[1::2] = head.weight_VD[::2]
    hidden, target = rows_for(head, n=96)
    statistics = TiledStatistics(head, frozenset((TOPK,)), TileOptions(rows=96, columns=512, compiled=False))
    together = statistics(hidden, target)["topk_id"]
    for start in range(0, 96, 3):
        alone = statistics(hidden[start : start + 3], target[start : start + 3])["topk_id"]
        assert torch.equal(alone, together[start : start + 3])


def test_rows_of_given_logits_wait_in_bounded_memory() -> None:
    statistics = TiledStatistics(GivenLogits(200_000, torch.device("cpu")), options=TileOptions(compiled=False))
    assert 4 * 200_000 * statistics.rows <= 64 << 20


def test_deterministic_options_change_nothing_on_a_cpu() -> None:
    head = head_of(3.0)
    hidden, target = rows_for(head)
    plain, fixed = (
        TiledStatistics(head, ALL, TileOptions(compiled=False, deterministic=flag))(hidden, target)
        for flag in (False, True)
    )
    assert all(torch.equal(plain[name], fixed[name]) for name in plain)
