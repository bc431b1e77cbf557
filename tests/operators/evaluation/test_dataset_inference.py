"""Dataset inference: uniform without a difference, powerful with one, and nothing learnt from the tested half."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from operators.evaluation import dataset_inference as module
from operators.evaluation.dataset_inference import combine_p_values, dataset_inference, false_positive_rate
from operators.evaluation.standardise import Floats, Standardiser


def heavy_tailed(rng: np.random.Generator, n: int, shift: float = 0.0, features: int = 6) -> Floats:
    """[n, features]: correlated, heavy tails, ties, some undefined, some infinite."""
    raw = 0.7 * rng.standard_normal((n, 1)) + 0.7 * rng.standard_normal((n, features))
    values = np.sign(raw) * np.abs(raw) ** 1.5
    values[:, :2] += shift
    values[:, 2] = np.round(values[:, 2])
    values[rng.random(values.shape) < 0.03] = np.nan
    values[rng.random(n) < 0.02, 3] = -np.inf
    return values


def test_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    found = [dataset_inference(heavy_tailed(rng, 50), heavy_tailed(rng, 50), seed=seed).p_value for seed in range(400)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_sets_of_unequal_size_and_spread_keep_the_level() -> None:
    """Where the smaller set spreads more, equal variances would give too many false positives."""
    rng = np.random.default_rng(1)
    found = []
    for seed in range(300):
        small, large = 3 * rng.standard_normal((20, 2)), rng.standard_normal((120, 2))
        found.append(dataset_inference(small, large, seed=seed).p_value < 0.05)
    assert np.mean(found) < 0.1


def test_a_shift_is_found_whatever_its_direction() -> None:
    rng = np.random.default_rng(2)
    for shift in (0.5, -0.5):
        result = dataset_inference(heavy_tailed(rng, 400, shift), heavy_tailed(rng, 400), seed=3)
        assert result.p_value < 1e-4
        assert result.difference > 0.2
        assert all(np.sign(feature.difference) == np.sign(shift) for feature in result.features[:2])
        strongest = max(result.features, key=lambda feature: abs(feature.weight))
        assert strongest.name in ("feature 0", "feature 1")


def test_many_weak_scores_find_what_none_finds_alone() -> None:
    rng = np.random.default_rng(4)
    suspect, held_out = rng.standard_normal((300, 20)) + 0.12, rng.standard_normal((300, 20))
    alone = [stats.ttest_ind(suspect[:, i], held_out[:, i], alternative="greater").pvalue for i in range(20)]
    together = dataset_inference(suspect, held_out, splits=5).p_value
    assert together < 0.01
    assert together < np.median(alone)


def test_the_tested_half_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tested half holds, scale and weights stay what the fitted half says."""
    rng = np.random.default_rng(5)
    suspect, held_out = heavy_tailed(rng, 60), heavy_tailed(rng, 60)
    seen: list[tuple[Standardiser, Floats]] = []
    fit, weigh = Standardiser.fit, module._penalised_weights

    def spy(features: Floats, truth: Floats) -> Floats:
        weights = weigh(features, truth)
        seen.append((fit(features), weights))
        return weights

    monkeypatch.setattr(module, "_penalised_weights", spy)
    dataset_inference(suspect, held_out, seed=6)
    rng = np.random.default_rng([6, 0])  # as the split draws
    orders = rng.permutation(60), rng.permutation(60)
    for features, order in zip((suspect, held_out), orders, strict=True):
        features[order[30:]] = 1e6 * rng.standard_normal((30, 6))
    dataset_inference(suspect, held_out, seed=6)
    assert np.array_equal(seen[0][1], seen[1][1])
    assert np.array_equal(seen[0][0].mean, seen[1][0].mean)


def test_the_t_tests_are_scipys() -> None:
    rng = np.random.default_rng(7)
    first, second = 2 * rng.standard_normal(30), rng.standard_normal(80)
    for equal in (False, True):
        expected = stats.ttest_ind(first, second, equal_var=equal, alternative="greater").pvalue
        assert module._t_test(first, second, equal_variances=equal)[0] == pytest.approx(expected, rel=1e-9)


def test_sets_without_spread_give_the_p_value_of_a_permutation() -> None:
    separated = dataset_inference(np.ones((10, 1)), np.zeros((6, 1)))
    assert separated.p_value == pytest.approx(1 / math.comb(5 + 3, 5))
    mixed = np.tile([[0.0], [1.0]], (5, 1))
    assert 0 < dataset_inference(mixed, mixed).p_value <= 1


def test_features_that_say_nothing_change_nothing() -> None:
    rng = np.random.default_rng(8)
    suspect, held_out = rng.standard_normal((40, 2)) + 0.4, rng.standard_normal((40, 2))
    plain = dataset_inference(suspect, held_out, names=["a", "b"])
    nothing = np.column_stack([np.full(40, np.nan), np.full(40, 0.1)])
    more = dataset_inference(
        np.column_stack([suspect, nothing]), np.column_stack([held_out, nothing]), names=["a", "b", "c", "d"]
    )
    assert more.p_value == pytest.approx(plain.p_value)
    assert [feature.weight for feature in more.features[2:]] == [0.0, 0.0]
    assert more.features[2].undefined_suspect == more.features[2].undefined_held_out == 40


def test_the_same_seed_gives_the_same_result() -> None:
    rng = np.random.default_rng(9)
    suspect, held_out = heavy_tailed(rng, 30), heavy_tailed(rng, 30)
    assert dataset_inference(suspect, held_out, splits=3) == dataset_inference(suspect, held_out, splits=3)
    one = dataset_inference(suspect, held_out, splits=3).split_p_values
    other = dataset_inference(suspect, held_out, splits=3, seed=1).split_p_values
    assert one[0] != other[0]
    assert one[:2] == dataset_inference(suspect, held_out, splits=2).split_p_values


