"""The worlds of mixtures in the calibration benchmark: their truth is as they say, and intervals too short fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, mixture_worlds
from jobs.bench.mixture_worlds import ABSENT, PRESENT, MixtureWorld
from operators.mixtures.em import fit_shares
from operators.mixtures.em_intervals import Ends, interval_ends


@pytest.mark.parametrize("world", [*PRESENT, ABSENT], ids=lambda world: world.name)
def test_a_world_has_the_shares_that_it_says(world: MixtureWorld) -> None:
    observations = world._sample(20_000, 0, 0)
    assert observations.n_documents == 20_000
    assert observations.are_documents != world.by_token
    assert fit_shares(observations).share_K == pytest.approx(world.share, abs=0.02)


def test_samples_are_the_same_every_time_and_others_under_another_seed() -> None:
    first, again, other = (PRESENT[0]._sample(5, 3, seed).logprob_NK for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).any()


def test_intervals_cover_and_shorter_ones_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_worlds, "RESAMPLES", 200)
    monkeypatch.setattr(mixture_worlds, "PRESENT", PRESENT[1:2])
    sound = list(calibration._mixtures(120, 50, 0))
    assert [check.kind for check in sound] == ["mixture"] * 5 + ["covers"]
    assert all(0.9 <= check.value <= 1 for check in sound)
    assert {check.sample for check in sound} == {"50 in all"}

    def shorter(drawn: Any, plain: Any, share: Any, confidence: float) -> Ends:
        ends = interval_ends(drawn, plain, share, confidence)
        return Ends(share - 0.6 * (share - ends.low_K), share + 0.6 * (ends.high_K - share))

    monkeypatch.setattr(mixture_worlds, "interval_ends", shorter)
    checks = [check for check in calibration._mixtures(120, 50, 0) if check.kind == "mixture"]
    assert not any(check.is_met for check in checks)


def test_tokens_taken_for_independent_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(self: MixtureWorld, n: int, draw: int, seed: int) -> Any:
        kept = sample(self, n, draw, seed)
        return type(kept)(kept.logprob_NK, kept.bytes_N, np.arange(len(kept)))

    sample = MixtureWorld._sample
    monkeypatch.setattr(mixture_worlds, "RESAMPLES", 200)
    monkeypatch.setattr(MixtureWorld, "_sample", free)
    assert (PRESENT[3].covered(60, 50, 0).mean(axis=0) < 0.9).all()
