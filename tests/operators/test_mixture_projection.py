"""Projections: the optimum of the programs they solve, ties without an order, caps that cannot hold a whole refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from operators.mixtures.projection import project


@pytest.mark.parametrize("seed", range(6))
def test_linear_is_the_optimum_of_the_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimates, caps = rng.normal(size=9), rng.uniform(0.02, 0.5, 9)
    caps /= min(1, caps.sum())
    shares = project(estimates, caps, "linear")
    solved = optimize.linprog(
        -estimates, A_eq=np.ones((1, 9)), b_eq=[1], bounds=list(zip(np.zeros(9), caps, strict=True))
    )
    assert shares == pytest.approx(solved.x, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_l2_is_the_optimum_of_the_quadratic_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimates, caps = rng.normal(0, 0.3, 8), rng.uniform(0.1, 0.6, 8)
    shares = project(estimates, caps, "l2")
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    solved = optimize.minimize(
        lambda p: ((p - estimates) ** 2).sum(), np.full(8, 1 / 8), jac=lambda p: 2 * (p - estimates), method="SLSQP",
        bounds=list(zip(np.zeros(8), caps, strict=True)), options={"ftol": 1e-14, "maxiter": 1000},
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": np.ones_like},
    )  # fmt: skip
    assert shares == pytest.approx(solved.x, abs=1e-6)


def test_by_hand() -> None:
    estimates, caps = np.array([0.1, 0.9, 0.5]), np.array([0.7, 0.3, 0.5])
    assert project(estimates, caps, "linear") == pytest.approx([0.2, 0.3, 0.5])
    assert project(estimates, np.ones(3), "linear") == pytest.approx([0, 1, 0])
    assert project(np.array([0.2, 0.6, -3.0]), np.ones(3), "l2") == pytest.approx([0.3, 0.7, 0])
    assert project(np.array([5.0, 5.0]), np.ones(2), "l2") == pytest.approx([0.5, 0.5])


def test_tied_domains_are_filled_together() -> None:
    estimates, caps = np.array([0.5, 0.9, 0.5, 0.1]), np.array([0.6, 0.4, 0.3, 1.0])
    assert project(estimates, caps, "linear") == pytest.approx([0.4, 0.4, 0.2, 0])
    order = [2, 0, 3, 1]
    assert project(estimates[order], caps[order], "linear") == pytest.approx([0.2, 0.4, 0, 0.4])


def test_rows_are_projected_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    rows, caps = rng.normal(size=(5, 4)), np.full(4, 0.4)
    for projection in ("linear", "l2"):
        together = project(rows, caps, projection)  # type: ignore[arg-type]
        alone = [project(row, caps, projection) for row in rows]  # type: ignore[arg-type]
        assert together == pytest.approx(np.array(alone))


def test_caps_that_sum_to_1_but_for_rounding_will_do() -> None:
    caps = np.full(10, 0.1)
    for projection in ("linear", "l2"):
        assert project(np.arange(10.0), caps, projection) == pytest.approx(caps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimates", "caps", "message"),
    [
        ([0.1, 0.2], [0.5, 0.4], r"caps sum to 0\.9"),
        ([0.1, 0.2], [1.0, 0.0], "above 0"),
        ([0.1, 0.2], [1.0, np.nan], "above 0"),
        ([0.1, np.nan], [1.0, 1.0], "finite"),
    ],
)
def test_what_has_no_projection_is_refused(estimates: list[float], caps: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project(np.array(estimates), np.array(caps), "linear")