def test_parity_keeps_the_conventions_of_the_authors() -> None:
    """Against their steps spelled out: clip each set, scale by the suspect set, Adam, Student's test."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(10)
    suspect, held_out = rng.standard_normal((40, 3)) + 0.3, rng.standard_normal((50, 3))
    result = dataset_inference(suspect, held_out, seed=11, parity=True)

    sets = [np.clip(x, *np.quantile(x, [0.025, 0.975], axis=0)) for x in (suspect, held_out)]
    mean, deviation = sets[0].mean(axis=0), sets[0].std(axis=0)
    sets = [(x - mean) / deviation for x in sets]
    draw = np.random.default_rng([11, 0])
    orders = [draw.permutation(40), draw.permutation(50)]
    fitted = np.concatenate([x[order[: order.size // 2]] for x, order in zip(sets, orders, strict=True)])
    target = torch.tensor([1.0] * 20 + [0.0] * 25, dtype=torch.float64)
    layer = torch.nn.Linear(3, 1).double()
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        logits = layer(torch.tensor(fitted))[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    weights = layer.weight[0].detach().numpy()
    scores = [x[order[order.size // 2 :]] @ weights for x, order in zip(sets, orders, strict=True)]
    assert [feature.weight for feature in result.features] == pytest.approx(weights, rel=1e-6)
    assert result.p_value == pytest.approx(stats.ttest_ind(*scores, alternative="greater").pvalue, rel=1e-5)


@pytest.mark.parametrize(
    ("p_values", "combined"),
    [
        ([0.03], 0.03),
        ([0.04, 0.01], 0.04),  # 2 / 2 of the larger
        ([0.01, 0.02, 0.5], 0.03),  # 3 / 2 of the median
        ([0.9, 0.8, 0.7], 1.0),
    ],
)
def test_p_values_are_combined_by_rank(p_values: list[float], combined: float) -> None:
    assert combine_p_values(p_values) == pytest.approx(combined)


def test_combined_p_values_are_valid_however_they_depend() -> None:
    rng = np.random.default_rng(12)
    shared = rng.standard_normal((4000, 1))
    for share, count in itertools.product((0.0, 0.7, 1.0), (2, 5, 10)):
        z = np.sqrt(share) * shared + np.sqrt(1 - share) * rng.standard_normal((4000, count))
        combined = np.array([combine_p_values(row) for row in stats.norm.sf(z).tolist()])
        for level in (0.01, 0.05, 0.2):
            assert np.mean(combined <= level) <= level + 3 * math.sqrt(level * (1 - level) / 4000)


def test_halves_of_the_held_out_set_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(13)
    held_out = heavy_tailed(rng, 90)
    found = false_positive_rate(held_out, draws=200)
    assert found.rate == found.positives / 200
    assert found.low <= 0.05 <= found.high
    assert found.n_half == 45
    exact = stats.binomtest(found.positives, 200).proportion_ci(method="exact")
    assert (found.low, found.high) == (exact.low, exact.high)
    assert false_positive_rate(held_out, draws=20, splits=5).rate <= 0.1


def test_one_draw_of_halves_takes_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALVES_DOCUMENTS", 20)
    assert false_positive_rate(np.random.default_rng(0).standard_normal((100, 2)), draws=3).n_half == 10


def test_what_cannot_be_tested_is_said() -> None:
    fine = np.random.default_rng(0).standard_normal((8, 2))
    with pytest.raises(ValueError, match="4 or more rows"):
        dataset_inference(fine[:3], fine)
    with pytest.raises(ValueError, match="the same features"):
        dataset_inference(fine, fine[:, :1])
    with pytest.raises(ValueError, match="the same features"):
        dataset_inference(fine, fine, names=["a"])
    with pytest.raises(ValueError, match="no feature varies"):
        dataset_inference(np.ones((8, 2)), np.full((8, 2), np.nan))
    with pytest.raises(ValueError, match="splits"):
        dataset_inference(fine, fine, splits=0)
    with pytest.raises(ValueError, match="8 documents"):
        false_positive_rate(fine[:7])
    with pytest.raises(ValueError, match="no p-values"):
        combine_p_values([])


# The scale


def test_the_scale_is_that_of_the_documents_it_was_fitted_on() -> None:
    rng = np.random.default_rng(14)
    fitted = rng.standard_normal((200, 2)) * [3.0, 0.1] + [5.0, -2.0]
    scale = Standardiser.fit(fitted)
    clipped = np.clip(fitted, *np.quantile(fitted, [0.025, 0.975], axis=0))
    assert scale(fitted) == pytest.approx((clipped - clipped.mean(axis=0)) / clipped.std(axis=0))
    hostile = np.array([[np.inf, np.nan], [-np.inf, 1e300]])
    out = scale(hostile)
    assert np.isfinite(out).all()
    assert out[0, 0] == pytest.approx(scale(fitted)[:, 0].max())
    assert out[0, 1] == 0.0
    assert out[1, 0] == pytest.approx(scale(fitted)[:, 0].min())


def test_undefined_values_do_not_move_the_scale() -> None:
    rng = np.random.default_rng(15)
    values = rng.standard_normal((50, 1))
    holes = np.concatenate([values, np.full((7, 1), np.nan)])
    one, other = Standardiser.fit(values), Standardiser.fit(holes)
    assert one.mean == pytest.approx(other.mean)
    assert one.deviation == pytest.approx(other.deviation)
    assert replace(one, deviation=np.zeros(1))(values).tolist() == np.zeros((50, 1)).tolist()
