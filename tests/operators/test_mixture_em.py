"""Mixture weights by likelihood: the optimum against a direct convex solve, and intervals against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, stats

from operators.mixtures import em, em_bytes
from operators.mixtures.em import Fit, Observations, fit_shares
from operators.mixtures.em_bytes import byte_ends
from operators.mixtures.em_intervals import Drawn, Ends, document_sums, draw_shares, interval_ends
from operators.mixtures.em_resolution import unresolved

Floats = npt.NDArray[np.float64]

TRUTH = np.array([0.5, 0.3, 0.2])


def world(n: int, share: Floats, *, gain: float, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Log-likelihoods of a true mixture of normals, means `gain` apart in as many directions, and what each is of."""
    rng = np.random.default_rng(seed)
    of_N = rng.choice(len(share), p=share, size=n)
    x_NK = rng.normal(size=(n, len(share))) + gain * np.eye(len(share))[of_N]
    return gain * x_NK - gain**2 / 2 - rng.uniform(500, 5000, (n, 1)), of_N


def mean_log(logprob_NK: Floats, share: Floats) -> float:
    top_N = logprob_NK.max(axis=1)
    return float((np.log(np.exp(logprob_NK - top_N[:, None]) @ share) + top_N).mean())


def direct(logprob_NK: Floats, weights_N: Floats | None = None) -> Floats:
    """The optimum by a solver that knows nothing of mixtures."""
    likelihood = np.exp(logprob_NK - logprob_NK.max(axis=1, keepdims=True))
    size, w_N = logprob_NK.shape[1], np.ones(len(logprob_NK)) if weights_N is None else weights_N
    w_N = w_N / w_N.sum()

    def loss(share: Floats) -> tuple[float, Floats]:
        mixed = likelihood @ share
        return -float(w_N @ np.log(mixed)), -((w_N / mixed) @ likelihood)

    found = optimize.minimize(
        loss, np.full(size, 1 / size), jac=True, method="SLSQP", bounds=[(1e-12, 1)] * size,
        constraints={"type": "eq", "fun": lambda share: share.sum() - 1, "jac": lambda share: np.ones(size)},
        options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip
    return np.asarray(found.x, np.float64)


def fitted(logprob_NK: Floats) -> Fit:
    return fit_shares(Observations.of_documents(logprob_NK))


def drawn_of(observations: Observations, *, resamples: int = 2000, **more: Any) -> tuple[Fit, Drawn, Ends]:
    fit = fit_shares(observations)
    drawn = draw_shares(observations, fit, document_sums(observations, fit), resamples=resamples, seed=1, **more)
    return fit, drawn, interval_ends(drawn.share_RK, drawn.plain_RK, fit.share_K, 0.95)


# The optimum


@pytest.mark.parametrize("gain", [0.3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("share", [[0.5, 0.5], [0.5, 0.3, 0.2], [0.9, 0.1, 0.0, 0.0], [0.3, 0.25, 0.2, 0.15, 0.1]])
def test_the_fit_is_that_of_a_direct_convex_solve(gain: float, share: list[float]) -> None:
    logprob_NK, _ = world(400, np.array(share), gain=gain)
    fit = fitted(logprob_NK)
    reference = direct(logprob_NK)
    assert fit.has_converged
    assert fit.share_K.sum() == pytest.approx(1, abs=1e-12)
    assert fit.share_K == pytest.approx(reference, abs=1e-6)
    assert fit.steps[-1].objective == pytest.approx(mean_log(logprob_NK, fit.share_K), rel=1e-12)
    assert fit.steps[-1].objective >= mean_log(logprob_NK, reference / reference.sum()) - 1e-9


def test_the_fit_is_where_plain_em_ends() -> None:
    logprob_NK, _ = world(200, TRUTH, gain=1.0)
    likelihood = np.exp(logprob_NK - logprob_NK.max(axis=1, keepdims=True))
    share = np.full(3, 1 / 3)
    for _ in range(5000):
        share = share * (likelihood / (likelihood @ share)[:, None]).mean(axis=0)
    assert fitted(logprob_NK).share_K == pytest.approx(share, abs=1e-9)


def test_no_step_is_worse_and_the_gap_bounds_what_is_left() -> None:
    logprob_NK, _ = world(300, np.array([0.7, 0.2, 0.1, 0.0]), gain=0.7)
    steps = fitted(logprob_NK).steps
    objectives = np.array([step.objective for step in steps])
    assert len(steps) > 3
    assert (np.diff(objectives) >= -1e-12 * np.abs(objectives[0])).all()
    assert all(objectives[-1] - step.objective <= step.gap + 1e-9 for step in steps)
    assert steps[0].objective == pytest.approx(mean_log(logprob_NK, np.full(4, 0.25)), rel=1e-12)


def test_documents_that_differ_by_thousands_of_nats_are_counted() -> None:
    of_N = np.repeat([0, 1, 2], [50, 30, 20])
    logprob_NK = np.where(np.eye(3)[of_N] > 0, -4000.0, -9000.0)
    fit = fitted(logprob_NK)
    assert fit.share_K == pytest.approx([0.5, 0.3, 0.2], abs=1e-12)
    observations = Observations.of_documents(logprob_NK)
    assert (document_sums(observations, fit).posteriors(fit.share_K) == np.eye(3)[of_N]).all()


def test_one_document_of_a_component_keeps_it_though_its_likelihood_underflows() -> None:
    logprob_NK = np.tile([-1000.0, -1000.5, -5000.0], (2000, 1))
    logprob_NK[7] = [-9000.0, -9000.0, -1000.0]
    fit = fitted(logprob_NK)
    assert fit.has_converged
    assert fit.share_K == pytest.approx([1999 / 2000, 0, 1 / 2000], abs=1e-12)


def test_a_text_may_be_impossible_for_some_models_but_not_for_all() -> None:
    logprob_NK = np.array([[-np.inf, -10.0], [-10.0, -np.inf], [-10.0, -np.inf]])
    assert fitted(logprob_NK).share_K == pytest.approx([2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no finite log-probability"):
        fitted(np.array([[-np.inf, -np.inf], [-1.0, -2.0]]))
    with pytest.raises(ValueError, match="no finite log-probability"):
        fitted(np.array([[np.nan, -1.0]]))
    with pytest.raises(ValueError, match="no observations"):
        fitted(np.zeros((0, 2)))


def test_a_fit_that_is_stopped_early_says_so() -> None:
    logprob_NK, _ = world(300, TRUTH, gain=0.5)
    fit = fit_shares(Observations.of_documents(logprob_NK), max_steps=2)
    assert not fit.has_converged
    assert len(fit.steps) == 3
    assert fit.steps[-1].gap > em.GAP


@pytest.mark.parametrize("n_documents", [1, 9])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, n_documents: int) -> None:
    logprob_NK, _ = world(90, TRUTH, gain=1.0)
    starts = np.arange(n_documents) * (90 // n_documents)
    observations = Observations(logprob_NK.astype(np.float32), np.ones(90, np.float32), starts)
    whole = fit_shares(observations)
    sums = document_sums(observations, whole)
    monkeypatch.setattr(em, "BLOCK_ROWS", 7)
    assert len([*observations.blocks()]) == n_documents
    in_blocks = fit_shares(observations)
    again = document_sums(observations, whole)
    assert in_blocks.share_K == pytest.approx(whole.share_K, abs=1e-9)
    assert again.score_DK == pytest.approx(sums.score_DK, rel=1e-12)
    assert again.n_D.tolist() == [90 // n_documents] * n_documents


# What the documents cannot tell apart


def test_components_that_are_the_same_share_an_interval_of_all_they_have() -> None:
    logprob_NK, _ = world(400, np.array([0.6, 0.4]), gain=5.0)
    twice = np.hstack([logprob_NK, logprob_NK[:, :1]])
    fit, drawn, ends = drawn_of(Observations.of_documents(twice))
    assert fit.has_converged
    assert unresolved(fit, 400) == [(0, 2)]
    together = fit.share_K[0] + fit.share_K[2]
    assert together == pytest.approx(fitted(logprob_NK).share_K[0], abs=1e-6)
    for k in (0, 2):
        assert ends.low_K[k] < 0.01
        assert ends.high_K[k] > together - 0.02
    assert ends.high_K[1] - ends.low_K[1] < 0.12
    sums = drawn.share_RK[:, [0, 2]].sum(axis=1)
    assert np.quantile(sums, 0.975) - np.quantile(sums, 0.025) < 0.12


def test_components_that_are_nearly_the_same_are_found_and_two_pairs_are_two_groups() -> None:
    rng = np.random.default_rng(0)
    logprob_NK, _ = world(400, np.array([0.6, 0.4]), gain=5.0)
    near = np.hstack([logprob_NK, logprob_NK + rng.normal(0, 1e-3, (400, 2))])
    fit, _, ends = drawn_of(Observations.of_documents(near))
    assert unresolved(fit, 400) == [(0, 2), (1, 3)]
    assert (ends.high_K - ends.low_K > 0.3).all()


def test_components_that_are_told_apart_or_absent_make_no_group() -> None:
    logprob_NK, _ = world(400, TRUTH, gain=3.0)
    assert unresolved(fitted(logprob_NK), 400) == []
    absent = np.hstack([logprob_NK, logprob_NK[:, :1] - 50, logprob_NK[:, :1] - 50])
    assert unresolved(fitted(absent), 400) == []
    assert unresolved(fitted(logprob_NK[:, :1]), 400) == []


# Intervals


def test_of_clear_documents_shares_are_dirichlet() -> None:
    counts = np.array([60, 30, 8, 2])
    logprob_NK = np.where(np.eye(4)[np.repeat(np.arange(4), counts)] > 0, 0.0, -800.0)
    _, drawn, ends = drawn_of(Observations.of_documents(logprob_NK), resamples=20_000)
    law = stats.beta(counts + 0.5, counts.sum() - counts + 1.5)
    assert drawn.share_RK.mean(axis=0) == pytest.approx(law.mean(), abs=0.002)
    assert ends.low_K == pytest.approx(law.ppf(0.025), abs=0.004)
    assert ends.high_K == pytest.approx(law.ppf(0.975), abs=0.004)


def test_a_component_without_documents_has_an_interval_from_zero() -> None:
    logprob_NK = np.array([[0.0, -800.0]] * 40)
    fit, _, ends = drawn_of(Observations.of_documents(logprob_NK), resamples=20_000)
    assert fit.share_K.tolist() == [1, 0]
    assert ends.low_K[1] == 0
    assert ends.high_K[0] == 1
    assert ends.high_K[1] == pytest.approx(stats.beta(0.5, 40.5).ppf(0.975), abs=0.004)
    assert ends.low_K[0] == pytest.approx(1 - ends.high_K[1], abs=1e-9)


@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_the_parabola_gives_the_intervals_of_the_documents_themselves(gain: float) -> None:
    logprob_NK, _ = world(1000, TRUTH, gain=gain)
    observations = Observations.of_documents(logprob_NK)
    _, _, exact = drawn_of(observations)
    _, _, parabola = drawn_of(observations, exact=0)
    width = (exact.high_K - exact.low_K).max()
    assert parabola.low_K == pytest.approx(exact.low_K, abs=0.06 * width)
    assert parabola.high_K == pytest.approx(exact.high_K, abs=0.06 * width)


def refits(logprob_NK: Floats, of_N: npt.NDArray[np.int64], resamples: int) -> list[tuple[Floats, Floats]]:
    """Weights of documents and the shares fitted anew under them; `of_N`: the document of each row."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(resamples):
        weight_D = rng.standard_exponential(of_N.max() + 1)
        found.append((weight_D, direct(logprob_NK, weight_D[of_N])))
    return found


def test_tokens_are_drawn_by_document() -> None:
    """Documents of tokens that share their component: intervals are those of refits, far wider than of free tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 40, 120)
    of_N = np.repeat(np.arange(120), lengths)
    share_D = rng.dirichlet([1.0, 0.6, 0.4], 120)
    kind_N = np.array([rng.choice(3, p=share_D[d]) for d in of_N])
    logprob_NK = 1.5 * (rng.normal(size=(len(of_N), 3)) + 1.5 * np.eye(3)[kind_N])
    starts = np.cumsum(lengths) - lengths
    fit, drawn, _ = drawn_of(Observations(logprob_NK, np.ones(len(of_N)), starts))
    _, free, _ = drawn_of(Observations.of_documents(logprob_NK), exact=0)
    brute = np.array([share for _, share in refits(logprob_NK, of_N, 150)])
    assert fit.share_K == pytest.approx(direct(logprob_NK), abs=1e-6)
    assert drawn.share_RK.std(axis=0) == pytest.approx(brute.std(axis=0), rel=0.2)
    assert (drawn.share_RK.std(axis=0) > 1.5 * free.share_RK.std(axis=0)).all()


def test_shares_of_bytes_are_those_of_refits() -> None:
    logprob_NK, of_N = world(300, TRUTH, gain=1.8)
    bytes_N = np.random.default_rng(2).integers(1, 500, 300) * np.array([1.0, 2.0, 5.0])[of_N]
    observations = Observations.of_documents(logprob_NK, bytes_N)
    fit, drawn, _ = drawn_of(observations)

    def of_bytes(share: Floats, weight_N: Floats) -> Floats:
        joint = np.exp(logprob_NK - logprob_NK.max(axis=1, keepdims=True)) * share
        heavy_N = weight_N * bytes_N / joint.sum(axis=1)
        return np.asarray(heavy_N @ joint / (weight_N @ bytes_N), np.float64)

    sums = document_sums(observations, fit)
    assert sums.shares_of_bytes == pytest.approx(of_bytes(fit.share_K, np.ones(300)), abs=1e-12)
    for k in range(3):  # along the simplex or not: it is a derivative
        step = 1e-6 * np.eye(3)[k]
        joint = [of_bytes(fit.share_K + sign * step, np.ones(300)) for sign in (1, -1)]
        assert sums.turn_KK[:, k] == pytest.approx((joint[0] - joint[1]) / 2e-6, abs=1e-6)
    brute = np.array([of_bytes(share, w) for w, share in refits(logprob_NK, np.arange(300), 150)])
    assert drawn.bytes_RK.std(axis=0) == pytest.approx(brute.std(axis=0), rel=0.2)


def bytes_of(observations: Observations, *, resamples: int = 400) -> tuple[Floats, Ends, Ends]:
    """Shares of bytes, their intervals, and those by percentiles alone."""
    fit = fit_shares(observations)
    sums = document_sums(observations, fit)
    drawn = draw_shares(observations, fit, sums, resamples=resamples, seed=1, exact=0)
    share_K = sums.shares_of_bytes
    plain = interval_ends(drawn.bytes_RK, drawn.plain_RK, share_K, 0.95)
    return share_K, byte_ends(sums, fit, drawn, confidence=0.95, seed=1), plain


def test_shares_of_bytes_cover_where_few_documents_hold_most() -> None:
    """Percentiles alone do not; `assay bench calibration` asks for 93 of 100 or more over a thousand samples."""
    weight = TRUTH * [1.0, 2.0, 4.0]
    truth, covered, alone = weight / weight.sum(), [], []
    for seed in range(200):
        logprob_NK, of_N = world(50, TRUTH, gain=6.0, seed=seed)
        bytes_N = np.random.default_rng(seed).lognormal(0, 1, 50) * np.array([1.0, 2.0, 4.0])[of_N]
        _, ends, plain = bytes_of(Observations.of_documents(logprob_NK, bytes_N))
        covered.append((ends.low_K <= truth) & (ends.high_K >= truth))
        alone.append((plain.low_K <= truth) & (plain.high_K >= truth))
    assert np.mean(alone) < 0.925
    assert 0.935 <= np.mean(covered) <= 0.98


def test_errors_of_shares_of_bytes_are_those_of_refits() -> None:
    """Overlapping components: what a document moves by moving the shares is part of its error."""
    logprob_NK, of_N = world(300, TRUTH, gain=1.2)
    bytes_N = np.random.default_rng(2).integers(1, 500, 300) * np.array([1.0, 2.0, 5.0])[of_N]
    observations = Observations.of_documents(logprob_NK, bytes_N)
    fit = fit_shares(observations)
    sums = document_sums(observations, fit)
    joint = np.exp(logprob_NK - logprob_NK.max(axis=1, keepdims=True))
    found = []
    for weight_N, share_K in refits(logprob_NK, np.arange(300), 150):
        of_bytes = weight_N * bytes_N / (joint @ share_K) @ (joint * share_K) / (weight_N @ bytes_N)
        found.append(np.log(of_bytes / (1 - of_bytes)))
    odds_K, error_K, _ = em_bytes._studentised(sums, fit, 10, 0)
    assert odds_K == pytest.approx(np.log(sums.shares_of_bytes / (1 - sums.shares_of_bytes)), abs=1e-9)
    assert error_K == pytest.approx(np.std(found, axis=0), rel=0.2)


def test_shares_of_bytes_at_the_edges() -> None:
    clear = np.array([[0.0, -800.0]] * 40)
    share_K, ends, plain = bytes_of(Observations.of_documents(clear))
    assert share_K.tolist() == [1, 0]
    assert (ends.low_K == plain.low_K).all()
    assert (ends.high_K == plain.high_K).all()
    assert ends.low_K[1] == 0
    one = bytes_of(Observations.of_documents(np.array([[-1.0, -1.5]])))
    assert (one[1].low_K <= one[0]).all()
    assert (one[1].high_K >= one[0]).all()
    logprob_NK, _ = world(200, TRUTH[:2] / 0.8, gain=5.0)
    share_K, ends, _ = bytes_of(Observations.of_documents(logprob_NK[:, [0, 1, 0]]))
    assert (ends.low_K[[0, 2]] < 0.02).all()
    assert (ends.high_K[[0, 2]] > share_K[[0, 2]].sum() - 0.02).all()
    nothing = bytes_of(Observations.of_documents(logprob_NK, np.zeros(200)))
    assert np.isnan(nothing[1].low_K).all()


def test_intervals_cover_at_their_level() -> None:
    """Within what 120 samples can show; `assay bench calibration` asks for 93 to 97 of 100 over a thousand."""
    covered = []
    for seed in range(120):
        logprob_NK, _ = world(60, TRUTH, gain=2.0, seed=seed)
        _, _, ends = drawn_of(Observations.of_documents(logprob_NK), resamples=300)
        covered.append((ends.low_K <= TRUTH) & (ends.high_K >= TRUTH))
    assert 0.90 <= np.mean(covered) <= 0.985


def test_the_same_seed_gives_the_same_numbers_and_nothing_else_does() -> None:
    logprob_NK, _ = world(50, TRUTH, gain=2.0)
    observations = Observations.of_documents(logprob_NK)
    fit = fit_shares(observations)
    sums = document_sums(observations, fit)
    first, again, other = (draw_shares(observations, fit, sums, resamples=30, seed=seed) for seed in (1, 1, 2))
    assert (first.share_RK == again.share_RK).all()
    assert not (first.share_RK == other.share_RK).any()
    with pytest.raises(ValueError, match="resamples: 0"):
        draw_shares(observations, fit, sums, resamples=0, seed=0)
