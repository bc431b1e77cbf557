"""The worlds of mixtures in the calibration benchmark: their truth is as they say, and intervals too short fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, mixture_worlds
from jobs.bench.mixture_worlds import ABSENT, BYTES, PRESENT, MixtureWorld
from operators.mixtures.em import fit_shares
from operators.mixtures.em_intervals import Ends, document_sums, interval_ends


@pytest.mark.parametrize("world", [*PRESENT, ABSENT, BYTES], ids=lambda world: world.name)
def test_a_world_has_the_shares_that_it_says(world: MixtureWorld) -> None:
    observations = world._sample(20_000, 0, 0)
    assert observations.n_documents == 20_000
    assert observations.are_documents != world.by_token
    fit = fit_shares(observations)
    assert fit.share_K == pytest.approx(world.share, abs=0.02)
    if world.spread:
        assert document_sums(observations, fit).shares_of_bytes == pytest.approx(world.share, abs=0.03)
        assert np.log(observations.bytes_N).std() == pytest.approx(world.spread, abs=0.02)


def test_samples_are_the_same_every_time_and_others_under_another_seed() -> None:
    first, again, other = (PRESENT[0]._sample(5, 3, seed).logprob_NK for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).any()


def test_intervals_cover_and_shorter_ones_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_worlds, "RESAMPLES", 200)
    monkeypatch.setattr(mixture_worlds, "PRESENT", PRESENT[1:2])
    sound = list(calibration._mixtures(100, 50, 0))
    assert [check.kind for check in sound] == ["mixture"] * 5 + ["covers"]
    assert all(0.9 <= check.value <= 1 for check in sound)
    assert {check.sample for check in sound} == {"50 in all"}

    def shorter(drawn: Any, plain: Any, share: Any, confidence: float) -> Ends:
        ends = interval_ends(drawn, plain, share, confidence)
        return Ends(share - 0.6 * (share - ends.low_K), share + 0.6 * (ends.high_K - share))

    monkeypatch.setattr(mixture_worlds, "interval_ends", shorter)
    checks = [check for check in calibration._mixtures(100, 50, 0) if check.kind == "mixture"]
    assert not any(check.is_met for check in checks)


def test_shares_of_bytes_by_percentiles_alone_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(sums: Any, fit: Any, drawn: Any, *, confidence: float, seed: int) -> Ends:
        return interval_ends(drawn.bytes_RK, drawn.plain_RK, sums.shares_of_bytes, confidence)

    monkeypatch.setattr(mixture_worlds, "RESAMPLES", 200)
    sound = BYTES.covered(80, 50, 0).mean()
    monkeypatch.setattr(mixture_worlds, "byte_ends", alone)
    assert BYTES.covered(80, 50, 0).mean() < sound - 0.015
    assert sound > 0.92


def test_tokens_taken_for_independent_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(self: MixtureWorld, n: int, draw: int, seed: int) -> Any:
        kept = sample(self, n, draw, seed)
        return type(kept)(kept.logprob_NK, kept.bytes_N, np.arange(len(kept)))

    sample = MixtureWorld._sample
    monkeypatch.setattr(mixture_worlds, "RESAMPLES", 100)
    monkeypatch.setattr(MixtureWorld, "_sample", free)
    assert (PRESENT[3].covered(20, 50, 0).mean(axis=0) < 0.9).all()
