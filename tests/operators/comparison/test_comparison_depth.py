"""Depth equals brute force over all pairs; sizes decide nothing; which of its two tests can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from jobs.bench import comparison_worlds
from operators.comparison.depth import deeper, depths, directions, rank_sum
from operators.comparison.resampling import Tail, null, permuted, split


def made(n_f: int, n_g: int, seed: int = 0, *, shift: float = 0.6) -> Any:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_f + n_g, 5))
    vectors[:, 0] += 1
    vectors[n_f:, 1] += shift
    return vectors


def brute(f: Any, g: Any) -> tuple[Any, Any]:
    """Depths of F and G by every distance, a document of F left out of its own."""
    within, across = cdist(f, f, "cosine"), cdist(g, f, "cosine")
    of_f = [2 - np.delete(row, i).mean() for i, row in enumerate(within)]
    return np.array(of_f), 2 - across.mean(axis=1)


def brute_q(of_f: Any, of_g: Any) -> float:
    pooled = np.concatenate([of_f, of_g])
    return float(np.mean([(pooled < depth).mean() for depth in of_g]))


def as_published(f: Any, g: Any) -> Any:
    """Depths of G as the authors' code takes them: the axis to mean over is chosen by the matrix being square, so that
    a document's distances to the reference are confused with the reference's to it where sizes are equal."""
    distances = cdist(f, g, "cosine")  # [F, G]
    axis = 1 if distances.shape[0] == distances.shape[1] else 0
    return 2 - distances.mean(axis=axis)


@pytest.mark.parametrize(("n_f", "n_g"), [(9, 14), (11, 11), (14, 9), (2, 1)])
def test_depths_and_q_equal_brute_force(n_f: int, n_g: int) -> None:
    vectors = made(n_f, n_g)
    unit = directions(vectors)
    of_f, of_g = brute(vectors[:n_f], vectors[n_f:])
    masks = split(n_f, n_g)
    assert depths(unit, masks[0])[:, 0] == pytest.approx(np.concatenate([of_f, of_g]), abs=1e-12)
    assert deeper(unit, reference_is_a=True)(*masks)[0, 0] == pytest.approx(brute_q(of_f, of_g))


def test_the_other_corpus_as_reference_and_many_splits_at_once() -> None:
    vectors = made(8, 12)
    unit = directions(vectors)
    of_g, of_f = brute(vectors[8:], vectors[:8])
    assert deeper(unit, reference_is_a=False)(*split(8, 12))[0, 0] == pytest.approx(brute_q(of_g, of_f))
    side = np.random.default_rng(0).integers(0, 3, (20, 7))
    for column in range(7):
        f, g = (vectors[side[:, column] == each] for each in (0, 1))
        found = deeper(unit, reference_is_a=True)(side == 0, side == 1)[0, column]
        assert found == pytest.approx(brute_q(*brute(f, g)))


def test_equal_sizes_are_treated_as_unequal_ones() -> None:
    """One document more in G changes its depths by nothing; in the authors' code it changes them all."""
    vectors = made(20, 21, shift=1.5)
    f, g = vectors[:20], vectors[20:]
    of_g = depths(directions(vectors), split(20, 21)[0])[20:40, 0]
    fewer = depths(directions(vectors[:40]), split(20, 20)[0])[20:, 0]
    assert fewer == pytest.approx(of_g, abs=1e-12)
    assert as_published(f, g)[:20] == pytest.approx(of_g, abs=1e-12)
    assert np.abs(as_published(f, g[:20]) - of_g).max() > 0.05


def test_the_rank_sum_test_is_that_of_scipy_and_its_sign_says_which_lies_deeper() -> None:
    vectors = made(30, 25)
    vectors[30:, 0] -= 2
    of_f, of_g = brute(vectors[:30], vectors[30:])
    found = rank_sum(of_f, of_g)
    assert found.p_value == pytest.approx(stats.ranksums(of_f, of_g).pvalue)
    assert found.z < -3


def test_a_vector_of_length_0_has_no_direction() -> None:
    unit = directions(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert unit[0] == pytest.approx([0.6, 0.8])
    assert np.isnan(unit[1]).all()


def test_copies_are_equally_deep_however_many_splits_are_computed_at_once() -> None:
    """A product of matrices rounds a row otherwise where it is cut otherwise: a rank of what is left says nothing."""
    rng = np.random.default_rng(0)
    unit = directions(np.tile(rng.standard_normal(768), (1001, 1))).astype(np.float32).astype(np.float64)
    test = deeper(unit, reference_is_a=True)
    drawn = permuted(test, 500, 501, permutations=64, rng=rng)
    assert np.unique(drawn) == [0]
    assert null(float(test(*split(500, 501))[0, 0]), drawn[0], Tail.both).p_value == 1


def test_a_reference_of_one_document_has_no_depth_of_its_own() -> None:
    assert np.isnan(deeper(directions(made(1, 5)), reference_is_a=True)(*split(1, 5))).all()


def test_relabelling_holds_its_level_where_the_rank_sum_test_does_not() -> None:
    """States around the origin: depths lean on the chance of their reference, and the rank-sum test sees differences
    where there are none."""
    found = comparison_worlds.depth_p_values(600, 50, comparison_worlds.EQUAL, 0, centred=True)
    below = {name: np.mean(np.array(p_values) <= 0.05) for name, p_values in found.items()}
    assert 0.03 < below["permutation"] < 0.07
    assert below["rank_sum"] > 0.08
